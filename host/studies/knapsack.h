// The best choice within a budget.
#ifndef THIMBLE_HOST_STUDIES_KNAPSACK_H_
#define THIMBLE_HOST_STUDIES_KNAPSACK_H_

#include <cstdint>
#include <span>
#include <vector>

namespace thimble::host {

struct KnapsackItem {
  uint64_t value = 0;
  double weight = 0;  // 0 or less takes no room; one that is not a finite number is never chosen
};

// The items whose values together are the most, the sum of their weights being at most `budget`: one flag for each.
// To within a thousandth of the budget for each item, to which weights are rounded up. Never heavier than `budget`; of
// equal values the lighter choice. Within an infinite budget, all that may be chosen; nothing, within one that is below
// 0 or no number. Dynamic programming (R. Bellman, 1957), for hundreds of items.
std::vector<bool> MostValue(std::span<const KnapsackItem> items, double budget);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_KNAPSACK_H_
