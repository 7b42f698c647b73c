// Axes of plots.
#ifndef THIMBLE_HOST_REPORTS_AXIS_H_
#define THIMBLE_HOST_REPORTS_AXIS_H_

namespace thimble::host {

// The step of an axis over `range`, above 0, that has at most `most` of them: 1, 2 or 5 times a power of ten.
double TickStep(double range, int most);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_REPORTS_AXIS_H_
