// A comparison as a table for people.
#ifndef THIMBLE_HOST_REPORTS_COMPARISON_TABLE_H_
#define THIMBLE_HOST_REPORTS_COMPARISON_TABLE_H_

#include <string>

#include "host/studies/comparison.h"

namespace thimble::host {

std::string ComparisonText(const Comparison& comparison);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_REPORTS_COMPARISON_TABLE_H_
