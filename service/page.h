// The page at "/": one file that needs no network but the service.
#ifndef THIMBLE_SERVICE_PAGE_H_
#define THIMBLE_SERVICE_PAGE_H_

#include <string_view>

namespace thimble::service {

// HTML in UTF-8; static lifetime.
std::string_view PageHtml();

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_PAGE_H_
