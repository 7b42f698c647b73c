#include "engine/stream/resident_rows.h"

#include <algorithm>
#include <numeric>

#include "engine/base/arena.h"
#include "engine/base/ledger.h"

namespace thimble::stream {
namespace {

// `percent` of the rows, to the nearest whole number of blocks of checksums.
uint32_t Share(const TensorRef& tensor, uint32_t percent) {
  const uint64_t unit = formats::kCheckBlockBytes / std::gcd(tensor.row_bytes(), uint64_t{formats::kCheckBlockBytes});
  const uint64_t wanted = uint64_t{tensor.rows} * percent / 100;
  if (percent >= 100 || wanted + unit / 2 >= tensor.rows) return wanted * 2 >= tensor.rows ? tensor.rows : 0;
  return static_cast<uint32_t>((wanted + unit / 2) / unit * unit);
}

ResidentBytes BytesOf(const TensorRef& tensor, const ResidentShares& shares) {
  const ResidentRows rows = ResidentRowsOf(tensor, shares);
  return {ArenaBytes(rows.psram * tensor.row_bytes()), ArenaBytes(rows.flash * tensor.row_bytes())};
}

}  // namespace

ResidentRows ResidentRowsOf(const TensorRef& tensor, const ResidentShares& shares) {
  const Zone zone = ZoneOf(tensor.id.kind);
  if (shares.empty() || (zone != Zone::kAttention && zone != Zone::kFfn)) return {};
  const uint32_t psram = Share(tensor, shares.psram_percent);
  const uint32_t both = Share(tensor, shares.psram_percent + shares.flash_percent);
  return {psram, std::max(both, psram) - psram};
}

ResidentBytes ResidentBytesOf(const formats::ModelFile& model, const ResidentShares& shares) {
  ResidentBytes all;
  if (shares.empty()) return all;
  for (const TensorRef& tensor : model.tensors) all += BytesOf(tensor, shares);
  return all;
}

RowsRef RowsIn(const ResidentMemory& memory, const formats::ModelFile& model, const TensorRef& tensor) {
  RowsRef found = tensor;
  const ResidentRows rows = ResidentRowsOf(tensor, memory.shares);
  if (rows.psram == 0 && rows.flash == 0) return found;
  const ResidentBytes& before = memory.before.At(model.tensors, TensorIndex(tensor.id, model.shape),
                                                 [&](const TensorRef& other) { return BytesOf(other, memory.shares); });
  const auto part = [&](std::span<std::byte> all, uint64_t offset, uint32_t n) {
    return all.subspan(static_cast<size_t>(offset), static_cast<size_t>(n * tensor.row_bytes()));
  };
  if (rows.psram != 0) found.psram = part(memory.psram, before.psram, rows.psram);
  if (rows.flash != 0) found.flash = part(memory.flash, before.flash, rows.flash);
  return found;
}

Result<void> LoadResidentRows(const ResidentMemory& memory, const formats::ModelFile& model, uint32_t block_bytes,
                              const TileBuffers& buffers, TileStream& stream, storage::FlashWriter& flash) {
  if (memory.shares.empty()) return {};
  for (const TensorRef& tensor : model.tensors) {
    const RowsRef rows = RowsIn(memory, model, tensor);
    if (rows.rows_in_memory() == 0) continue;
    const uint32_t tile_rows = TileRows(tensor, static_cast<uint32_t>(buffers.first.size()), block_bytes);
    std::span<std::byte> psram =
        rows.psram.empty()
            ? std::span<std::byte>()
            : memory.psram.subspan(static_cast<size_t>(rows.psram.data() - memory.psram.data()), rows.psram.size());
    std::span<const std::byte> in_flash = rows.flash;
    THIMBLE_TRY(stream.Begin(tensor, 0, rows.rows_in_memory(), tile_rows, buffers));
    while (!stream.done()) {
      THIMBLE_ASSIGN(const Tile tile, stream.Next());
      const size_t n = std::min(psram.size(), tile.rows.size());
      std::copy_n(tile.rows.begin(), n, psram.begin());
      psram = psram.subspan(n);
      const std::span<const std::byte> rest = tile.rows.subspan(n);
      if (rest.empty()) continue;
      THIMBLE_TRY(flash.Write(in_flash.first(rest.size()), rest));
      in_flash = in_flash.subspan(rest.size());
    }
  }
  return {};
}

}  // namespace thimble::stream
