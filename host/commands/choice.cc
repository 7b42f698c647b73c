#include "host/commands/choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "host/support/errors.h"

namespace thimble::host {
namespace {

// Levenshtein's distance: letters to add, to leave out or to change.
size_t Distance(const std::string& a, const std::string& b) {
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

// The word that `typed` begins or nearly is; null if there is none.
const std::string* Meant(const std::string& typed, const std::vector<std::string>& words) {
  constexpr size_t kMaxDistance = 2;
  if (typed.empty() || typed.size() > 80) return nullptr;
  const auto begun = std::ranges::find_if(words, [&](const std::string& word) { return word.starts_with(typed); });
  if (begun != words.end()) return &*begun;
  const auto nearest =
      std::ranges::min_element(words, {}, [&](const std::string& word) { return Distance(typed, word); });
  const size_t distance = Distance(typed, *nearest);
  return distance <= kMaxDistance && distance < nearest->size() ? &*nearest : nullptr;
}

}  // namespace

CLI::Validator Choice(const std::vector<std::string>& words) {
  return CLI::Validator(
      [words](std::string& value) -> std::string {
        const std::string typed = CLI::ignore_case(value);
        if (std::ranges::find(words, typed) != words.end()) {
          value = typed;
          return "";
        }
        const std::string* meant = Meant(typed, words);
        return fmt::format("'{}' is none of {}{}", Quote(value), fmt::join(words, ", "),
                           meant == nullptr ? "" : fmt::format("; did you mean {}?", *meant));
      },
      fmt::format("{{{}}}", fmt::join(words, ",")));
}

}  // namespace thimble::host
