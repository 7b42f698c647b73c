// What each improvement is worth, as a table for people.
#ifndef THIMBLE_HOST_REPORTS_IMPROVEMENTS_TABLE_H_
#define THIMBLE_HOST_REPORTS_IMPROVEMENTS_TABLE_H_

#include <string>
#include <vector>

#include "host/studies/improvements.h"

namespace thimble::host {

std::string ImprovementsText(const std::vector<Improvement>& improvements);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_REPORTS_IMPROVEMENTS_TABLE_H_
