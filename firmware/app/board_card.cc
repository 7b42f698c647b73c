#include "firmware/app/board_card.h"

#include <algorithm>

namespace thimble::firmware {
namespace {

constexpr uint64_t kReadBytes = 64 * 1024;
constexpr uint64_t kMeasuredBytes = 2 * 1024 * 1024;

}  // namespace

CardInfo InfoOf(const LadderCard& card) {
  CardInfo info;
  if (!card.is_mounted()) return info;
  info.mode = card.rung().name;
  std::ranges::copy(card.identity().name, info.name);
  info.size_bytes = card.identity().size_bytes;
  info.retries = card.failures();
  info.reinitialised = card.reinitialised();
  return info;
}

bool TryRung(LadderCard& card, uint32_t rung, Arenas arenas, const Machine& clock, CardTrial& trial) {
  if (rung >= card.rungs().size()) return false;
  trial = {.mode = card.rungs()[rung].name, .result = card.Try(rung), .bytes_per_s = 0};
  if (!trial.result) return true;
  Arena& arena = ArenaOf(arenas, Region::kSramDma);
  const uint64_t mark = arena.used_bytes();
  const uint64_t bytes = std::min(kReadBytes, arena.capacity_bytes() - mark) / kSectorBytes * kSectorBytes;
  if (bytes == 0) return true;
  const Result<std::span<std::byte>> buffer = arena.Take<std::byte>(bytes);
  const uint64_t before_us = clock.NowUs();
  trial.result = buffer ? card.ReadThrough(*buffer, kMeasuredBytes) : std::unexpected(buffer.error());
  const uint64_t us = std::max<uint64_t>(clock.NowUs() - before_us, 1);
  arena.Release(mark);
  if (trial.result) trial.bytes_per_s = kMeasuredBytes * 1000000 / us;
  return true;
}

}  // namespace thimble::firmware
