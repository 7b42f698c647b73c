// What a person's terminal can do.
#ifndef THIMBLE_HOST_SUPPORT_TERMINAL_H_
#define THIMBLE_HOST_SUPPORT_TERMINAL_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace thimble::host {

enum class TextStream { kOutput, kError };

bool IsTerminal(TextStream stream);

// Columns for a page of text that goes to standard output: the terminal's, from 60 to the most; the most where it is
// none.
inline constexpr size_t kMaxPageColumns = 100;
size_t PageColumns();

// Whether the terminal of this stream understands ECMA-48: outside Windows, unless the environment has no TERM or
// TERM=dumb.
bool TerminalKnowsColors(TextStream stream);

// Whether colours may be used there: a terminal that knows them, unless the environment has NO_COLOR (no-color.org).
bool HasColors(TextStream stream);

enum class Style { kBold, kRed, kYellow };

// `text` in that style where the stream has colours, else as it is.
std::string Styled(std::string_view text, Style style, TextStream stream);

// `text` in lines of at most `columns`, broken at spaces; each but the first begins with `indent` spaces, which count.
// Line ends in the text stay. A word longer than a line has a line of its own.
std::string Wrapped(std::string_view text, size_t columns, size_t indent);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_TERMINAL_H_
