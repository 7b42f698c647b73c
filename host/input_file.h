// A file that is read at any offset, never changed.
#ifndef THIMBLE_HOST_INPUT_FILE_H_
#define THIMBLE_HOST_INPUT_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "host/expected.h"

namespace thimble::host {

class InputFile {
 public:
  // Opens a regular file; anything else (a folder, a pipe) is refused.
  static Expected<InputFile> Open(const std::string& path);

  InputFile(InputFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_bytes_(other.size_bytes_) {}
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();

  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }

  // Fills all of `out` from `offset`. Fails when the file ends before, or the disk does not give it.
  Status ReadAt(uint64_t offset, std::span<std::byte> out) const;

 private:
  InputFile(std::string path, int fd, uint64_t size_bytes) : path_(std::move(path)), fd_(fd), size_bytes_(size_bytes) {}

  std::string path_;
  int fd_;
  uint64_t size_bytes_;
};

// The whole file. One of more than `max_bytes` is refused.
Expected<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes);

// Whether something (file, folder, ...) of this name exists.
bool Exists(const std::string& path);
bool IsFolder(const std::string& path);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_INPUT_FILE_H_
