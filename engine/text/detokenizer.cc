#include "engine/text/detokenizer.h"

#include <algorithm>

#include "engine/text/utf8.h"

namespace thimble::text {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool at_start, std::span<char> memory)
    : tokenizer_(&tokenizer),
      memory_(memory),
      drop_prefix_(at_start && tokenizer.escape_whitespaces() &&
                   (tokenizer.add_space_prefix() || tokenizer.remove_extra_whitespaces())),
      at_beginning_(drop_prefix_) {}

std::string_view Detokenizer::Push(TokenId id) {
  std::string_view piece = tokenizer_->Piece(id);
  if (piece.empty()) return {};
  if (at_beginning_) {
    if (piece[0] == ' ' && tokenizer_->Type(id) != TokenType::kByte) piece.remove_prefix(1);
    // With extra spaces removed, all that come before a text go.
    at_beginning_ = piece.empty() && tokenizer_->remove_extra_whitespaces();
  }
  const bool unescapes = !tokenizer_->escape_whitespaces() && tokenizer_->Type(id) != TokenType::kByte;
  size_t size = 0;
  const auto append = [&](std::string_view bytes) {
    const size_t n = std::min(bytes.size(), memory_.size() - size);
    std::copy_n(bytes.begin(), n, memory_.begin() + static_cast<ptrdiff_t>(size));
    size += n;
  };
  for (char byte : piece) {
    pending_[num_pending_++] = byte;
    while (num_pending_ != 0) {
      const Utf8Step step = NextUtf8({pending_.data(), num_pending_});
      if (step.kind == Utf8::kIncomplete) break;
      const std::string_view character(pending_.data(), step.bytes);
      const bool is_space = unescapes && character == kSpaceSymbol;
      append(step.kind != Utf8::kWhole ? kReplacementCharacter : is_space ? std::string_view(" ") : character);
      std::copy(pending_.begin() + step.bytes, pending_.begin() + num_pending_, pending_.begin());
      num_pending_ -= step.bytes;
    }
  }
  return {memory_.data(), size};
}

std::string_view Detokenizer::Flush() {
  const bool incomplete = num_pending_ != 0;
  num_pending_ = 0;
  at_beginning_ = drop_prefix_;
  return incomplete ? kReplacementCharacter : std::string_view();
}

}  // namespace thimble::text
