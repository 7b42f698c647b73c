// Files and folders that appear whole or not at all.
#ifndef THIMBLE_HOST_SUPPORT_ATOMIC_FILE_H_
#define THIMBLE_HOST_SUPPORT_ATOMIC_FILE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/support/errors.h"

namespace thimble::host {

// Bytes written one after the other to an open file, from its start on.
class FileSink {
 public:
  // `name` stands in error sentences. Does not own `fd`.
  FileSink(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}

  Status Write(std::span<const std::byte> bytes);
  // So many zeros, as a hole: they take no room on disks that know holes.
  Status WriteHole(uint64_t bytes);
  uint64_t written_bytes() const { return written_bytes_; }

 private:
  int fd_;
  std::string name_;
  uint64_t written_bytes_ = 0;
};

// Writes beside `path` and renames at Commit(). Until then nothing stands under `path`, or what stood there before;
// a destructor without Commit() and all signals that can be handled remove what was written, and what a killed process
// left is removed when the same path is written again. A symbolic link is written through, a file that is replaced
// keeps its mode. Eight at a time; not thread-safe.
class AtomicFile {
 public:
  // Refuses a `path` that names a folder or a device or lies in /dev or /proc, and one that is the same file as one of
  // `inputs`, which are yet to be opened, or one that the latest InputFiles knows, or may be because one of them cannot
  // be looked at.
  static Expected<AtomicFile> Create(const std::string& path, std::span<const std::string> inputs);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  FileSink& sink() { return sink_; }

  // A path by which this process can open what is being written, as long as this object lives.
  std::string path_while_open() const;

  // Changes bytes of it, or adds some.
  Status WriteAt(uint64_t offset, std::span<const std::byte> bytes);

  // Cuts the file, or fills it up with zeros.
  Status SetSize(uint64_t bytes);

  // Flushes to the disk and out of this computer's memory, so that what is read next comes from the disk.
  Status Flush();

  // Flushes to the disk and gives the file its name, replacing one that stands there; unless that was opened since
  // Create(), as the latest InputFiles knows. Once it returns, the file is
  // there after a loss of power, too.
  Status Commit();

  // Commit() for files that belong together, in this order, after the file `remove_first` is gone, unless that is
  // empty. Nothing changes before all of them are flushed. Then each step is on the disk before the next one begins,
  // and signals that can be handled wait: who is killed, loses power or fails leaves the first so many steps done, and
  // a failure's sentence says which. The order must make each of these states one that is of use.
  static Status CommitTogether(std::span<AtomicFile> files, const std::string& remove_first);

 private:
  AtomicFile(std::string path, std::string temporary_path, int fd);

  std::string path_;
  std::string temporary_path_;
  int fd_;
  FileSink sink_;
};

// Removes what an AtomicFile or AtomicFolder has written and not committed, for a process that ends without their
// destructors. Async-signal-safe; needs no memory.
void RemoveUncommitted();

// All of a file with AtomicFile: `text` appears under `path` whole or not at all.
Status WriteWhole(const std::string& path, std::span<const std::string> inputs, std::string_view text);

// Writes a folder of files beside `path` and gives it its name at Commit(), as AtomicFile does for a file and with the
// same care for signals. One at a time, and none beside an AtomicFile.
class AtomicFolder {
 public:
  // Refuses a `path` that names anything but a folder, one of whose entries is not `ours(name)`, and one that is or
  // holds one of `inputs`, or a file that the latest InputFiles knows.
  static Expected<AtomicFolder> Create(const std::string& path, std::span<const std::string> inputs,
                                       bool (*ours)(std::string_view name));

  AtomicFolder(AtomicFolder&& other) noexcept;
  AtomicFolder& operator=(AtomicFolder&&) = delete;
  ~AtomicFolder();

  // Flushes the file before and starts one of this name, which is given once. The sink is good until the next call.
  Expected<FileSink*> Begin(const std::string& name);

  // Flushes all to the disk and gives the folder its name. The folder that stood there is removed; unless a file in it
  // was opened since Create(), as the latest InputFiles knows.
  Status Commit();

 private:
  AtomicFolder(std::string path, std::string temporary_path, int fd, bool (*ours)(std::string_view name));
  Status EndFile();

  std::string path_;
  std::string temporary_path_;
  bool (*ours_)(std::string_view name);
  int fd_;            // of the folder, or whatever stands for it; below 0: there is none any more
  int file_fd_ = -1;  // of the file being written
  std::optional<FileSink> sink_;
};

// A temporary file without a name that others could open, gone when its descriptor is closed, however the process ends.
class TemporaryFile {
 public:
  // In $TMPDIR, or /tmp when that is not set; on Windows where that has such files.
  static Expected<TemporaryFile> Create();

  TemporaryFile(TemporaryFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)), sink_(other.sink_) {}
  TemporaryFile& operator=(TemporaryFile&&) = delete;
  ~TemporaryFile();

  FileSink& sink() { return sink_; }

  // A path that this process can open as long as this object lives.
  std::string path() const;

  // For file_calls.h, as long as this object lives.
  int fd() const { return fd_; }

 private:
  explicit TemporaryFile(int fd);

  int fd_;
  FileSink sink_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_ATOMIC_FILE_H_
