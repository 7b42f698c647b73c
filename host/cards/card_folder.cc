#include "host/cards/card_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "engine/base/ledger.h"
#include "engine/storage/fat32.h"
#include "engine/storage/file_reader.h"
#include "host/cards/model_for_card.h"
#include "host/models/card_open.h"
#include "host/models/loaded_model.h"
#include "host/support/aligned_buffer.h"
#include "host/support/atomic_file.h"
#include "host/support/file_system.h"
#include "host/support/numbers.h"
#include "host/support/paths.h"
#include "host/support/progress.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMinFat32Clusters = 65525;

Status CheckFolder(const std::string& folder, const FileSystem& system) {
  switch (system.kind) {
    case FileSystem::Kind::kExFat:
      return Sentence(
          fmt::format("{} is formatted as exFAT, and a board reads FAT32 only: format the card as FAT32", folder));
    case FileSystem::Kind::kNtfs:
      return Sentence(
          fmt::format("{} is formatted as NTFS, and a board reads FAT32 only: format the card as FAT32", folder));
    case FileSystem::Kind::kFat:
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
  const uint64_t replaced = RoomFor(FileBytesOf(path), system);
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
  THIMBLE_TRY(file.Flush());
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

}  // namespace

Expected<CardFolderCopy> CopyToCardFolder(const CardFolderOptions& options) {
  if (!IsFolder(options.folder)) {
    return Sentence(fmt::format("{} is no folder: give the one that the card is mounted at", options.folder));
  }
  THIMBLE_TRY(CheckWritable(options.folder));
  THIMBLE_ASSIGN(const FileSystem system, options.file_system_of(options.folder));
  THIMBLE_TRY(CheckFolder(options.folder, system));
  THIMBLE_ASSIGN(const ModelForCard model, OpenModelForCard(options.model, options.tokenizer, options.name_on_card));
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
  THIMBLE_TRY(FlushFileSystem(options.folder));

  if (system.kind == FileSystem::Kind::kOther) {
    copy.notes.push_back(fmt::format("{} is not on FAT32, which is all that a board reads", options.folder));
    return copy;
  }
  if (system.blocks < kMinFat32Clusters) {
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
