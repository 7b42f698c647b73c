#include "host/formats/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>

namespace thimble::host {

std::string ByteTokenName(uint8_t byte) { return fmt::format("<0x{:02X}>", byte); }

void Vocabulary::AddEnd(TokenId id) {
  const bool is_there = id == eos || id == bos || std::ranges::find(ends, id) != ends.end();
  if (!is_there && ends.size() < formats::kMaxEndTokens) ends.push_back(id);
}

void Vocabulary::AddNamedEnds() {
  for (TokenId id = 0; id < tokens.size(); ++id) {
    if (types[id] == TokenType::kControl && formats::IsEndTokenName(tokens[id])) AddEnd(id);
  }
}

}  // namespace thimble::host
