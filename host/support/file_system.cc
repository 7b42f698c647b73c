#include "host/support/file_system.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace thimble::host {
namespace {

// linux/magic.h has exFAT's since 5.7, NTFS's never.
constexpr uint64_t kExFatMagic = 0x2011BAB0;
constexpr uint64_t kNtfsMagic = 0x5346544E;
constexpr uint64_t kNtfs3Magic = 0x7366746E;

// A file or folder, open for reading.
class OpenFile {
 public:
  explicit OpenFile(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~OpenFile() {
    if (fd_ >= 0) close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

Expected<FileSystem> FileSystemOf(const std::string& folder) {
  struct statfs info = {};
  struct stat here = {};
  struct stat above = {};
  if (statfs(folder.c_str(), &info) != 0 || stat(folder.c_str(), &here) != 0 ||
      stat((folder + "/..").c_str(), &above) != 0) {
    return Sentence(fmt::format("cannot look at {}: {}", folder, std::strerror(errno)));
  }
  FileSystem system;
  switch (static_cast<uint64_t>(info.f_type)) {
    case MSDOS_SUPER_MAGIC:
      system.kind = FileSystem::Kind::kFat;
      break;
    case kExFatMagic:
      system.kind = FileSystem::Kind::kExFat;
      break;
    case kNtfsMagic:
    case kNtfs3Magic:
      system.kind = FileSystem::Kind::kNtfs;
      break;
    default:
      break;
  }
  system.block_bytes = static_cast<uint64_t>(info.f_bsize);
  system.blocks = info.f_blocks;
  system.free_bytes = info.f_bavail * system.block_bytes;
  system.is_top = here.st_dev != above.st_dev || here.st_ino == above.st_ino;
  return system;
}

Status CheckWritable(const std::string& folder) {
  if (access(folder.c_str(), W_OK | X_OK) == 0) return {};
  return Sentence(fmt::format("cannot write into {}: {}", folder, std::strerror(errno)));
}

Status FlushFileSystem(const std::string& folder) {
  const OpenFile open_folder(folder);
  if (open_folder.get() >= 0 && syncfs(open_folder.get()) == 0) return {};
  return Sentence(fmt::format("cannot write all of {} to its disk: {}", folder, std::strerror(errno)));
}

uint64_t FileBytesOf(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 && info.st_size > 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

// By the oldest way of asking, which FAT knows and only an administrator may use.
std::optional<size_t> CountPieces(const std::string& path, uint64_t cluster_bytes) {
  const OpenFile file(path);
  int block_bytes = 0;
  if (file.get() < 0 || ioctl(file.get(), FIGETBSZ, &block_bytes) != 0 || block_bytes <= 0) return std::nullopt;
  const auto step = static_cast<int>(std::max<uint64_t>(cluster_bytes / static_cast<uint64_t>(block_bytes), 1));
  const uint64_t blocks =
      (FileBytesOf(path) + static_cast<uint64_t>(block_bytes) - 1) / static_cast<uint64_t>(block_bytes);
  size_t pieces = 0;
  int next = 0;
  for (uint64_t i = 0; i < blocks; i += static_cast<uint64_t>(step)) {
    int block = static_cast<int>(i);
    if (ioctl(file.get(), FIBMAP, &block) != 0 || block == 0) return std::nullopt;
    pieces += block != next;
    next = block + step;
  }
  return pieces;
}

}  // namespace thimble::host
