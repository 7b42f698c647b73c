// Keys and values of earlier positions in a swap file, where memory has no room for all of a context.
//
// Whole pages of positions go there, the earliest first, and come back as tiles beside the weights. What attention
// computes, and in which order, does not depend on where they lie, so no bit does (docs/decisions/swap-by-pages.md).
#ifndef THIMBLE_ENGINE_MODEL_KV_SWAP_H_
#define THIMBLE_ENGINE_MODEL_KV_SWAP_H_

#include <cstdint>
#include <span>

#include "engine/base/tensor.h"
#include "engine/storage/swap_file.h"

namespace thimble::model {

// How keys and values are stored.
struct CacheTypes {
  DType k = DType::kF32;
  DType v = DType::kF32;

  bool is_exact() const { return k == DType::kF32 && v == DType::kF32; }
  friend bool operator==(const CacheTypes&, const CacheTypes&) = default;
};

// Pages in ascending order of their positions behind the file's header. A page has of one layer after the other the
// keys and then the values, each [num_key_value_heads, page_positions, head_dim] and on a block of its own.
struct SwapLayout {
  uint32_t page_positions = 0;  // a power of two; 0: nothing is swapped
  uint32_t key_bytes = 0;       // of a layer in a page
  uint32_t value_bytes = 0;
  uint32_t key_room = 0;  // the same in whole blocks
  uint32_t value_room = 0;
  uint64_t page_bytes = 0;

  SwapLayout() = default;
  SwapLayout(const ModelShape& shape, CacheTypes types, uint32_t positions, uint32_t block_bytes);

  bool empty() const { return page_positions == 0; }
  uint64_t KeysAt(uint32_t layer) const {
    return storage::kSwapHeaderBytes + layer * (uint64_t{key_room} + value_room);
  }
  uint64_t ValuesAt(uint32_t layer) const { return KeysAt(layer) + key_room; }
  // Pages that go to the file, of a context with so many of its positions in memory.
  uint32_t PagesOf(uint32_t n_ctx, uint32_t in_memory) const {
    return empty() || n_ctx <= in_memory ? 0 : (n_ctx - in_memory + page_positions - 1) / page_positions;
  }
  // Bytes of a file with so many pages, and behind them a kept conversation of n_ctx positions.
  uint64_t KeptAt(uint32_t pages) const { return storage::kSwapHeaderBytes + pages * page_bytes; }
  uint64_t FileBytes(uint32_t pages, uint32_t n_ctx, uint32_t num_layers) const;
};

// Positions whose attention is computed together, so that what was swapped is read once for all of them; each needs the
// scores of all heads.
inline constexpr uint32_t kSwapTogether = 8;

// Where a Transformer swaps to: the caller's.
struct KvSwap {
  SwapLayout layout;                  // empty: nowhere
  storage::SwapFile* file = nullptr;  // with room for the pages
  uint32_t pages = 0;                 // of the file
  std::span<uint32_t> checks;         // [pages, num_hidden_layers, keys and values]: of what was written
};

// A conversation that a swap file keeps behind its pages (docs/formats/swap.md): its ids, and the checksums of the
// pages that hold its whole pages. It is taken again only by what it was kept of.
struct KeptIdentity {
  uint64_t model_bytes = 0;  // of the model's file
  uint32_t model_check = 0;  // CRC-32C of the vectors that stay in memory
  uint32_t n_ctx = 0;
  uint32_t page_positions = 0;
  uint32_t types = 0;  // of keys, and of values in the next byte, as DType numbers them
};
// `buffer`: a tile's. WriteKept() keeps all `ids`; ReadKept() returns how many it has put into `ids`, which has room
// for n_ctx, and the checksums of their whole pages into KvSwap::checks: 0 where nothing is kept, or of something else.
// DropKept() makes it nothing. All fail by I/O, ReadKept() with kCorrupt for a damaged one.
Result<void> WriteKept(const KvSwap& swap, const KeptIdentity& identity, uint32_t num_layers,
                       std::span<const TokenId> ids, std::span<std::byte> buffer, Crc32c crc32c);
Result<uint32_t> ReadKept(const KvSwap& swap, const KeptIdentity& identity, uint32_t num_layers, std::span<TokenId> ids,
                          std::span<std::byte> buffer, Crc32c crc32c);
Result<void> DropKept(const KvSwap& swap, std::span<std::byte> buffer);

}  // namespace thimble::model

#endif  // THIMBLE_ENGINE_MODEL_KV_SWAP_H_
