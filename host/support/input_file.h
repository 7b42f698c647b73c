// Files that are read, never changed.
#ifndef THIMBLE_HOST_SUPPORT_INPUT_FILE_H_
#define THIMBLE_HOST_SUPPORT_INPUT_FILE_H_

#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "host/support/errors.h"

namespace thimble::host {

// A file that is read at any offset. Every file of a run is opened here, whatever reads it.
class InputFile {
 public:
  // A regular file, or also a block device, as a card in a reader; a folder or a pipe is refused. One that is to be
  // replaced by what the run itself makes of it is not remembered by InputFiles. Fails with one sentence that names the
  // path.
  enum class Accept { kFile, kFileOrDevice, kFileToReplace };
  static Expected<InputFile> Open(const std::string& path, Accept accept = Accept::kFile);

  InputFile(InputFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_bytes_(other.size_bytes_) {}
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();

  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }

  // Fills all of `out` from `offset`. Fails when the file ends before, or the disk does not give it.
  Status ReadAt(uint64_t offset, std::span<std::byte> out) const;

  // Fills the start of `out`, which is not empty, as far as one read goes: returns how far, 0 at the end of the file,
  // or why not in the system's words.
  std::expected<size_t, const char*> ReadSome(uint64_t offset, std::span<std::byte> out) const;

 private:
  InputFile(std::string path, int fd, uint64_t size_bytes) : path_(std::move(path)), fd_(fd), size_bytes_(size_bytes) {}

  std::string path_;
  int fd_;
  uint64_t size_bytes_;
};

// Remembers which files InputFile::Open() opened while it lives, so that no output replaces one of them. A command
// makes one for all it does; with several, the latest is told. Not thread-safe: one thread opens files.
class InputFiles {
 public:
  InputFiles();
  ~InputFiles();
  InputFiles(const InputFiles&) = delete;
  InputFiles& operator=(const InputFiles&) = delete;

  // In the order in which they were first opened, those without a name of their own left out.
  std::vector<std::string> paths() const;

  // Whether the file at `path`, by whatever name, is one of those that the latest one knows; false without any, or if
  // nothing is there. Fails if what is there cannot be looked at.
  static Expected<bool> Hold(const std::string& path);

 private:
  friend class InputFile;
  static void Remember(const std::string& path, uint64_t device, uint64_t number);
  friend Expected<std::string> ReadGiven(const std::string& path, uint64_t max_bytes);
  struct File {
    std::string path;
    uint64_t device = 0;
    uint64_t number = 0;  // on the device
  };

  InputFiles* before_;
  std::vector<File> files_;
  std::map<std::string, std::string> streams_;  // by the path of ReadGiven(): what can be read only once
};

// The whole file. One of more than `max_bytes` is refused.
Expected<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes);

// The whole of what a user names as a text: a prompt, a plan, a board, a log. A file, or what has no end until it is
// read: a pipe, such as the shell's <(...), a named pipe, which is waited for, or standard input, which kStandardInput
// stands for. One of more than `max_bytes` is refused, after no more than so many were read. A pipe that is read again
// in the time of one InputFiles gives the same once more.
inline const std::string kStandardInput = "-";
Expected<std::string> ReadGiven(const std::string& path, uint64_t max_bytes);

// What sentences call it.
std::string NameOfGiven(const std::string& path);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_INPUT_FILE_H_
