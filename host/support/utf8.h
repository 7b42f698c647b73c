#ifndef THIMBLE_HOST_SUPPORT_UTF8_H_
#define THIMBLE_HOST_SUPPORT_UTF8_H_

#include <string_view>

namespace thimble::host {

// Whether `text` is well-formed UTF-8 (Unicode Standard 15.0, table 3-7).
bool IsUtf8(std::string_view text);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_UTF8_H_
