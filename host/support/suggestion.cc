#include "host/support/suggestion.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace thimble::host {
namespace {

// Levenshtein's distance: letters to add, to leave out or to change.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

const std::string* Meant(std::string_view typed, std::span<const std::string> words) {
  constexpr size_t kMaxDistance = 2;
  if (typed.empty() || typed.size() > 80 || words.empty()) return nullptr;
  const auto begun = std::ranges::find_if(words, [&](const std::string& word) { return word.starts_with(typed); });
  if (begun != words.end()) return &*begun;
  const auto nearest =
      std::ranges::min_element(words, {}, [&](const std::string& word) { return Distance(typed, word); });
  const size_t distance = Distance(typed, *nearest);
  return distance <= kMaxDistance && distance < nearest->size() ? &*nearest : nullptr;
}

std::string DidYouMean(std::string_view typed, std::span<const std::string> words) {
  const std::string* const meant = Meant(typed, words);
  return meant == nullptr ? "" : fmt::format("; did you mean {}?", *meant);
}

}  // namespace thimble::host
