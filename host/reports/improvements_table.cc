#include "host/reports/improvements_table.h"

#include <fmt/format.h>

#include "host/support/visible_text.h"

namespace thimble::host {

std::string ImprovementsText(const std::vector<Improvement>& improvements) {
  std::string out = fmt::format("{:69} {:>22} {:>13}\n", "modelled, each with all above it", "tok/s", "ms of a token");
  for (const Improvement& improvement : improvements) {
    if (!improvement.refused.empty()) {
      out += fmt::format("{:69} not on this board: {}\n", improvement.what, Visible(improvement.refused));
      continue;
    }
    out += fmt::format("{:69} {:>22} {:>13.1f}\n", improvement.what, RangeText(improvement.simulated.tok_per_s),
                       improvement.simulated.ms_of_token());
  }
  return out;
}

}  // namespace thimble::host
