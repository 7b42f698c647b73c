#include "host/cards/card_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "engine/base/board.h"
#include "engine/base/ledger.h"
#include "engine/formats/card_models.h"
#include "engine/storage/sectors.h"
#include "host/cards/fat32_volume.h"
#include "host/models/card_open.h"
#include "host/models/verify.h"
#include "host/support/atomic_file.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kMinImageBytes = 64'000'000;
constexpr uint32_t kPartitionStartSector = 4 * kMiB / kSectorBytes;
constexpr uint32_t kMaxSectorsPerCluster = 64;
constexpr uint64_t kMinClusters = 65525 + 75;  // and some: there are programs that compare with 65 525 inexactly
constexpr uint64_t kReservedSectors = 32;

constexpr uint64_t RoundUp(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

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

// The volume of such a card. Its clusters start on a multiple of their size, as mkfs.fat has it, so that a cluster is
// whole blocks of the card's flash.
Fat32Shape ShapeOf(const CardLayout& layout) {
  Fat32Shape shape = {
      .start_sector = layout.partition_start_sector,
      .sectors = static_cast<uint32_t>(layout.image_bytes / kSectorBytes) - layout.partition_start_sector,
      .sectors_per_cluster = layout.sectors_per_cluster,
      .tables = 2,
      .label = "THIMBLE"};
  // Room for more clusters than the tables themselves leave. An entry has 4 bytes, the first two are no cluster's.
  const uint64_t entries = uint64_t{shape.sectors} / shape.sectors_per_cluster + 2;
  shape.table_sectors = static_cast<uint32_t>(RoundUp(entries * 4, kSectorBytes) / kSectorBytes);
  const uint64_t before = RoundUp(kReservedSectors + uint64_t{2} * shape.table_sectors, shape.sectors_per_cluster);
  shape.reserved_sectors = static_cast<uint32_t>(before) - 2 * shape.table_sectors;
  return shape;
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

  layout.sectors_per_cluster = kMaxSectorsPerCluster;
  const auto clusters = [&] { return ShapeOf(layout).clusters(); };
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
  if (start != 0) {
    const auto sectors = static_cast<uint32_t>(card.layout.image_bytes / kSectorBytes - start);
    THIMBLE_TRY(image.sink().Write(MasterBootRecord(start, sectors)));
  }
  THIMBLE_TRY(image.SetSize(card.layout.image_bytes));
  THIMBLE_TRY(WriteFat32Volume(image, ShapeOf(card.layout), model.files));

  THIMBLE_ASSIGN(card.pieces, ReadBack(model, image.path_while_open(), options.out));
  THIMBLE_TRY(image.Commit());
  return card;
}

}  // namespace thimble::host
