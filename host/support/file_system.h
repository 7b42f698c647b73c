// The file system that a folder lies on.
#ifndef THIMBLE_HOST_SUPPORT_FILE_SYSTEM_H_
#define THIMBLE_HOST_SUPPORT_FILE_SYSTEM_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "host/support/errors.h"

namespace thimble::host {

// What matters of the file system that a folder lies on.
struct FileSystem {
  enum class Kind { kFat, kExFat, kNtfs, kOther };
  Kind kind = Kind::kOther;
  uint64_t free_bytes = 0;
  uint64_t block_bytes = 1;  // what a file's room is a multiple of
  uint64_t blocks = 0;       // in all
  bool is_top = true;        // the folder is the file system's root folder
};

// As statfs() tells it.
Expected<FileSystem> FileSystemOf(const std::string& folder);

// Fails if nothing can be written into the folder.
Status CheckWritable(const std::string& folder);

// Writes all of the file system that the folder lies on to its disk.
Status FlushFileSystem(const std::string& folder);

// The length of a file; 0 if there is none.
uint64_t FileBytesOf(const std::string& path);

// In how many runs of consecutive clusters the file lies, where the operating system says so.
std::optional<size_t> CountPieces(const std::string& path, uint64_t cluster_bytes);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_FILE_SYSTEM_H_
