// The style and the script of the page that `thimble simulate --html` writes: host/reports/page/*.
#ifndef THIMBLE_HOST_REPORTS_PAGE_FILES_H_
#define THIMBLE_HOST_REPORTS_PAGE_FILES_H_

#include <string_view>

namespace thimble::host {

extern const std::string_view kPageStyle;  // these in a source that CMake makes
extern const std::string_view kPageScript;

}  // namespace thimble::host

#endif  // THIMBLE_HOST_REPORTS_PAGE_FILES_H_
