// "Did you mean ...?"
#ifndef THIMBLE_HOST_SUPPORT_SUGGESTION_H_
#define THIMBLE_HOST_SUPPORT_SUGGESTION_H_

#include <span>
#include <string>
#include <string_view>

namespace thimble::host {

// The one of `words` that `typed` begins or nearly is; null if there is none.
const std::string* Meant(std::string_view typed, std::span<const std::string> words);

// "; did you mean WORD?", or nothing.
std::string DidYouMean(std::string_view typed, std::span<const std::string> words);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_SUGGESTION_H_
