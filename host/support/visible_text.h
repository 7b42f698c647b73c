// Text from elsewhere, as a terminal may be given it.
#ifndef THIMBLE_HOST_SUPPORT_VISIBLE_TEXT_H_
#define THIMBLE_HOST_SUPPORT_VISIBLE_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace thimble::host {

// Whether line feeds and tabs belong to the text, or would break the line that the text stands in.
enum class Lines { kOne, kMany };

// `text` with nothing in it that a terminal obeys: control characters (C0, DEL, and C1 in UTF-8) and bytes that are not
// UTF-8 as \x1b, the characters that turn the direction of others (Unicode Standard Annex 9, section 2: embeddings,
// overrides, isolates) as \u202e. All else stays, backslashes too, so that what is visible already comes out the same.
std::string Visible(std::string_view text, Lines lines = Lines::kOne);

// A JSON text with the same values and no such character: they stand in strings only, and become \u escapes there. What
// is not UTF-8 is for whoever made the text.
std::string VisibleJson(std::string_view json);

// How many of the first `max_bytes` of `text` are whole characters.
size_t WholeCharacters(std::string_view text, size_t max_bytes);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_VISIBLE_TEXT_H_
