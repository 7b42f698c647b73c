#include "host/cards/card_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/ledger.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/volume.h"
#include "host/cards/model_for_card.h"
#include "host/models/card_open.h"
#include "host/support/aligned_buffer.h"
#include "host/support/atomic_file.h"
#include "host/support/file_system.h"
#include "host/support/numbers.h"
#include "host/support/paths.h"
#include "host/support/progress.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMinFat32Clusters = 65525;
constexpr uint64_t kMaxExFatFileBytes = ~uint64_t{0};

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

// Writes a file that will be `path`, and reads it back.
Expected<AtomicFile> WriteBeside(const FileForCard& from, const std::string& path) {
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(path, std::span(&from.given, 1)));
  THIMBLE_TRY(CopyBytes(from, [&](uint64_t, std::span<const std::byte> bytes) { return file.sink().Write(bytes); }));
  THIMBLE_TRY(file.Flush());
  THIMBLE_ASSIGN(const auto device, FileDevice::Open(file.path_while_open()));
  std::array extents = {storage::WholeDevice(*device)};
  extents[0].size_bytes = device->file_size_bytes();
  const StoredFile read_back = {.device = device.get(),
                                .file = {.extents = extents, .size_bytes = device->file_size_bytes()}};
  THIMBLE_TRY(CompareFiles(from.bytes, read_back, path));
  return file;
}

}  // namespace

Expected<CardFolderCopy> CopyToCardFolder(const CardFolderOptions& options) {
  if (!IsFolder(options.folder)) {
    return Sentence(fmt::format("{} is no folder: give the one that the card is mounted at", options.folder));
  }
  THIMBLE_TRY(CheckWritable(options.folder));
  THIMBLE_ASSIGN(const FileSystem system, options.file_system_of(options.folder));
  THIMBLE_TRY(CheckFolder(options.folder, system));
  CardContents contents = options.contents;
  if (contents.swap_bytes != 0) {
    if (system.kind == FileSystem::Kind::kExFat) {
      return Sentence(
          fmt::format("{} is formatted as exFAT, and a board swaps to FAT32 only: format the card as FAT32, "
                      "or leave --swap out",
                      options.folder));
    }
    std::random_device random;
    contents.swap_id = uint64_t{random()} << 32 | random();
  }
  THIMBLE_ASSIGN(
      const ModelForCard model,
      OpenModelForCard(contents, system.kind == FileSystem::Kind::kExFat ? kMaxExFatFileBytes : kMaxFileBytes));
  const auto on_card = [&](const std::string& name) { return Joined(options.folder, name); };
  CardFolderCopy copy;
  copy.path = on_card(model.name_on_card);
  copy.model_bytes = model.opened.file.size_bytes;
  copy.index_bytes = model.index_bytes();
  copy.others = model.others();
  copy.notes = model.notes;
  FileSystem left = system;
  for (const FileForCard& file : model.files) {
    const uint64_t bytes = file.bytes.file.size_bytes;
    THIMBLE_TRY(CheckRoom(on_card(file.name_on_card), bytes, left));
    left.free_bytes -= RoomFor(bytes, left);
  }

  std::vector<AtomicFile> written;
  written.reserve(model.files.size());
  for (const FileForCard& file : model.files) {
    THIMBLE_ASSIGN(AtomicFile one, WriteBeside(file, on_card(file.name_on_card)));
    written.push_back(std::move(one));
  }
  // Neither FAT nor Linux renames several files at once, so each state on the way must run:
  //   the old model without its index (slower, the same text), which is removed first: beside the new model it would be
  //     refused, and the card would not run;
  //   the new model without an index: the new one's would be refused beside the old model;
  //   both, with the old plan, which is choices of memory and left aside where they do not fit;
  //   and, last, what a board does by itself with all of these.
  const std::string index_path = on_card(IndexName(model.name_on_card));
  const bool had_index = Exists(index_path);
  const std::string plan_path = on_card(PlanName(model.name_on_card));
  const bool keeps_plan = Exists(plan_path) && std::ranges::find(copy.others, NameOf(plan_path)) == copy.others.end();
  THIMBLE_TRY(AtomicFile::CommitTogether(written, had_index ? index_path : ""));
  if (had_index && copy.index_bytes == 0) {
    copy.notes.push_back(
        fmt::format("{} is removed, because it may belong to another model: write this model's with 'thimble prepare' "
                    "and copy again",
                    index_path));
  }
  if (keeps_plan) {
    copy.notes.push_back(
        fmt::format("{} was there before and stays: remove it if it is not for this model", plan_path));
  }
  THIMBLE_TRY(FlushFileSystem(options.folder));

  if (system.kind == FileSystem::Kind::kOther) {
    copy.notes.push_back(
        fmt::format("{} is on neither FAT32 nor exFAT, which is all that a board reads", options.folder));
    return copy;
  }
  if (system.kind == FileSystem::Kind::kFat && system.blocks < kMinFat32Clusters) {
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
