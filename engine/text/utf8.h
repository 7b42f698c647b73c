// One step through bytes that may be UTF-8 (Unicode Standard 15.0, table 3-7).
#ifndef THIMBLE_ENGINE_TEXT_UTF8_H_
#define THIMBLE_ENGINE_TEXT_UTF8_H_

#include <cstdint>
#include <string_view>

namespace thimble::text {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD
inline constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";           // U+2581, SentencePiece's visible space

enum class Utf8 : uint8_t {
  kWhole,       // the first `bytes` bytes are one character
  kIncomplete,  // all bytes are the beginning of a character that needs more
  kIllFormed,   // the first `bytes` bytes are a maximal ill-formed subpart
};

struct Utf8Step {
  Utf8 kind;
  uint8_t bytes;  // 1 to 4
};

// What `text`, which must not be empty, begins with.
Utf8Step NextUtf8(std::string_view text);

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_UTF8_H_
