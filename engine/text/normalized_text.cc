#include "engine/text/normalized_text.h"

#include "engine/text/user_defined.h"
#include "engine/text/utf8.h"

namespace thimble::text {

NormalizedText::NormalizedText(const VocabularyFacts& facts, const Pieces& pieces, std::string_view text)
    : facts_(facts),
      pieces_(pieces),
      text_(text),
      charsmap_(pieces, facts.ref.charsmap_bytes),
      removes_spaces_(facts.ref.remove_extra_whitespaces) {}

NormalizedText::Cursor NormalizedText::Begin() const {
  Cursor cursor;
  if (facts_.ref.add_space_prefix && !text_.empty()) cursor.num_spaces_ = 1;
  cursor.after_space_ = removes_spaces_;
  return cursor;
}

CompactCharacter NormalizedText::First(std::string_view text) const {
  if (!facts_.ref.is_byte_level()) return FirstCompact(text, facts_.ref.escape_whitespaces);
  const Utf8Step step = NextUtf8(text);
  if (step.kind == Utf8::kWhole) return {.text_bytes = step.bytes, .bytes = text.substr(0, step.bytes)};
  return {.text_bytes = 1, .bytes = kReplacementCharacter, .well_formed = false};
}

// In the text as it stands, where spaces are not U+2581 yet; the longest.
uint32_t NormalizedText::UserDefinedBytes(std::string_view text) const {
  uint32_t end = 0;  // of the characters that were looked at
  uint32_t matched = 0;
  std::string_view bytes;
  ForEachUserDefined(
      facts_, pieces_,
      [&](uint32_t) {
        if (bytes.empty() && end < text.size() && text[end] != ' ') {
          const CompactCharacter character = First(text.substr(end));
          end += character.text_bytes;
          if (character.well_formed) bytes = character.bytes;
        }
        if (bytes.empty()) return -1;
        const int byte = static_cast<uint8_t>(bytes[0]);
        bytes.remove_prefix(1);
        return byte;
      },
      [&](TokenId, uint32_t) { matched = end; });
  return matched;
}

bool NormalizedText::FindChunk(Cursor& at) const {
  for (;;) {
    if (at.chunk_bytes_ == 0) {
      if (at.chunk_ == text_.size()) return false;
      const std::string_view rest = text_.substr(at.chunk_);
      at.string_ = Cursor::kAsItIs;
      at.done_ = 0;
      if (charsmap_.has_trie() || removes_spaces_) {
        at.chunk_bytes_ = UserDefinedBytes(rest);
        if (const Mapped mapped = charsmap_.Find(rest); at.chunk_bytes_ == 0 && mapped.text_bytes != 0) {
          at.chunk_bytes_ = mapped.text_bytes;
          at.string_ = mapped.string;
        }
      }
      if (at.chunk_bytes_ == 0) at.chunk_bytes_ = First(rest).text_bytes;
      if (at.string_ == Cursor::kAsItIs) {
        while (at.after_space_ && at.done_ < at.chunk_bytes_ && rest[at.done_] == ' ') ++at.done_;
      } else {
        while (at.after_space_ && charsmap_.Byte(at.string_, at.done_) == ' ') ++at.done_;
      }
    }
    const bool has_more =
        at.string_ == Cursor::kAsItIs ? at.done_ < at.chunk_bytes_ : charsmap_.Byte(at.string_, at.done_) != 0;
    if (has_more) return true;
    at.chunk_ += at.chunk_bytes_;
    at.chunk_bytes_ = 0;
  }
}

std::string_view NormalizedText::Next(Cursor& at) const {
  while (at.num_spaces_ == 0 || removes_spaces_) {
    if (!FindChunk(at)) return {};
    std::string_view rest;
    if (at.string_ == Cursor::kAsItIs) {
      rest = text_.substr(at.chunk_ + at.done_, at.chunk_bytes_ - at.done_);
    } else {
      uint32_t n = 0;
      for (; n < at.character_.size(); ++n) {
        at.character_[n] = charsmap_.Byte(at.string_, at.done_ + n);
        if (at.character_[n] == 0) break;
      }
      rest = {at.character_.data(), n};
    }
    // Nothing is there once the card cannot be read.
    if (rest.empty()) return {};
    const CompactCharacter character = First(rest);
    const bool is_space = character.bytes == " ";
    // They are given when something else comes.
    if (removes_spaces_ && !is_space && at.num_spaces_ != 0) break;
    at.after_space_ = removes_spaces_ && rest[0] == ' ';
    at.done_ += character.text_bytes;
    if (removes_spaces_ && is_space) {
      ++at.num_spaces_;
      continue;
    }
    const std::string_view bytes = character.bytes.substr(at.skipped_);
    at.skipped_ = 0;
    return bytes;
  }
  --at.num_spaces_;
  return " ";
}

bool NormalizedText::Copy(Cursor at, std::span<char> out, uint32_t& bytes) const {
  bytes = 0;
  for (;;) {
    const std::string_view character = Next(at);
    if (character.empty()) return true;
    if (out.size() - bytes < character.size()) return false;
    for (const char byte : character) out[bytes++] = byte;
  }
}

void NormalizedText::Skip(Cursor& at, size_t bytes) const {
  while (bytes != 0) {
    const Cursor before = at;
    const size_t size = Next(at).size();
    if (size == 0) return;
    if (size > bytes) {
      at = before;
      at.skipped_ = static_cast<uint8_t>(at.skipped_ + bytes);
      return;
    }
    bytes -= size;
  }
}

}  // namespace thimble::text
