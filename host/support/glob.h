// Patterns of names, as shells have them.
#ifndef THIMBLE_HOST_SUPPORT_GLOB_H_
#define THIMBLE_HOST_SUPPORT_GLOB_H_

#include <string_view>

namespace thimble::host {

// Whether the whole text is what the pattern means: * for any letters, ? for one, [ab-z] for one of these, [!ab] for
// any other, and what follows a backslash as it is. As POSIX's fnmatch() without flags, in bytes, without its classes.
bool Matches(std::string_view pattern, std::string_view text);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_GLOB_H_
