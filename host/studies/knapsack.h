// The best choice within a budget.
#ifndef THIMBLE_HOST_STUDIES_KNAPSACK_H_
#define THIMBLE_HOST_STUDIES_KNAPSACK_H_

#include <cstdint>
#include <span>
#include <vector>

namespace thimble::host {

struct KnapsackItem {
  uint64_t value = 0;
  double weight = 0;  // finite; 0 or less takes no room
};

// The items whose values together are the most, the sum of their weights being at most `budget`: one flag for each.
// To within a thousandth of the budget for each item, to which weights are rounded up. Never heavier than `budget`; of
// equal values the lighter choice. Dynamic programming (R. Bellman, 1957), for hundreds of items.
std::vector<bool> MostValue(std::span<const KnapsackItem> items, double budget);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_KNAPSACK_H_
