#include "engine/text/charsmap.h"

#include <algorithm>
#include <cstring>

namespace thimble::text {
namespace {

// A unit of the double array.
constexpr uint32_t kIsValue = uint32_t{1} << 31;
constexpr bool HasValue(uint32_t unit) { return (unit >> 8 & 1) != 0; }
constexpr uint32_t Label(uint32_t unit) { return unit & (kIsValue | 0xFF); }
constexpr uint32_t Offset(uint32_t unit) { return unit >> 10 << ((unit & uint32_t{1} << 9) >> 6); }

// 0: the trie does not lie inside the map.
constexpr uint32_t NumUnits(uint32_t trie_bytes, uint32_t bytes) {
  const bool is_sound = trie_bytes % sizeof(uint32_t) == 0 && trie_bytes <= bytes - sizeof(uint32_t);
  return is_sound ? trie_bytes / sizeof(uint32_t) : 0;
}

}  // namespace

bool IsCharsmap(std::span<const std::byte> map) {
  if (map.empty()) return true;
  uint32_t trie_bytes = 0;
  if (map.size() <= sizeof(trie_bytes) || map.size() > formats::kMaxCharsmapBytes) return false;
  std::memcpy(&trie_bytes, map.data(), sizeof(trie_bytes));
  const uint32_t num_units = NumUnits(trie_bytes, static_cast<uint32_t>(map.size()));
  if (num_units == 0) return false;
  uint32_t length = 0;
  for (const std::byte byte : map.subspan((size_t{1} + num_units) * sizeof(uint32_t))) {
    length = byte == std::byte{0} ? 0 : length + 1;
    if (length > Charsmap::kMaxStringBytes) return false;
  }
  return length == 0;
}

Charsmap::Charsmap(const Pieces& pieces, uint32_t bytes) : pieces_(&pieces), bytes_(bytes) {
  if (bytes <= sizeof(uint32_t)) return;
  num_units_ = NumUnits(pieces.CharsmapNumber(0, sizeof(uint32_t)), bytes);
}

Mapped Charsmap::Find(std::string_view text) const {
  Mapped mapped;
  if (num_units_ == 0) return mapped;
  const auto unit_at = [&](uint32_t i) {
    return i < num_units_ ? pieces_->CharsmapNumber((1 + i) * sizeof(uint32_t), sizeof(uint32_t)) : kIsValue;
  };
  uint32_t node = Offset(unit_at(0));
  for (uint32_t i = 0; i < std::min<size_t>(text.size(), kMaxKeyBytes); ++i) {
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    const uint32_t unit = unit_at(node);
    if (Label(unit) != byte) break;
    node ^= Offset(unit);
    if (HasValue(unit)) mapped = {i + 1, unit_at(node) & ~kIsValue};
  }
  return mapped;
}

char Charsmap::Byte(uint32_t string, uint32_t i) const {
  const uint64_t offset = (uint64_t{1} + num_units_) * sizeof(uint32_t) + string + i;
  if (i >= kMaxStringBytes || offset >= bytes_) return 0;
  return static_cast<char>(pieces_->CharsmapNumber(static_cast<uint32_t>(offset), 1));
}

}  // namespace thimble::text
