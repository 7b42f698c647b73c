#include "host/weights.h"

#include <fmt/format.h>

#include <cmath>

namespace thimble::host {

Status CheckFinite(std::span<const float> values, std::string_view path, std::string_view name,
                   uint64_t first_element) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return Sentence(fmt::format("{}: element {} of {} is {}; a model with such weights cannot run.", path,
                                first_element + i, name, std::isnan(values[i]) ? "not a number" : "infinite"));
  }
  return {};
}

}  // namespace thimble::host
