#include "engine/draft/ngram.h"

#include <algorithm>
#include <array>

namespace thimble::draft {

const formats::DraftEntry* Ngram::Find(std::span<const TokenId> context) const {
  const uint32_t key = formats::DraftKey(context);
  const auto found = std::ranges::lower_bound(table_, key, {}, &formats::DraftEntry::key);
  return found != table_.end() && found->key == key ? &*found : nullptr;
}

size_t Ngram::Guess(std::span<const TokenId> text, std::span<TokenId> out) {
  std::array<TokenId, formats::kDraftOrder> latest = {};  // at its end
  size_t known = std::min(text.size(), latest.size());
  std::ranges::copy(text.last(known), latest.end() - static_cast<ptrdiff_t>(known));
  constexpr uint32_t kSure = 1 << 16;
  uint32_t odds = kSure;  // of all guesses so far
  for (size_t i = 0; i < out.size(); ++i) {
    const formats::DraftEntry* entry = nullptr;
    for (size_t order = known; entry == nullptr && order > 0; --order) entry = Find(std::span(latest).last(order));
    if (entry == nullptr) return i;
    odds = odds * entry->share() / 255;
    if (odds < kSure / 100 * worth_percent_) return i;
    out[i] = entry->id();
    std::ranges::rotate(latest, latest.begin() + 1);
    latest.back() = entry->id();
    known = std::min(known + 1, latest.size());
  }
  return out.size();
}

}  // namespace thimble::draft
