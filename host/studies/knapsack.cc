#include "host/studies/knapsack.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace thimble::host {
namespace {

// How finely a budget is divided.
constexpr size_t kParts = 1024;

}  // namespace

std::vector<bool> MostValue(std::span<const KnapsackItem> items, double budget) {
  std::vector<bool> chosen(items.size(), false);
  if (!(budget >= 0)) return chosen;
  // best[i][room]: the most that the first i items are worth within so many parts of the budget.
  const auto weight = [&](const KnapsackItem& item) {
    if (!std::isfinite(item.weight)) return kParts + 1;
    if (item.weight <= 0) return size_t{0};
    const double parts = budget > 0 ? std::ceil(item.weight / budget * kParts) : kParts + 1.0;
    return static_cast<size_t>(std::min(parts, kParts + 1.0));
  };
  std::vector<std::vector<uint64_t>> best(items.size() + 1, std::vector<uint64_t>(kParts + 1, 0));
  for (size_t i = 0; i < items.size(); ++i) {
    const size_t w = weight(items[i]);
    for (size_t room = 0; room <= kParts; ++room) {
      best[i + 1][room] = best[i][room];
      if (w <= room) best[i + 1][room] = std::max(best[i][room], best[i][room - w] + items[i].value);
    }
  }
  size_t room = kParts;
  while (room > 0 && best[items.size()][room - 1] == best[items.size()][room]) --room;
  for (size_t i = items.size(); i-- > 0;) {
    if (best[i + 1][room] == best[i][room]) continue;
    chosen[i] = true;
    room -= weight(items[i]);
  }
  return chosen;
}

}  // namespace thimble::host
