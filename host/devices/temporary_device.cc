#include "host/devices/temporary_device.h"

#include <fmt/format.h>

#include <utility>

#include "engine/base/board.h"
#include "host/support/file_calls.h"

namespace thimble::host {
namespace {

std::unexpected<Error> Broken(const char* what, uint64_t offset_bytes, const char* why) {
  return Fail(Error{.code = Code::kIo, .what = what, .offset = offset_bytes}.Named(why));
}

}  // namespace

Expected<std::unique_ptr<TemporaryDevice>> TemporaryDevice::Create(uint64_t bytes, uint32_t buffer_align) {
  THIMBLE_ASSIGN(TemporaryFile file, TemporaryFile::Create());
  if (const auto sized = SetFileSize(file.fd(), bytes); !sized) {
    return Sentence(fmt::format("cannot make a temporary file of {} bytes: {}", bytes, sized.error()));
  }
  return std::unique_ptr<TemporaryDevice>(new TemporaryDevice(
      std::move(file), {.block_bytes = kSectorBytes, .buffer_align = buffer_align, .size_bytes = bytes}));
}

Result<void> TemporaryDevice::StartRead(uint64_t offset_bytes, std::span<std::byte> dst) {
  if (in_flight_) return Fail({.code = Code::kInvalidArgument, .what = "a read is in flight already"});
  THIMBLE_TRY(storage::CheckRead(geometry_, offset_bytes, dst));
  in_flight_ = true;
  outcome_ = {};
  while (!dst.empty()) {
    const auto n = ReadFrom(file_.fd(), offset_bytes, dst);
    if (!n || *n == 0) {
      outcome_ = Broken("reading the temporary file at byte {offset} failed: {name}", offset_bytes,
                        n ? "it has become shorter" : n.error());
      return {};
    }
    dst = dst.subspan(*n);
    offset_bytes += *n;
  }
  return {};
}

Result<void> TemporaryDevice::WaitRead() {
  if (!in_flight_) return Fail({.code = Code::kInvalidArgument, .what = "no read is in flight"});
  in_flight_ = false;
  return outcome_;
}

Result<void> TemporaryDevice::Reinitialise() {
  in_flight_ = false;
  return {};
}

Result<void> TemporaryDevice::Write(uint64_t offset_bytes, std::span<const std::byte> src) {
  if (in_flight_) return Fail({.code = Code::kInvalidArgument, .what = "a read is in flight"});
  THIMBLE_TRY(storage::CheckRead(geometry_, offset_bytes, src));
  while (!src.empty()) {
    const auto n = WriteTo(file_.fd(), offset_bytes, src);
    if (!n || *n == 0) {
      return Broken("writing the temporary file at byte {offset} failed: {name}", offset_bytes,
                    n ? "nothing was written" : n.error());
    }
    src = src.subspan(*n);
    offset_bytes += *n;
  }
  return {};
}

}  // namespace thimble::host
