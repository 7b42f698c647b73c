#include "host/cards/flash_volume.h"

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <vector>

#include "engine/base/board.h"
#include "engine/storage/flash.h"
#include "host/cards/card_image.h"
#include "host/cards/fat32_volume.h"
#include "host/support/atomic_file.h"
#include "host/support/numbers.h"

namespace thimble::host {
namespace {

// A cluster is a sector of flash, which is what the volume is rounded up to anyway.
constexpr uint64_t kClusterBytes = storage::kFlashSectorBytes;
constexpr uint32_t kSectorsPerCluster = kClusterBytes / kSectorBytes;
constexpr uint32_t kSectorsBeforeTable = 7;  // boot sector, information, a copy of the boot sector in the sixth

constexpr uint64_t Divide(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit; }

}  // namespace

Expected<FlashVolume> WriteFlashVolume(const CardContents& contents, const std::string& out, uint64_t max_bytes) {
  THIMBLE_ASSIGN(const ModelForCard model, OpenModelForCard(contents));
  uint64_t all_bytes = 0;
  std::vector<std::string> inputs;
  for (const FileForCard& file : model.files) {
    all_bytes += file.bytes.file.size_bytes;
    inputs.push_back(file.given);
  }
  Fat32Shape shape = {.sectors_per_cluster = kSectorsPerCluster, .reserved_sectors = kSectorsBeforeTable, .tables = 1};
  const uint64_t clusters = Fat32Clusters(model.files, shape);
  // The volume ends where a sector of flash does. An entry of the table has 4 bytes, the first two are no cluster's.
  const uint64_t table_sectors = Divide((clusters + 2) * 4, kSectorBytes);
  const uint64_t sectors = kSectorsBeforeTable + table_sectors + clusters * kSectorsPerCluster;
  const uint64_t image_bytes = Divide(sectors * kSectorBytes, kClusterBytes) * kClusterBytes;
  if (image_bytes > max_bytes) {
    return Sentence(fmt::format(
        "{}: {} bytes do not fit the {} bytes of the board's flash for a model: take a smaller one, or 'thimble "
        "convert --quant q8_0'",
        contents.model, Grouped(all_bytes), Grouped(max_bytes)));
  }
  shape.table_sectors = static_cast<uint32_t>(table_sectors);
  shape.sectors = static_cast<uint32_t>(sectors);

  THIMBLE_ASSIGN(AtomicFile image, AtomicFile::Create(out, inputs));
  THIMBLE_TRY(image.SetSize(image_bytes));
  THIMBLE_TRY(WriteFat32Volume(image, shape, model.files));
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
