#include "host/cards/flash_volume.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "engine/base/board.h"
#include "engine/storage/flash.h"
#include "engine/storage/volume_format.h"
#include "host/cards/card_image.h"
#include "host/cards/card_names.h"
#include "host/support/atomic_file.h"
#include "host/support/input_file.h"
#include "host/support/numbers.h"

namespace thimble::host {
namespace {

// A cluster is a sector of flash, which is what the volume is rounded up to anyway.
constexpr uint64_t kClusterBytes = storage::kFlashSectorBytes;
constexpr uint32_t kSectorsPerCluster = kClusterBytes / kSectorBytes;
constexpr uint32_t kSectorsBeforeTable = 7;  // boot sector, information, a copy of the boot sector in the sixth
constexpr uint32_t kInformationSector = 1;
constexpr uint32_t kBackupSector = 6;
constexpr uint32_t kRootCluster = 2;
constexpr uint32_t kEndOfChain = 0x0fffffff;
constexpr size_t kUnitsInEntry = 13;

constexpr uint64_t Divide(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit; }

void Put(std::span<std::byte> bytes, size_t offset, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) bytes[offset + i] = static_cast<std::byte>(value >> (8 * i));
}

void Put(std::span<std::byte> bytes, size_t offset, std::string_view text) {
  std::ranges::copy(std::as_bytes(std::span(text)), bytes.begin() + static_cast<ptrdiff_t>(offset));
}

struct Geometry {
  uint32_t clusters = 0;
  uint32_t table_sectors = 0;

  uint64_t first_cluster_bytes() const { return (kSectorsBeforeTable + table_sectors) * kSectorBytes; }
  uint64_t volume_bytes() const { return first_cluster_bytes() + clusters * kClusterBytes; }
};

std::array<std::byte, kSectorBytes> FlashBootSector(const Geometry& geometry) {
  std::array<std::byte, kSectorBytes> boot = {};
  Put(boot, 0, 0x9058eb, 3);  // a jump over the fields, by which a boot sector is known
  Put(boot, 3, "THIMBLE ");
  Put(boot, 11, kSectorBytes, 2);
  Put(boot, 13, kSectorsPerCluster, 1);
  Put(boot, 14, kSectorsBeforeTable, 2);
  Put(boot, 16, 1, 1);     // allocation tables
  Put(boot, 21, 0xf8, 1);  // no disk that is changed
  Put(boot, 24, 32, 2);    // sectors of a track and
  Put(boot, 26, 2, 2);     // heads: of no disk
  Put(boot, 32, geometry.volume_bytes() / kSectorBytes, 4);
  Put(boot, 36, geometry.table_sectors, 4);
  Put(boot, 44, kRootCluster, 4);
  Put(boot, 48, kInformationSector, 2);
  Put(boot, 50, kBackupSector, 2);
  Put(boot, 64, 0x80, 1);
  Put(boot, 66, 0x29, 1);  // what follows is there
  Put(boot, 67, 0x4c424d54, 4);
  Put(boot, 71, "NO NAME    FAT32   ");
  Put(boot, 510, 0xaa55, 2);
  return boot;
}

std::array<std::byte, kSectorBytes> InformationSector() {
  std::array<std::byte, kSectorBytes> information = {};
  Put(information, 0, 0x41615252, 4);
  Put(information, 484, 0x61417272, 4);
  Put(information, 488, 0, 4);           // free clusters
  Put(information, 492, 0xffffffff, 4);  // the next of them
  Put(information, 508, 0xaa550000, 4);
  return information;
}

// The checksum of a short name, which its long name's entries repeat.
uint8_t ShortNameSum(std::string_view name) {
  uint8_t sum = 0;
  for (const char c : name) sum = static_cast<uint8_t>((sum >> 1 | sum << 7) + static_cast<uint8_t>(c));
  return sum;
}

// Appends the entries of the root folder's file of this number.
void AppendEntries(std::vector<std::byte>& folder, size_t number, const std::string& name, uint32_t cluster,
                   uint64_t size_bytes) {
  const std::string short_name = fmt::format("FILE{:04}   ", number);
  const std::u16string units = Utf16(name);
  const size_t parts = Divide(units.size(), kUnitsInEntry);
  for (size_t part = parts; part > 0; --part) {
    std::array<std::byte, storage::kFolderEntryBytes> entry = {};
    Put(entry, 0, part | (part == parts ? 0x40 : 0), 1);
    Put(entry, 11, 0x0f, 1);
    Put(entry, 13, ShortNameSum(short_name), 1);
    for (size_t i = 0; i < kUnitsInEntry; ++i) {
      const size_t at = (part - 1) * kUnitsInEntry + i;
      const uint16_t unit = at < units.size() ? units[at] : at == units.size() ? 0 : 0xffff;
      Put(entry, i < 5 ? 1 + 2 * i : i < 11 ? 14 + 2 * (i - 5) : 28 + 2 * (i - 11), unit, 2);
    }
    folder.insert(folder.end(), entry.begin(), entry.end());
  }
  std::array<std::byte, storage::kFolderEntryBytes> entry = {};
  Put(entry, 0, short_name);
  Put(entry, 11, 0x20, 1);
  for (const size_t date : {16, 18, 24}) Put(entry, date, 0x21, 2);  // 1 January 1980: the same bytes every day
  Put(entry, 20, cluster >> 16, 2);
  Put(entry, 26, cluster & 0xffff, 2);
  Put(entry, 28, size_bytes, 4);
  folder.insert(folder.end(), entry.begin(), entry.end());
}

}  // namespace

Expected<FlashVolume> WriteFlashVolume(const CardContents& contents, const std::string& out, uint64_t max_bytes) {
  THIMBLE_ASSIGN(const ModelForCard model, OpenModelForCard(contents));
  std::vector<std::string> inputs;
  std::vector<std::byte> folder;
  std::vector<uint32_t> table = {0x0ffffff8, kEndOfChain};
  const auto allocate = [&](uint64_t bytes) {
    const auto first = static_cast<uint32_t>(table.size());
    const auto n = static_cast<uint32_t>(Divide(bytes, kClusterBytes));
    for (uint32_t i = 1; i < n; ++i) table.push_back(first + i);
    if (n != 0) table.push_back(kEndOfChain);
    return n == 0 ? 0 : first;
  };
  allocate(kClusterBytes);  // the root folder's, which has room for four files
  for (const FileForCard& file : model.files) {
    const uint64_t size_bytes = file.bytes.file.size_bytes;
    if (size_bytes > max_bytes) break;  // it is refused below
    AppendEntries(folder, inputs.size(), file.name_on_card, allocate(size_bytes), size_bytes);
    inputs.push_back(file.given);
  }
  Geometry geometry;
  geometry.clusters = static_cast<uint32_t>(table.size()) - kRootCluster;
  geometry.table_sectors = static_cast<uint32_t>(Divide(table.size() * 4, kSectorBytes));
  // The volume ends where a sector of flash does.
  const uint64_t image_bytes = Divide(geometry.volume_bytes(), kClusterBytes) * kClusterBytes;
  if (inputs.size() < model.files.size() || image_bytes > max_bytes) {
    uint64_t all_bytes = 0;
    for (const FileForCard& file : model.files) all_bytes += file.bytes.file.size_bytes;
    return Sentence(fmt::format(
        "{}: {} bytes do not fit the {} bytes of the board's flash for a model: take a smaller one, or 'thimble "
        "convert --quant q8_0'",
        contents.model, Grouped(all_bytes), Grouped(max_bytes)));
  }

  THIMBLE_ASSIGN(AtomicFile image, AtomicFile::Create(out, inputs));
  THIMBLE_TRY(image.SetSize(image_bytes));
  for (const uint32_t sector : {0u, kBackupSector}) {
    THIMBLE_TRY(image.WriteAt(sector * kSectorBytes, FlashBootSector(geometry)));
  }
  THIMBLE_TRY(image.WriteAt(kInformationSector * kSectorBytes, InformationSector()));
  std::vector<std::byte> table_bytes(table.size() * 4);
  for (size_t i = 0; i < table.size(); ++i) Put(table_bytes, 4 * i, table[i], 4);
  THIMBLE_TRY(image.WriteAt(kSectorsBeforeTable * kSectorBytes, table_bytes));
  THIMBLE_TRY(image.WriteAt(geometry.first_cluster_bytes(), folder));
  uint64_t at = geometry.first_cluster_bytes() + kClusterBytes;
  for (const FileForCard& file : model.files) {
    THIMBLE_ASSIGN(const InputFile input, InputFile::Open(file.path));
    std::vector<std::byte> bytes(static_cast<size_t>(file.bytes.file.size_bytes));
    THIMBLE_TRY(input.ReadAt(0, bytes));
    THIMBLE_TRY(image.WriteAt(at, bytes));
    at += Divide(bytes.size(), kClusterBytes) * kClusterBytes;
  }
  THIMBLE_TRY(ReadBack(model, image.path_while_open(), out));
  THIMBLE_TRY(image.Commit());
  FlashVolume volume = {.image_bytes = image_bytes,
                        .name_on_card = model.name_on_card,
                        .model_bytes = model.opened.file.size_bytes,
                        .others = model.others(),
                        .notes = model.notes};
  if (model.index_bytes() != 0) volume.others.insert(volume.others.begin(), IndexName(model.name_on_card));
  return volume;
}

}  // namespace thimble::host
