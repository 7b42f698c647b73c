// GPT-2's byte alphabet: how files spell the bytes of byte-level BPE's tokens, one printable character for each byte
// (openai/gpt-2, src/encoder.py, bytes_to_unicode). Printable bytes of Latin-1 stand for themselves; the others, in
// ascending order, are U+0100 to U+0143.
#ifndef THIMBLE_ENGINE_TEXT_BYTE_ALPHABET_H_
#define THIMBLE_ENGINE_TEXT_BYTE_ALPHABET_H_

#include <cstdint>

namespace thimble::text {

// The byte that a code point stands for; -1 for one outside the alphabet.
constexpr int ByteOfLetter(uint32_t code_point) {
  if (code_point >= 0x100) {
    if (code_point <= 0x120) return static_cast<int>(code_point - 0x100);         // 00 to 20
    if (code_point <= 0x142) return static_cast<int>(code_point - 0x121 + 0x7F);  // 7F to A0
    return code_point == 0x143 ? 0xAD : -1;
  }
  const bool printable = (code_point >= 0x21 && code_point <= 0x7E) || (code_point >= 0xA1 && code_point != 0xAD);
  return printable ? static_cast<int>(code_point) : -1;
}

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_BYTE_ALPHABET_H_
