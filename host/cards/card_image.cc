#include "host/cards/card_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <utility>
#include <vector>

#include "engine/base/board.h"
#include "engine/base/ledger.h"
#include "engine/formats/card_models.h"
#include "engine/storage/sectors.h"
#include "host/cards/card_names.h"
#include "host/models/card_open.h"
#include "host/models/verify.h"
#include "host/support/atomic_file.h"
#include "host/support/file_system.h"
#include "host/support/input_file.h"
#include "host/support/program.h"
#include "host/support/progress.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kMinImageBytes = 64'000'000;
constexpr uint32_t kPartitionStartSector = 4 * kMiB / kSectorBytes;
constexpr uint32_t kMaxSectorsPerCluster = 64;
constexpr uint64_t kMinClusters = 65525 + 75;  // and some, for what mkfs.fat aligns
constexpr uint64_t kReservedSectors = 32;

constexpr uint64_t RoundUp(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

Expected<std::string> FindTool(const std::string& folders, const std::string& name) {
  return FindProgram(folders, name, "the packages dosfstools and mtools");
}

Status RunTool(const std::string& folders, const std::string& name, std::vector<std::string> arguments,
               const std::function<void()>& while_it_runs) {
  THIMBLE_ASSIGN(const std::string path, FindTool(folders, name));
  // The user's settings of mtools are for their drives.
  return RunProgram(path, std::move(arguments), {"MTOOLSRC=/dev/null"}, "MTOOLS", while_it_runs);
}

// One partition of type 0x0C (FAT32, addressed by sectors), and no code.
std::array<std::byte, kSectorBytes> MasterBootRecord(uint32_t start_sector, uint32_t sectors) {
  std::array<std::byte, kSectorBytes> record = {};
  const auto put = [&](size_t offset, uint32_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) record[offset + i] = static_cast<std::byte>(value >> (8 * i));
  };
  put(446 + 1, 0xfffffe, 3);  // cylinder, head and sector of the first sector: not used
  put(446 + 4, 0x0c, 1);
  put(446 + 5, 0xfffffe, 3);
  put(446 + 8, start_sector, 4);
  put(446 + 12, sectors, 4);
  put(510, 0xaa55, 2);
  return record;
}

// Reads a file of the card's root folder back.
Status CompareOnCard(FileDevice& device, const FileForCard& file, const std::string& image) {
  Ledger ledger;
  alignas(kSectorBytes) std::array<std::byte, kSectorBytes> sector;
  storage::Sectors sectors(device, sector, ledger);
  auto volume = formats::MountModels(sectors);
  if (!volume) return Failed(image, volume.error());
  formats::CardFile found;
  if (!formats::FindFile(*volume, file.name_on_card, found)) {
    return Sentence(fmt::format("{}: {} is not on the card", image, Quote(file.name_on_card)));
  }
  return CompareFiles(file.bytes, {.device = &device, .file = found.map}, image);
}

}  // namespace

CardLayout PlanCard(uint64_t file_bytes, bool superfloppy) {
  CardLayout layout;
  layout.partition_start_sector = superfloppy ? 0 : kPartitionStartSector;
  const uint64_t start_bytes = layout.partition_start_sector * kSectorBytes;
  // With clusters of one sector the two allocation tables take a 64th of the data.
  const uint64_t volume_bytes = file_bytes + file_bytes / 48 + kMiB;
  layout.image_bytes = RoundUp(std::max(kMinImageBytes, start_bytes + volume_bytes), kMiB);

  const uint64_t sectors = (layout.image_bytes - start_bytes) / kSectorBytes;
  layout.sectors_per_cluster = kMaxSectorsPerCluster;
  const auto clusters = [&] {
    const uint64_t table_sectors = RoundUp((sectors / layout.sectors_per_cluster + 2) * 4, kSectorBytes) / kSectorBytes;
    return (sectors - kReservedSectors - 2 * table_sectors) / layout.sectors_per_cluster;
  };
  while (layout.sectors_per_cluster > 1 && clusters() < kMinClusters) layout.sectors_per_cluster /= 2;
  return layout;
}

Expected<size_t> ReadBack(const ModelForCard& model, const std::string& path, const std::string& out) {
  THIMBLE_ASSIGN(const OpenedModel copy, OpenModelFile(path, ""));
  if (copy.name_on_card != model.name_on_card) {
    return Sentence(
        fmt::format("\"{}\" is no name for a file on FAT32: give another one with --name", Quote(model.name_on_card)));
  }
  for (const FileForCard& file : model.files) THIMBLE_TRY(CompareOnCard(*copy.device, file, out));
  THIMBLE_TRY(CheckVolume(*copy.device, out));
  return copy.extents.size();
}

Expected<CardImage> WriteCardImage(const CardOptions& options) {
  const std::string folders = options.tool_folders.empty() ? UsualProgramFolders() : options.tool_folders;
  THIMBLE_TRY(FindTool(folders, "mkfs.fat"));
  THIMBLE_TRY(FindTool(folders, "mcopy"));
  THIMBLE_ASSIGN(const ModelForCard model, OpenModelForCard(options.contents));
  CardImage card;
  card.name_on_card = model.name_on_card;
  card.model_bytes = model.opened.file.size_bytes;
  card.index_bytes = model.index_bytes();
  card.others = model.others();
  card.notes = model.notes;
  uint64_t all_bytes = 0;
  std::vector<std::string> inputs;
  for (const FileForCard& file : model.files) {
    all_bytes += file.bytes.file.size_bytes;
    inputs.push_back(file.given);
  }
  card.layout = PlanCard(all_bytes, options.superfloppy);
  const uint32_t start = card.layout.partition_start_sector;

  THIMBLE_ASSIGN(AtomicFile image, AtomicFile::Create(options.out, inputs));
  const std::string path = image.path_while_open();
  if (start != 0) {
    const auto sectors = static_cast<uint32_t>(card.layout.image_bytes / kSectorBytes - start);
    THIMBLE_TRY(image.sink().Write(MasterBootRecord(start, sectors)));
  }
  THIMBLE_TRY(image.SetSize(card.layout.image_bytes));
  std::vector<std::string> format = {"-F", "32",      "-S", "512",
                                     "-n", "THIMBLE", "-s", std::to_string(card.layout.sectors_per_cluster)};
  if (start != 0) {
    for (const char* option : {"-h", "--offset"}) {
      format.push_back(option);
      format.push_back(std::to_string(start));
    }
  }
  format.push_back(path);
  THIMBLE_TRY(RunTool(folders, "mkfs.fat", format, [] {}));

  for (const FileForCard& file : model.files) {
    THIMBLE_ASSIGN(const InputFile input, InputFile::Open(file.path));
    // mcopy does not tell how far it is, but what it wrote takes room on the disk.
    uint64_t written_bytes = RoomOf(path);
    Progress progress("card", file.bytes.file.size_bytes);
    THIMBLE_TRY(RunTool(folders, "mcopy",
                        {"-i", fmt::format("{}@@{}", path, start * kSectorBytes), input.path_while_open(),
                         "::" + NameForMtools(file.name_on_card)},
                        [&] {
                          const uint64_t now_bytes = RoomOf(path);
                          if (now_bytes > written_bytes) progress.Advance(now_bytes - written_bytes);
                          written_bytes = std::max(written_bytes, now_bytes);
                        }));
  }
  for (const FileForCard& file : model.files) {
    THIMBLE_TRY(WriteCardName(image, start * kSectorBytes, file.name_on_card));
  }

  THIMBLE_ASSIGN(card.pieces, ReadBack(model, path, options.out));
  THIMBLE_TRY(image.Commit());
  return card;
}

}  // namespace thimble::host
