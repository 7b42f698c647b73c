#include "engine/model/kv_swap.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace thimble::model {
namespace {

constexpr uint32_t kKeptMagic = 0x504b4854;  // "THKP"
constexpr uint32_t kKeptVersion = 1;

// The first bytes of what is kept, little-endian as it lies there.
struct KeptHeader {
  uint32_t magic = kKeptMagic;
  uint32_t version = kKeptVersion;
  KeptIdentity identity;
  uint32_t num_ids = 0;
  uint32_t payload_check = 0;  // CRC-32C of ids and checksums
  uint32_t header_check = 0;   // of what is before it
  uint32_t zero = 0;
};
static_assert(sizeof(KeptHeader) == 48);

uint32_t HeaderCheck(const KeptHeader& header, Crc32c crc32c) {
  return crc32c(0, reinterpret_cast<const std::byte*>(&header), offsetof(KeptHeader, header_check));
}

uint64_t PayloadBytes(uint32_t pages, uint32_t n_ctx, uint32_t num_layers) {
  return (n_ctx + uint64_t{pages} * num_layers * 2) * sizeof(uint32_t);
}

constexpr uint64_t RoundUp(uint64_t bytes) {
  return (bytes + storage::kSwapHeaderUsed - 1) / storage::kSwapHeaderUsed * storage::kSwapHeaderUsed;
}

// Checksums of the whole pages of so many positions.
std::span<uint32_t> ChecksOf(const KvSwap& swap, uint32_t num_layers, size_t num_ids) {
  return swap.checks.first(num_ids / swap.layout.page_positions * num_layers * 2);
}

}  // namespace

uint64_t SwapLayout::FileBytes(uint32_t pages, uint32_t n_ctx, uint32_t num_layers) const {
  return KeptAt(pages) + storage::kSwapHeaderUsed + RoundUp(PayloadBytes(pages, n_ctx, num_layers));
}

Result<void> WriteKept(const KvSwap& swap, const KeptIdentity& identity, uint32_t num_layers,
                       std::span<const TokenId> ids, std::span<std::byte> buffer, Crc32c crc32c) {
  const std::span<const std::byte> parts[] = {std::as_bytes(ids),
                                              std::as_bytes(ChecksOf(swap, num_layers, ids.size()))};
  KeptHeader header = {.identity = identity, .num_ids = static_cast<uint32_t>(ids.size())};
  for (const auto& part : parts) header.payload_check = crc32c(header.payload_check, part.data(), part.size());
  header.header_check = HeaderCheck(header, crc32c);
  // What it consists of first: a header means that all is there.
  uint64_t at = swap.layout.KeptAt(swap.pages) + storage::kSwapHeaderUsed;
  const size_t room = buffer.size() / storage::kSwapHeaderUsed * storage::kSwapHeaderUsed;
  size_t held = 0;
  const auto flush = [&]() -> Result<void> {
    const auto bytes = static_cast<size_t>(RoundUp(held));
    std::fill(buffer.begin() + static_cast<ptrdiff_t>(held), buffer.begin() + static_cast<ptrdiff_t>(bytes),
              std::byte{0});
    THIMBLE_TRY(swap.file->Write(at, buffer.first(bytes)));
    at += bytes;
    held = 0;
    return {};
  };
  for (std::span<const std::byte> part : parts) {
    while (!part.empty()) {
      const size_t n = std::min(part.size(), room - held);
      std::ranges::copy(part.first(n), buffer.begin() + static_cast<ptrdiff_t>(held));
      held += n;
      part = part.subspan(n);
      if (held == room) THIMBLE_TRY(flush());
    }
  }
  if (held != 0) THIMBLE_TRY(flush());
  std::ranges::fill(buffer.first(storage::kSwapHeaderUsed), std::byte{0});
  std::memcpy(buffer.data(), &header, sizeof(header));
  return swap.file->Write(swap.layout.KeptAt(swap.pages), buffer.first(storage::kSwapHeaderUsed));
}

Result<uint32_t> ReadKept(const KvSwap& swap, const KeptIdentity& identity, uint32_t num_layers, std::span<TokenId> ids,
                          std::span<std::byte> buffer, Crc32c crc32c) {
  const uint64_t at = swap.layout.KeptAt(swap.pages);
  storage::FileReader& reader = swap.file->reader();
  KeptHeader header;
  THIMBLE_TRY(storage::ReadBytes(reader, at, std::as_writable_bytes(std::span(&header, 1)), buffer));
  if (header.magic != kKeptMagic || header.version != kKeptVersion ||
      header.header_check != HeaderCheck(header, crc32c) ||
      std::memcmp(&header.identity, &identity, sizeof(identity)) != 0) {
    return 0;
  }
  constexpr Error kDamaged = {.code = Code::kCorrupt,
                              .what = "the conversation that the swap file keeps is damaged: begin another one"};
  if (header.num_ids > ids.size() || header.num_ids / swap.layout.page_positions > swap.pages) return Fail(kDamaged);
  const std::span<std::byte> parts[] = {std::as_writable_bytes(ids.first(header.num_ids)),
                                        std::as_writable_bytes(ChecksOf(swap, num_layers, header.num_ids))};
  uint64_t from = at + storage::kSwapHeaderUsed;
  uint32_t check = 0;
  for (const auto& part : parts) {
    THIMBLE_TRY(storage::ReadBytes(reader, from, part, buffer));
    check = crc32c(check, part.data(), part.size());
    from += part.size();
  }
  if (check != header.payload_check) return Fail(kDamaged);
  return header.num_ids;
}

Result<void> DropKept(const KvSwap& swap, std::span<std::byte> buffer) {
  std::ranges::fill(buffer.first(storage::kSwapHeaderUsed), std::byte{0});
  return swap.file->Write(swap.layout.KeptAt(swap.pages), buffer.first(storage::kSwapHeaderUsed));
}

}  // namespace thimble::model
