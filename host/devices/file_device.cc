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
  auto device = OpenAll({&path, 1}, buffer_align);
  if (device && (*device)->file_size_bytes() == 0) return CannotOpen(path, "it is empty");
  return device;
}

std::expected<std::unique_ptr<FileDevice>, std::string> FileDevice::OpenAll(std::span<const std::string> paths,
                                                                            uint32_t buffer_align) {
  std::unique_ptr<FileDevice> device(new FileDevice(buffer_align));
  for (const std::string& path : paths) {
    if (auto added = device->Add(path); !added) return std::unexpected(added.error());
  }
  return device;
}

FileDevice::FileDevice(uint32_t buffer_align)
    : geometry_{.block_bytes = kBlockBytes, .buffer_align = buffer_align, .size_bytes = 0} {}

FileDevice::~FileDevice() {
  for (const File& file : files_) close(file.descriptor);
}

std::expected<void, std::string> FileDevice::Add(const std::string& path) {
  // Not blocking, so that a pipe nobody writes to is refused instead of waited for.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return CannotOpen(path, std::strerror(errno));
  files_.push_back({.descriptor = descriptor, .size_bytes = 0, .begin_bytes = geometry_.size_bytes});
  struct stat status = {};
  if (fstat(descriptor, &status) != 0) return CannotOpen(path, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) return CannotOpen(path, "it is a folder");
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return CannotOpen(path, "it is neither a file nor a block device");
  }
  const off_t size = lseek(descriptor, 0, SEEK_END);
  if (size < 0) return CannotOpen(path, std::strerror(errno));
  files_.back().size_bytes = static_cast<uint64_t>(size);
  geometry_.size_bytes += (static_cast<uint64_t>(size) + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  return {};
}

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
  const File& file = *(after - 1);
  const uint64_t end_bytes = after == files_.end() ? geometry_.size_bytes : after->begin_bytes;
  const uint64_t in_file = offset_bytes - file.begin_bytes;
  if (in_file >= file.size_bytes) {
    const size_t zeros = static_cast<size_t>(std::min<uint64_t>(dst.size(), end_bytes - offset_bytes));
    std::fill_n(dst.begin(), zeros, std::byte{0});
    return zeros;
  }
  const auto wanted = static_cast<size_t>(std::min<uint64_t>(dst.size(), file.size_bytes - in_file));
  ssize_t n = -1;
  do {
    n = pread(file.descriptor, dst.data(), wanted, static_cast<off_t>(in_file));
  } while (n < 0 && errno == EINTR);
  if (n > 0) return static_cast<size_t>(n);
  outcome_ =
      Fail(Error{.code = Code::kIo, .what = "reading at byte {offset} failed: {name}", .offset = offset_bytes}.Named(
          n < 0 ? std::strerror(errno) : "the file has become shorter"));
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
