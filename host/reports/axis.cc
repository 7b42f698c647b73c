#include "host/reports/axis.h"

#include <cmath>
#include <initializer_list>

namespace thimble::host {

double TickStep(double range, int most) {
  const double least = range / most;
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least) return factor * power;
  }
  return 10 * power;
}

}  // namespace thimble::host
