#ifndef THIMBLE_HOST_SUPPORT_HTML_TEXT_H_
#define THIMBLE_HOST_SUPPORT_HTML_TEXT_H_

#include <string>
#include <string_view>

namespace thimble::host {

// Any bytes as text of an HTML page, between tags or within a quoted attribute: nothing in it is markup (HTML Living
// Standard, 13.1), and the page stays well-formed UTF-8. Control characters but the line feed, and bytes that are not
// UTF-8, become U+FFFD.
std::string HtmlText(std::string_view text);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_HTML_TEXT_H_
