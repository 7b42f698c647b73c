#include "engine/draft/lookup.h"

#include <algorithm>

namespace thimble::draft {

size_t Lookup::Guess(std::span<const TokenId> text, std::span<TokenId> out) {
  size_t longest = kLeastMatch - 1;
  size_t follows = 0;  // where what followed the match begins; 0: none
  for (size_t end = text.size() - 1; end > longest && longest < kMostMatch; --end) {
    size_t match = 0;
    const size_t most = std::min(end, kMostMatch);
    while (match < most && text[end - 1 - match] == text[text.size() - 1 - match]) ++match;
    if (match <= longest) continue;
    longest = match;
    follows = end;
  }
  if (follows == 0) return 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t at = follows + i;
    out[i] = at < text.size() ? text[at] : out[at - text.size()];
  }
  return out.size();
}

}  // namespace thimble::draft
