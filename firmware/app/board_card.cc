#include "firmware/app/board_card.h"

#include <algorithm>
#include <array>
#include <span>

#include "firmware/app/measure.h"

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

namespace {

// Into memory of whole sectors.
Result<void> MeasureRung(LadderCard& card, std::span<std::byte> buffer, Machine& machine, CardTrial& trial) {
  const uint64_t before_us = machine.NowUs();
  THIMBLE_TRY(card.ReadThrough(buffer, kMeasuredBytes));
  const uint64_t us = std::max<uint64_t>(machine.NowUs() - before_us, 1);
  std::array<uint64_t, kLatencyReads> sector_us;
  THIMBLE_TRY(TimeReads(machine, card.identity().size_bytes / kSectorBytes, /*is_random=*/true, sector_us,
                        [&](uint64_t place) { return card.ReadNow(place, buffer.first(kSectorBytes)); }));
  const Spread spread = SpreadOf(sector_us);
  trial.bytes_per_s = kMeasuredBytes * 1000000 / us;
  trial.sector_us = spread.typical;
  trial.worst_sector_us = spread.worst;
  return {};
}

}  // namespace

bool TryRung(LadderCard& card, uint32_t rung, Machine& machine, CardTrial& trial) {
  if (rung >= card.rungs().size()) return false;
  trial = {.mode = card.rungs()[rung].name, .result = card.Try(rung)};
  if (!trial.result) return true;
  Arena& arena = ArenaOf(machine.arenas(), Region::kSramDma);
  const uint64_t mark = arena.used_bytes();
  const uint64_t bytes = std::min(kReadBytes, arena.capacity_bytes() - mark) / kSectorBytes * kSectorBytes;
  if (bytes == 0) return true;
  const Result<std::span<std::byte>> buffer = arena.Take<std::byte>(bytes);
  trial.result = buffer ? MeasureRung(card, *buffer, machine, trial) : std::unexpected(buffer.error());
  arena.Release(mark);
  return true;
}

}  // namespace thimble::firmware
