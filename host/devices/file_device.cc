#include "host/devices/file_device.h"

#include <algorithm>
#include <utility>

#include "host/support/input_file.h"

namespace thimble::host {
namespace {

constexpr uint32_t kBlockBytes = 512;

}  // namespace

Expected<std::unique_ptr<FileDevice>> FileDevice::Open(const std::string& path, uint32_t buffer_align) {
  auto device = OpenAll({&path, 1}, buffer_align);
  if (device && (*device)->file_size_bytes() == 0) return Sentence("cannot open " + path + ": it is empty");
  return device;
}

Expected<std::unique_ptr<FileDevice>> FileDevice::OpenAll(std::span<const std::string> paths, uint32_t buffer_align) {
  std::unique_ptr<FileDevice> device(new FileDevice(buffer_align));
  uint64_t& end_bytes = device->geometry_.size_bytes;
  for (const std::string& path : paths) {
    THIMBLE_ASSIGN(InputFile file, InputFile::Open(path, InputFile::Accept::kFileOrDevice));
    const uint64_t begin_bytes = end_bytes;
    end_bytes += (file.size_bytes() + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    device->files_.push_back({.file = std::move(file), .begin_bytes = begin_bytes});
  }
  return device;
}

FileDevice::FileDevice(uint32_t buffer_align)
    : geometry_{.block_bytes = kBlockBytes, .buffer_align = buffer_align, .size_bytes = 0} {}

Result<void> FileDevice::StartRead(uint64_t offset_bytes, std::span<std::byte> dst) {
  if (in_flight_) return Fail({.code = Code::kInvalidArgument, .what = "a read is in flight already"});
  THIMBLE_TRY(storage::CheckRead(geometry_, offset_bytes, dst));
  in_flight_ = true;
  outcome_ = {};
  while (!dst.empty()) {
    const size_t n = ReadPiece(offset_bytes, dst);
    if (n == 0) return {};
    dst = dst.subspan(n);
    offset_bytes += n;
  }
  return {};
}

size_t FileDevice::ReadPiece(uint64_t offset_bytes, std::span<std::byte> dst) {
  const auto after = std::ranges::upper_bound(files_, offset_bytes, {}, &File::begin_bytes);
  const InputFile& file = (after - 1)->file;
  const uint64_t end_bytes = after == files_.end() ? geometry_.size_bytes : after->begin_bytes;
  const uint64_t in_file = offset_bytes - (after - 1)->begin_bytes;
  if (in_file >= file.size_bytes()) {
    const size_t zeros = static_cast<size_t>(std::min<uint64_t>(dst.size(), end_bytes - offset_bytes));
    std::fill_n(dst.begin(), zeros, std::byte{0});
    return zeros;
  }
  const auto wanted = static_cast<size_t>(std::min<uint64_t>(dst.size(), file.size_bytes() - in_file));
  const auto n = file.ReadSome(in_file, dst.first(wanted));
  if (n && *n > 0) return *n;
  outcome_ =
      Fail(Error{.code = Code::kIo, .what = "reading at byte {offset} failed: {name}", .offset = offset_bytes}.Named(
          n ? "the file has become shorter" : n.error()));
  return 0;
}

Result<void> FileDevice::WaitRead() {
  if (!in_flight_) return Fail({.code = Code::kInvalidArgument, .what = "no read is in flight"});
  in_flight_ = false;
  return outcome_;
}

Result<void> FileDevice::Reinitialise() {
  in_flight_ = false;
  return {};
}

}  // namespace thimble::host
