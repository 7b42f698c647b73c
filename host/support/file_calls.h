// The system's calls for open files, each file a descriptor of the C library. What is built on them is the same on
// every system.
#ifndef THIMBLE_HOST_SUPPORT_FILE_CALLS_H_
#define THIMBLE_HOST_SUPPORT_FILE_CALLS_H_

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>

namespace thimble::host {

// Why a call failed, in the system's words. Good until the thread's next call that fails.
template <class T>
using CallResult = std::expected<T, const char*>;

// Which file it is, by whatever name it was opened.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t number = 0;  // on the device
  bool operator==(const FileIdentity&) const = default;
};

enum class FileKind { kFile, kFolder, kBlockDevice, kOther };

struct FileStatus {
  FileKind kind = FileKind::kOther;
  FileIdentity identity;
  bool has_name = true;     // in a folder
  uint64_t size_bytes = 0;  // of a file
};

// Opens what is there for reading, a folder too, without waiting for anybody at the other end of a pipe.
CallResult<int> OpenForReading(const std::string& path);

// Opens what is read once, one byte after the other; "-" is standard input. A pipe is waited for.
CallResult<int> OpenStream(const std::string& path);

// Closes it, unless it is standard input. False if what was written may be lost.
bool CloseFile(int fd);

CallResult<FileStatus> StatusOf(int fd, const std::string& path);

// Nothing where nothing is.
CallResult<std::optional<FileStatus>> StatusAt(const std::string& path);

// The size of a block device.
CallResult<uint64_t> DeviceBytes(int fd);

// One read: how many bytes of `out` it filled, 0 at the end.
CallResult<size_t> ReadFrom(int fd, uint64_t offset, std::span<std::byte> out);
CallResult<size_t> ReadNext(int fd, std::span<std::byte> out);

// One write: how many of the bytes it took.
CallResult<size_t> WriteTo(int fd, uint64_t offset, std::span<const std::byte> bytes);

// Cuts the file, or fills it up with zeros.
CallResult<void> SetFileSize(int fd, uint64_t bytes);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_FILE_CALLS_H_
