#include "engine/head/sampler.h"

#include <algorithm>
#include <array>
#include <limits>

#include "engine/base/exact.h"
#include "engine/head/sampler-inl.h"
#include "engine/math/numerics.h"

namespace thimble::head {
namespace {

using N = math::Numerics<math::BaselineOps>;

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> c, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key1, static_cast<uint32_t>(p0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return c;
}

// Four neighbouring ids share one block of the generator.
std::array<uint32_t, 4> NoiseBlock(uint64_t seed, uint32_t position, uint32_t block) {
  return Philox4x32({block, position, 0, 0}, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

// u = (bits + 1/2) / 2^32. Near u = 1 the complement is exact and u is not, so the logarithm is taken of 1 -
// complement.
float GumbelFromBits(uint32_t bits) {
  constexpr float kScale = 0x1p-32f;
  float exponential;
  if (bits < 0x80000000u) {
    exponential = -N::Log((static_cast<float>(bits) + 0.5f) * kScale);
  } else {
    exponential = -N::Log1p(-((static_cast<float>(~bits) + 0.5f) * kScale));
  }
  return -N::Log(exponential);
}

// GumbelFromBits(bits) < k + 0.001 for every bits <= kBitsBelow[k]: 2^32 * exp(-exp(-k)), rounded down.
constexpr std::array<uint32_t, 16> kBitsBelow = {0x5e2d58d6, 0xb1340f6f, 0xdf98a6a2, 0xf3910c0b, 0xfb5a9786, 0xfe47e7fc,
                                                 0xff5dc0ee, 0xffc4441f, 0xffea04ce, 0xfff7e9a5, 0xfffd0653, 0xfffee7c9,
                                                 0xffff98e8, 0xffffda11, 0xfffff20a, 0xfffffadc};

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kMaxNoise = 23.0f;  // GumbelNoise() is less

float Magnitude(float x) { return x < 0.0f ? -x : x; }

// Larger logits first, then lower ids.
bool Before(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

// How many of the sorted candidates top_p keeps.
size_t TopP(std::span<const Candidate> sorted, float top_p) {
  float total = 0.0f;
  for (const Candidate& c : sorted) total += N::Exp(c.logit - sorted[0].logit);
  const float enough = top_p * total;
  float sum = 0.0f;
  for (size_t i = 0; i < sorted.size(); ++i) {
    sum += N::Exp(sorted[i].logit - sorted[0].logit);
    if (sum >= enough) return i + 1;
  }
  return sorted.size();
}

// The distance below the largest logit at which min_p cuts.
float MinPDistance(float min_p) { return min_p <= 0.0f ? kInfinity : -N::Log(min_p); }

std::span<const TokenId> Recent(std::span<const TokenId> tokens, const SamplerOptions& options) {
  if (options.repeat_penalty == 1.0f || options.repeat_last_n == 0) return {};
  if (options.repeat_last_n < 0 || tokens.size() <= static_cast<size_t>(options.repeat_last_n)) return tokens;
  return tokens.last(static_cast<size_t>(options.repeat_last_n));
}

bool IsGreedy(const SamplerOptions& options) { return options.temperature <= 0.0f || options.top_k == 1; }

}  // namespace

float GumbelNoise(uint64_t seed, uint32_t position, TokenId id) {
  return GumbelFromBits(NoiseBlock(seed, position, id / 4)[id % 4]);
}

Result<void> CheckSamplerOptions(const SamplerOptions& o) {
  const auto refuse = [](const char* what) { return Fail({.code = Code::kInvalidArgument, .what = what}); };
  if (!(o.repeat_penalty >= 0.01f && o.repeat_penalty <= 100.0f)) {
    return refuse("--repeat-penalty must lie between 0.01 and 100; 1 turns it off");
  }
  if (o.repeat_last_n < -1)
    return refuse("--repeat-last-n must be -1 (the whole context), 0 (off) or a number of tokens");
  if (!(o.top_p > 0.0f && o.top_p <= 1.0f)) return refuse("--top-p must be above 0 and at most 1; 1 turns it off");
  if (!(o.min_p >= 0.0f && o.min_p < 1.0f)) return refuse("--min-p must be at least 0 and below 1; 0 turns it off");
  if (!(o.temperature == 0.0f || (o.temperature >= 0.001f && o.temperature <= 1000.0f))) {
    return refuse("--temp must be 0 for greedy, or lie between 0.001 and 1000");
  }
  return {};
}

uint64_t CandidatesNeeded(const SamplerOptions& options, uint32_t vocab_size) {
  if (IsGreedy(options) || (options.top_k == 0 && options.top_p >= 1.0f)) return 0;
  return options.top_k == 0 ? vocab_size : std::min(options.top_k, vocab_size);
}

bool IsBoundable(const SamplerOptions& options) {
  return IsGreedy(options) || options.top_k != 0 || options.top_p >= 1.0f;
}

uint64_t PenalisedNeeded(const SamplerOptions& options, uint64_t context_tokens) {
  if (options.repeat_penalty == 1.0f) return 0;
  if (options.repeat_last_n < 0) return context_tokens;
  return std::min(static_cast<uint64_t>(options.repeat_last_n), context_tokens);
}

TokenChoice::TokenChoice(const SamplerOptions& options, uint32_t vocab_size, uint32_t position,
                         std::span<const TokenId> recent, std::span<Candidate> candidates, std::span<TokenId> penalised)
    : options_(options),
      mode_(IsGreedy(options)      ? Mode::kLargest
            : options.top_k != 0   ? Mode::kTopK
            : options.top_p < 1.0f ? Mode::kAll
            : options.min_p > 0.0f ? Mode::kFrontier
                                   : Mode::kLargest),
      bits_(options.seed, position),
      inverse_temperature_(IsGreedy(options) ? 1.0f : N::Reciprocal(options.temperature)),
      inverse_penalty_(N::Reciprocal(options.repeat_penalty)),
      distance_(MinPDistance(options.min_p)),
      candidates_(candidates.first(static_cast<size_t>(CandidatesNeeded(options, vocab_size)))),
      best_(-kInfinity),
      largest_(-kInfinity) {
  recent = Recent(recent, options);
  const std::span<TokenId> sorted = penalised.first(recent.size());
  std::copy(recent.begin(), recent.end(), sorted.begin());
  std::sort(sorted.begin(), sorted.end());
  penalised_ = sorted.first(static_cast<size_t>(std::unique(sorted.begin(), sorted.end()) - sorted.begin()));
  ForgetBounds();
}

bool TokenChoice::FindPenalised(TokenId id) {
  if (next_penalised_ > 0 && penalised_[next_penalised_ - 1] >= id) next_penalised_ = 0;
  while (next_penalised_ < penalised_.size() && penalised_[next_penalised_] < id) ++next_penalised_;
  return next_penalised_ < penalised_.size() && penalised_[next_penalised_] == id;
}

float TokenChoice::Penalised(TokenId id, float logit) {
  if (!IsPenalised(id)) return logit;
  return logit * (logit > 0.0f ? inverse_penalty_ : options_.repeat_penalty);
}

TokenChoice::Rules TokenChoice::rules() const {
  return {.inverse_temperature = inverse_temperature_,
          .keeps_some = mode_ != Mode::kLargest,
          .top_k = mode_ == Mode::kTopK ? static_cast<uint32_t>(candidates_.size()) : 0,
          .top_p = mode_ == Mode::kFrontier ? 1.0f : options_.top_p,
          .distance = distance_};
}

float TokenChoice::Noise(TokenId id) { return is_greedy() ? 0.0f : GumbelFromBits(bits_.Of(id)); }

uint32_t NoiseBits::Of(TokenId id) {
  if (id / 4 != block_) {
    block_ = id / 4;
    bits_ = NoiseBlock(seed_, position_, block_);
  }
  return bits_[id % 4];
}

float TokenChoice::Score(TokenId id, float logit) { return rules().Score(logit, Noise(id)); }

// True if Score() is surely less than `score`: most tokens cannot win, and this says so without a logarithm.
bool TokenChoice::CannotReach(TokenId id, float logit, float score) {
  const float value = logit * inverse_temperature_;
  if (is_greedy()) return value < score;
  const float rounding = (Magnitude(value) + Magnitude(score)) * 0x1p-21f;
  const float need = score - value - 0.001f - rounding;
  if (!(need >= 0.0f)) return false;
  const auto k = need >= 15.0f ? size_t{15} : static_cast<size_t>(need);
  return bits_.Of(id) <= kBitsBelow[k];
}

void TokenChoice::Draw(TokenId id, float logit) {
  if (CannotReach(id, logit, best_)) return;
  const float score = Score(id, logit);
  if (score > best_ || (score == best_ && id < best_id_)) {
    best_ = score;
    best_id_ = id;
    if (mode_ == Mode::kLargest) floor_ = FloorOfScore(score);
  }
}

// Logits below this have scores below `score`, whatever their noise.
float TokenChoice::FloorOfScore(float score) const {
  if (is_greedy()) return score;
  const float least = score - kMaxNoise;
  const float floor = (least - Magnitude(least) * 0x1p-20f) * options_.temperature;
  return floor - Magnitude(floor) * 0x1p-20f;
}

float TokenChoice::draw_floor() const {
  if (best_low_score_ == -kInfinity) return -kInfinity;
  const float least = best_low_score_ - (Magnitude(best_low_score_) + kMaxNoise) * 0x1p-19f;
  const float floor = least * options_.temperature;
  return floor - Magnitude(floor) * 0x1p-20f;
}

void TokenChoice::OfferAll(TokenId first, std::span<const float> logits) {
  const auto end = static_cast<TokenId>(first + logits.size());
  auto next = std::lower_bound(penalised_.begin(), penalised_.end(), first);
  for (TokenId id = first; id < end;) {
    const TokenId stop = next != penalised_.end() && *next < end ? *next : end;
    for (; id < stop; ++id) {
      if (!(logits[id - first] < floor_)) Offer(id, logits[id - first]);
    }
    if (id < end) Offer(id, logits[id - first]), ++id, ++next;
  }
}

void TokenChoice::Offer(TokenId id, float logit) {
  logit = Penalised(id, logit);
  if (!(logit == logit)) return;
  switch (mode_) {
    case Mode::kLargest:
      return Draw(id, logit);
    case Mode::kFrontier:
      return OfferToFrontier(id, logit);
    case Mode::kTopK:
    case Mode::kAll:
      return Keep(logit, id);
  }
}

// Contenders are in falling order of their logits, and in rising order of their scores.
void TokenChoice::OfferToFrontier(TokenId id, float logit) {
  if (second_pass_) {
    if (!(logit < largest_ - distance_)) Draw(id, logit);
    return;
  }
  if (logit > largest_) {
    largest_ = logit;
    floor_ = largest_ - distance_;
  }
  if (logit < floor_ || overflowed_) return;
  size_t above = num_contenders_;  // those with at least this logit
  while (above > 0 && contenders_[above - 1].logit < logit) --above;
  if (above > 0 && CannotReach(id, logit, contenders_[above - 1].score)) return;
  const float score = Score(id, logit);
  const auto loses = [](const Contender& a, float s, TokenId i) { return a.score < s || (a.score == s && a.id > i); };
  if (above > 0 && !loses(contenders_[above - 1], score, id)) return;
  const auto first = contenders_.begin();
  const auto end = std::remove_if(first, first + static_cast<ptrdiff_t>(num_contenders_), [&](const Contender& c) {
    return c.logit < floor_ || (c.logit <= logit && loses(c, score, id));
  });
  num_contenders_ = static_cast<size_t>(end - first);
  if (num_contenders_ == kMaxContenders) {
    overflowed_ = true;
    return;
  }
  above = num_contenders_;
  while (above > 0 && contenders_[above - 1].logit < logit) --above;
  std::copy_backward(first + static_cast<ptrdiff_t>(above), end, end + 1);
  contenders_[above] = {logit, score, id};
  ++num_contenders_;
}

bool TokenChoice::NeedsAnotherPass() {
  if (!overflowed_ || second_pass_) return false;
  return second_pass_ = true;
}

// Keeps the first of all offered by Before(), as many as there is room for: a heap with the last of them in front.
void TokenChoice::Keep(float logit, TokenId id) {
  const Candidate candidate = {logit, id};
  const auto first = candidates_.begin();
  if (num_kept_ < candidates_.size()) {
    candidates_[num_kept_++] = candidate;
    std::push_heap(first, first + static_cast<ptrdiff_t>(num_kept_), Before);
  } else if (Before(candidate, candidates_[0])) {
    std::pop_heap(first, first + static_cast<ptrdiff_t>(num_kept_), Before);
    candidates_[num_kept_ - 1] = candidate;
    std::push_heap(first, first + static_cast<ptrdiff_t>(num_kept_), Before);
  }
  if (mode_ == Mode::kTopK && num_kept_ == candidates_.size()) floor_ = candidates_[0].logit;
}

// What top_k and top_p leave, in falling order.
std::span<const Candidate> TokenChoice::Kept() {
  const std::span<Candidate> kept = candidates_.first(num_kept_);
  std::sort_heap(kept.begin(), kept.end(), Before);
  return options_.top_p < 1.0f && !kept.empty() ? kept.first(TopP(kept, options_.top_p)) : kept;
}

TokenId TokenChoice::Chosen() {
  if (mode_ == Mode::kFrontier && !second_pass_) {
    for (const Contender& c : std::span(contenders_).first(num_contenders_)) {
      if (c.logit < floor_) continue;
      if (c.score > best_ || (c.score == best_ && c.id < best_id_)) {
        best_ = c.score;
        best_id_ = c.id;
      }
    }
  } else if (mode_ == Mode::kTopK || mode_ == Mode::kAll) {
    const std::span<const Candidate> kept = Kept();
    for (const Candidate& c : kept) {
      if (!(c.logit < kept[0].logit - distance_)) Draw(c.id, c.logit);
    }
  }
  return best_id_;
}

void TokenChoice::ForgetBounds() {
  floor_ = best_low_ = best_low_score_ = -kInfinity;
  num_kept_ = 0;
}

bool TokenChoice::MayMatter(TokenId id, float low, float high) {
  if (high < floor_) return false;
  best_low_ = std::max(best_low_, low);
  switch (mode_) {
    case Mode::kLargest:
      if (!is_greedy()) return MayScoreMost(id, low, high);
      floor_ = best_low_;
      return true;
    case Mode::kFrontier:
      floor_ = best_low_ - distance_;
      return true;
    case Mode::kTopK:
      Keep(low, id);
      if (!keeps_tail_) floor_ = std::max(floor_, best_low_ - distance_);
      return true;
    case Mode::kAll:  // the first of all, or what may beat it
      return MayScoreMost(id, low, high) || high >= best_low_;
  }
  return true;
}

void TokenChoice::RaiseFloor(TokenId id, float low) {
  best_low_ = std::max(best_low_, low);
  if (mode_ == Mode::kFrontier || (mode_ == Mode::kTopK && !keeps_tail_)) {
    floor_ = std::max(floor_, best_low_ - distance_);
  } else if (mode_ != Mode::kTopK) {
    MayMatter(id, low, std::numeric_limits<float>::infinity());
  }
}

// The same where the largest score is looked for, whatever is kept.
bool TokenChoice::MayScoreMost(TokenId id, float low, float high) {
  if (CannotReach(id, high, best_low_score_) || Score(id, high) < best_low_score_) return false;
  if (const float score = Score(id, low); score > best_low_score_) {
    best_low_score_ = score;
    floor_ = std::min(FloorOfScore(score), mode_ == Mode::kAll ? best_low_ : kInfinity);
  }
  return true;
}

size_t TokenChoice::Prune(std::span<Bounded> tokens, bool all_seen) {
  ForgetBounds();
  const auto keep = [&](auto matters) {
    return static_cast<size_t>(
        std::remove_if(tokens.begin(), tokens.end(), [&](const Bounded& t) { return !matters(t); }) - tokens.begin());
  };
  const auto may_score_most = [&](const Bounded& t) {
    return !CannotReach(t.id, t.high, best_low_score_) && !(Score(t.id, t.high) < best_low_score_);
  };
  if (mode_ != Mode::kFrontier) {
    for (const Bounded& t : tokens) MayMatter(t.id, t.low, t.high);
    if (mode_ == Mode::kTopK || is_greedy()) return keep([&](const Bounded& t) { return !(t.high < floor_); });
    return keep([&](const Bounded& t) { return may_score_most(t) || (mode_ == Mode::kAll && t.high >= best_low_); });
  }
  // Of the largest logit it is known where it lies at least, and at most.
  float high = -kInfinity;
  for (const Bounded& t : tokens) {
    best_low_ = std::max(best_low_, t.low);
    high = std::max(high, t.high);
  }
  floor_ = best_low_ - distance_;
  if (!all_seen) return keep([&](const Bounded& t) { return !(t.high < floor_); });
  for (const Bounded& t : tokens) {
    if (t.low >= high - distance_) best_low_score_ = std::max(best_low_score_, Score(t.id, t.low));
  }
  return keep([&](const Bounded& t) { return t.high >= best_low_ || (!(t.high < floor_) && may_score_most(t)); });
}

}  // namespace thimble::head
