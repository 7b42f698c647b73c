#include "host/commands/choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "host/support/errors.h"
#include "host/support/suggestion.h"

namespace thimble::host {
CLI::Validator Choice(const std::vector<std::string>& words) {
  return CLI::Validator(
      [words](std::string& value) -> std::string {
        const std::string typed = CLI::ignore_case(value);
        if (std::ranges::find(words, typed) != words.end()) {
          value = typed;
          return "";
        }
        return fmt::format("'{}' is none of {}{}", Quote(value), fmt::join(words, ", "), DidYouMean(typed, words));
      },
      fmt::format("{{{}}}", fmt::join(words, ",")));
}

}  // namespace thimble::host
