// Classes of code points, as far as pre-tokenizers ask for them: from a table of Unicode 15.0 that
// make_unicode_table.py makes.
#ifndef THIMBLE_ENGINE_TEXT_UNICODE_CLASSES_H_
#define THIMBLE_ENGINE_TEXT_UNICODE_CLASSES_H_

#include <cstdint>
#include <string_view>

namespace thimble::text {

// The numbers are those of the table.
enum class UnicodeClass : uint8_t {
  kOther = 0,
  kLetter = 1,       // general category L
  kCasedLetter = 2,  // of those, what DeepSeek LLM's pre-tokenizer lists: see make_unicode_table.py
  kNumber = 3,       // N
  kPunctuation = 4,  // P
  kSpace = 5,        // White_Space
};

// kOther for what is not assigned in that version, and above U+10FFFF.
UnicodeClass ClassOf(uint32_t code_point);

// What a text begins with.
struct CodePoint {
  uint32_t value = 0;  // U+FFFD for a byte that is no part of a character
  uint32_t bytes = 0;  // of the text; 1 for such a byte
};
CodePoint FirstCodePoint(std::string_view text);  // which must not be empty

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_UNICODE_CLASSES_H_
