#include "host/support/file_system.h"

#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace thimble::host {

Expected<FileSystem> FileSystemOf(const std::string& folder) {
  struct statfs info = {};
  struct stat here = {};
  struct stat above = {};
  if (statfs(folder.c_str(), &info) != 0 || stat(folder.c_str(), &here) != 0 ||
      stat((folder + "/..").c_str(), &above) != 0) {
    return Sentence(fmt::format("cannot look at {}: {}", folder, std::strerror(errno)));
  }
  FileSystem system;
  const std::string_view name = info.f_fstypename;
  if (name == "msdos") system.kind = FileSystem::Kind::kFat;
  if (name == "exfat") system.kind = FileSystem::Kind::kExFat;
  if (name == "ntfs") system.kind = FileSystem::Kind::kNtfs;
  system.block_bytes = info.f_bsize;
  system.blocks = info.f_blocks;
  system.free_bytes = info.f_bavail * system.block_bytes;
  system.is_top = here.st_dev != above.st_dev || here.st_ino == above.st_ino;
  return system;
}

Status CheckWritable(const std::string& folder) {
  if (access(folder.c_str(), W_OK | X_OK) == 0) return {};
  return Sentence(fmt::format("cannot write into {}: {}", folder, std::strerror(errno)));
}

Status FlushFileSystem(const std::string&) {
  sync();
  return {};
}

uint64_t FileBytesOf(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 && info.st_size > 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

std::optional<size_t> CountPieces(const std::string&, uint64_t) { return std::nullopt; }

}  // namespace thimble::host
