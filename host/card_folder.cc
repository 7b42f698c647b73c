#include "host/card_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "engine/base/ledger.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/volume.h"
#include "host/aligned_buffer.h"
#include "host/atomic_file.h"
#include "host/card_model.h"
#include "host/card_open.h"
#include "host/input_file.h"
#include "host/loaded_model.h"
#include "host/progress.h"
#include "host/text.h"

namespace thimble::host {
namespace {

constexpr uint64_t kLeastFat32Clusters = 65525;
constexpr uint64_t kMostExFatFileBytes = ~uint64_t{0};

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

uint64_t FileBytes(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 && info.st_size > 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

Status CheckFolder(const std::string& folder, const FileSystem& system) {
  switch (system.kind) {
    case FileSystem::Kind::kNtfs:
      return Sentence(
          fmt::format("{} is formatted as NTFS, and a board reads FAT32 and exFAT: format the card as FAT32", folder));
    case FileSystem::Kind::kFat:
    case FileSystem::Kind::kExFat:
      if (!system.is_top) {
        return Sentence(
            fmt::format("{} is a folder on the card, and a board looks into the card's root folder only: give "
                        "that one",
                        folder));
      }
      break;
    case FileSystem::Kind::kOther:
      break;
  }
  return {};
}

uint64_t RoomFor(uint64_t bytes, const FileSystem& system) {
  const uint64_t block = std::max<uint64_t>(system.block_bytes, 1);
  return (bytes + block - 1) / block * block;
}

Status CheckRoom(const std::string& path, uint64_t bytes, const FileSystem& system) {
  const uint64_t need = RoomFor(bytes, system);
  if (need <= system.free_bytes) return {};
  const uint64_t replaced = RoomFor(FileBytes(path), system);
  if (replaced != 0 && need <= system.free_bytes + replaced) {
    return Sentence(
        fmt::format("there is room for one {} on the card and not for the old and the new one, which takes {} bytes "
                    "where {} are free: remove the old one first",
                    path, Grouped(need), Grouped(system.free_bytes)));
  }
  return Sentence(fmt::format("{} takes {} bytes and the card has {} free: make room for {} more", path, Grouped(need),
                              Grouped(system.free_bytes), Grouped(need - system.free_bytes - replaced)));
}

Status CopyBytes(const StoredFile& from, const std::string& name, FileSink& sink) {
  constexpr uint64_t kPieceBytes = 1 << 20;
  Ledger ledger;
  storage::FileReader reader(*from.device, from.file, ledger);
  AlignedBuffer buffer(reader.BufferBytes(kPieceBytes));
  Progress progress("copy", from.file.size_bytes);
  for (uint64_t offset = 0; offset < from.file.size_bytes; offset += kPieceBytes) {
    const uint64_t size = std::min(kPieceBytes, from.file.size_bytes - offset);
    auto started = reader.Start(offset, size, buffer.bytes());
    if (!started) return Failed(name, started.error());
    const auto bytes = reader.Wait();
    if (!bytes) return Failed(name, bytes.error());
    THIMBLE_TRY(sink.Write(*bytes));
    progress.Advance(size);
  }
  return {};
}

// Copies `from`, which is the file `name`, to `path`, and reads it back.
Status CopyFile(const StoredFile& from, const std::string& name, const std::string& path) {
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(path, std::span(&name, 1)));
  THIMBLE_TRY(CopyBytes(from, name, file.sink()));
  {
    // Out of this computer's memory, so that what is read back comes from the card.
    const OpenFile written(file.path_while_open());
    if (written.get() < 0 || fsync(written.get()) != 0) {
      return Sentence(fmt::format("cannot write {}: {}", path, std::strerror(errno)));
    }
    posix_fadvise(written.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
  {
    THIMBLE_ASSIGN(const auto device, FileDevice::Open(file.path_while_open()));
    std::array extents = {storage::WholeDevice(*device)};
    extents[0].size_bytes = device->file_size_bytes();
    const StoredFile read_back = {.device = device.get(),
                                  .file = {.extents = extents, .size_bytes = device->file_size_bytes()}};
    THIMBLE_TRY(CompareFiles(from, read_back, path));
  }
  return file.Commit();
}

// Runs of consecutive clusters, by the oldest way of asking, which FAT knows and only an administrator may use.
std::optional<size_t> CountPieces(const std::string& path, uint64_t cluster_bytes) {
  const OpenFile file(path);
  int block_bytes = 0;
  if (file.get() < 0 || ioctl(file.get(), FIGETBSZ, &block_bytes) != 0 || block_bytes <= 0) return std::nullopt;
  const auto step = static_cast<int>(std::max<uint64_t>(cluster_bytes / static_cast<uint64_t>(block_bytes), 1));
  const uint64_t blocks =
      (FileBytes(path) + static_cast<uint64_t>(block_bytes) - 1) / static_cast<uint64_t>(block_bytes);
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

Expected<CardFolderCopy> CopyToCardFolder(const CardFolderOptions& options) {
  if (!IsFolder(options.folder)) {
    return Sentence(fmt::format("{} is no folder: give the one that the card is mounted at", options.folder));
  }
  if (access(options.folder.c_str(), W_OK | X_OK) != 0) {
    return Sentence(fmt::format("cannot write into {}: {}", options.folder, std::strerror(errno)));
  }
  THIMBLE_ASSIGN(const FileSystem system, options.file_system_of(options.folder));
  THIMBLE_TRY(CheckFolder(options.folder, system));
  THIMBLE_ASSIGN(const CardModel model,
                 OpenCardModel(options.model, options.tokenizer, options.name_on_card,
                               system.kind == FileSystem::Kind::kExFat ? kMostExFatFileBytes : kMostFileBytes));
  CardFolderCopy copy;
  copy.path = options.folder + (options.folder.ends_with('/') ? "" : "/") + model.name_on_card;
  copy.model_bytes = model.opened.file.size_bytes;
  THIMBLE_TRY(CheckRoom(copy.path, copy.model_bytes, system));
  const std::string index_path = IndexName(copy.path);
  copy.index_bytes = model.opened.index_file.size_bytes;
  if (copy.index_bytes != 0) {
    FileSystem with_model = system;
    with_model.free_bytes -= std::min(system.free_bytes, RoomFor(copy.model_bytes, system));
    THIMBLE_TRY(CheckRoom(index_path, copy.index_bytes, with_model));
  }

  THIMBLE_TRY(CopyFile(FileOf(model.opened), options.model, copy.path));
  if (copy.index_bytes != 0) {
    THIMBLE_TRY(CopyFile(IndexOf(model.opened), IndexName(options.model), index_path));
  } else if (Exists(index_path)) {
    copy.notes.push_back(
        fmt::format("{} was there before and belongs to another model: remove it, or write this "
                    "model's with 'thimble prepare' and copy again",
                    index_path));
  }
  const OpenFile folder(options.folder);
  if (folder.get() < 0 || syncfs(folder.get()) != 0) {
    return Sentence(fmt::format("cannot write {} to its end: {}", copy.path, std::strerror(errno)));
  }

  if (system.kind == FileSystem::Kind::kOther) {
    copy.notes.push_back(
        fmt::format("{} is on neither FAT32 nor exFAT, which is all that a board reads", options.folder));
    return copy;
  }
  if (system.kind == FileSystem::Kind::kFat && system.blocks < kLeastFat32Clusters) {
    copy.notes.push_back(
        "this card is small enough to be FAT16, which a board does not read: 'thimble verify' on the whole card tells");
  }
  copy.pieces = CountPieces(copy.path, system.block_bytes);
  if (copy.pieces > storage::kUsualExtents) {
    copy.notes.push_back(
        fmt::format("{} pieces are more than the {} that a board takes: format the card and copy the model again",
                    *copy.pieces, storage::kUsualExtents));
  }
  return copy;
}

}  // namespace thimble::host
