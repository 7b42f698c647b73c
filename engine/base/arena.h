// Memory of a board, region by region. After a session is open nothing allocates: every byte came from an Arena.
#ifndef THIMBLE_ENGINE_BASE_ARENA_H_
#define THIMBLE_ENGINE_BASE_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <span>
#include <type_traits>

#include "engine/base/error.h"

namespace thimble {

enum class Region : uint8_t {
  kSramDma,  // internal RAM the card's DMA can write
  kSram,     // internal RAM
  kPsram,    // external RAM behind a cache
  kFlash,    // memory-mapped flash, read-only while running
};
inline constexpr size_t kNumRegions = 4;

// "sram_dma", "sram", "psram", "flash"; static lifetime. These are the keys of `run --json`.
const char* RegionName(Region region);

// Every piece an arena hands out starts and ends on this boundary, so that sizes add up the same on every target.
inline constexpr size_t kArenaAlign = 16;
constexpr uint64_t ArenaBytes(uint64_t bytes) { return (bytes + kArenaAlign - 1) / kArenaAlign * kArenaAlign; }

// A bump allocator over one caller-owned block of memory, which must be aligned to kArenaAlign and outlive the arena
// and all that was taken from it. Never grows; not thread-safe.
class Arena {
 public:
  Arena() = default;
  Arena(Region region, std::span<std::byte> memory) : memory_(memory), region_(region) {}

  // n value-initialised objects of T. Fails with kOutOfMemory, naming the region (`{name}`), the bytes left (`have`)
  // and the bytes asked for (`need`). T needs no destructor: none is ever run.
  template <class T>
  Result<std::span<T>> Take(uint64_t n) {
    static_assert(std::is_trivially_destructible_v<T> && alignof(T) <= kArenaAlign);
    constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
    Result<std::byte*> memory = TakeBytes(n > kMax / sizeof(T) ? kMax : n * sizeof(T));
    if (!memory) return std::unexpected(memory.error());
    const auto count = static_cast<size_t>(n);
    T* first = reinterpret_cast<T*>(*memory);
    for (size_t i = 0; i < count; ++i) new (first + i) T();
    return std::span<T>(first, count);
  }

  // Bytes as they are, not written to: in Region::kFlash they may be flash. Fails as Take().
  Result<std::span<std::byte>> Reserve(uint64_t bytes) {
    Result<std::byte*> memory = TakeBytes(bytes);
    if (!memory) return std::unexpected(memory.error());
    return std::span<std::byte>(*memory, static_cast<size_t>(bytes));
  }

  // Gives back everything taken since `mark = used_bytes()` was read. For scratch that is needed only while opening.
  void Release(uint64_t mark) { used_bytes_ = mark; }

  Region region() const { return region_; }
  uint64_t used_bytes() const { return used_bytes_; }
  uint64_t peak_bytes() const { return peak_bytes_; }
  uint64_t capacity_bytes() const { return memory_.size(); }

 private:
  Result<std::byte*> TakeBytes(uint64_t bytes);

  std::span<std::byte> memory_;
  uint64_t used_bytes_ = 0;
  uint64_t peak_bytes_ = 0;
  Region region_ = Region::kSram;
};

// One arena per region, indexed by Region.
using Arenas = std::span<Arena, kNumRegions>;
inline Arena& ArenaOf(Arenas arenas, Region region) { return arenas[static_cast<size_t>(region)]; }

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_ARENA_H_
