// A comparison as a picture.
#ifndef THIMBLE_HOST_REPORTS_COMPARISON_PLOT_H_
#define THIMBLE_HOST_REPORTS_COMPARISON_PLOT_H_

#include <string>

#include "host/studies/comparison.h"

namespace thimble::host {

// How far each row is from float32, against how fast it is. One SVG file that asks for nothing else, for light and dark
// grounds.
std::string ComparisonPlot(const Comparison& comparison);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_REPORTS_COMPARISON_PLOT_H_
