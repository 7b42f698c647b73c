#include "host/models/draft_table.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "engine/draft/ngram.h"

namespace thimble::host {
namespace {

// Of one context.
struct Followers {
  uint32_t seen = 0;
  std::map<TokenId, uint32_t> times;

  std::pair<TokenId, uint32_t> Likeliest() const {
    const auto most = std::ranges::max_element(times, {}, [](const auto& entry) { return entry.second; });
    return *most;  // of equals the first
  }
};

}  // namespace

std::vector<formats::DraftEntry> MakeDraftTable(std::span<const std::vector<TokenId>> texts) {
  std::array<std::map<std::vector<TokenId>, Followers>, formats::kDraftOrder> contexts;  // by order less 1
  for (const std::vector<TokenId>& text : texts) {
    for (size_t i = 1; i < text.size(); ++i) {
      for (size_t order = 1; order <= std::min<size_t>(i, formats::kDraftOrder); ++order) {
        const auto context = std::span(text).subspan(i - order, order);
        Followers& followers = contexts[order - 1][std::vector<TokenId>(context.begin(), context.end())];
        ++followers.seen;
        ++followers.times[text[i]];
      }
    }
  }
  // What a table without longer contexts says after this one.
  const auto said_by_shorter = [&](std::span<const TokenId> context) -> std::optional<TokenId> {
    while (context.size() > 1) {
      context = context.subspan(1);
      const Followers& followers = contexts[context.size() - 1].at({context.begin(), context.end()});
      if (followers.seen >= 2) return followers.Likeliest().first;
    }
    return std::nullopt;
  };
  std::map<uint32_t, formats::DraftEntry> table;  // by key
  for (const auto& of_order : contexts) {
    for (const auto& [context, followers] : of_order) {
      if (followers.seen < 2) continue;
      const auto [id, times] = followers.Likeliest();
      if (said_by_shorter(context) == id) continue;
      const uint32_t key = formats::DraftKey(context);
      const auto share = static_cast<uint32_t>(uint64_t{times} * 255 / followers.seen);
      table.try_emplace(key, formats::DraftEntry{.key = key, .id_and_share = id | share << 24});
    }
  }
  std::vector<formats::DraftEntry> entries;
  for (const auto& [key, entry] : table) entries.push_back(entry);
  return entries;
}

formats::DraftUse MeasureDrafts(std::span<const std::vector<TokenId>> texts) {
  formats::DraftUse use = {};
  const size_t held_out = texts.size() / 8;
  if (held_out == 0) return use;
  const std::vector<formats::DraftEntry> table = MakeDraftTable(texts.first(texts.size() - held_out));
  for (size_t most = 1; most <= use.size(); ++most) {
    draft::Ngram ngram(table, 0);
    uint64_t passes = 0;
    uint64_t tokens = 0;
    for (const std::vector<TokenId>& text : texts.last(held_out)) {
      // The first token after the beginning comes of the prompt's pass.
      for (size_t known = 2; known < text.size(); ++passes) {
        std::vector<TokenId> guesses(most);
        guesses.resize(ngram.Guess(std::span(text).first(known), guesses));
        size_t came = 0;
        while (came < guesses.size() && known + came + 1 < text.size() && guesses[came] == text[known + came]) ++came;
        known += came + 1;
        tokens += came + 1;
      }
    }
    use[most - 1] = passes == 0 ? 0.0f : static_cast<float>(tokens) / static_cast<float>(passes);
  }
  return use;
}

}  // namespace thimble::host
