#include "host/devices/file_device.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace thimble::host {
namespace {

constexpr uint32_t kBlockBytes = 512;

std::unexpected<std::string> CannotOpen(const std::string& path, const std::string& why) {
  return std::unexpected("cannot open \"" + path + "\": " + why);
}

}  // namespace

std::expected<std::unique_ptr<FileDevice>, std::string> FileDevice::Open(const std::string& path,
                                                                         uint32_t buffer_align) {
  // Not blocking, so that a pipe nobody writes to is refused instead of waited for.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return CannotOpen(path, std::strerror(errno));
  struct stat status = {};
  off_t size = -1;
  std::string why;
  if (fstat(descriptor, &status) != 0) {
    why = std::strerror(errno);
  } else if (S_ISDIR(status.st_mode)) {
    why = "it is a folder";
  } else if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    why = "it is neither a file nor a block device";
  } else if (size = lseek(descriptor, 0, SEEK_END); size < 0) {
    why = std::strerror(errno);
  } else if (size == 0) {
    why = "it is empty";
  }
  if (!why.empty()) {
    close(descriptor);
    return CannotOpen(path, why);
  }
  return std::unique_ptr<FileDevice>(new FileDevice(descriptor, static_cast<uint64_t>(size), buffer_align));
}

FileDevice::FileDevice(int descriptor, uint64_t file_size_bytes, uint32_t buffer_align)
    : descriptor_(descriptor),
      file_size_bytes_(file_size_bytes),
      geometry_{.block_bytes = kBlockBytes,
                .buffer_align = buffer_align,
                .size_bytes = (file_size_bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes} {}

FileDevice::~FileDevice() { close(descriptor_); }

Result<void> FileDevice::StartRead(uint64_t offset_bytes, std::span<std::byte> dst) {
  if (in_flight_) return Fail({.code = Code::kInvalidArgument, .what = "a read is in flight already"});
  THIMBLE_TRY(card::CheckRead(geometry_, offset_bytes, dst));
  in_flight_ = true;
  outcome_ = {};
  while (!dst.empty() && offset_bytes < file_size_bytes_) {
    const uint64_t wanted = std::min<uint64_t>(dst.size(), file_size_bytes_ - offset_bytes);
    const ssize_t n = pread(descriptor_, dst.data(), static_cast<size_t>(wanted), static_cast<off_t>(offset_bytes));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      outcome_ = Fail(
          Error{.code = Code::kIo, .what = "reading at byte {offset} failed: {name}", .offset = offset_bytes}.Named(
              n < 0 ? std::strerror(errno) : "the file has become shorter"));
      return {};
    }
    dst = dst.subspan(static_cast<size_t>(n));
    offset_bytes += static_cast<uint64_t>(n);
  }
  std::fill(dst.begin(), dst.end(), std::byte{0});
  return {};
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
