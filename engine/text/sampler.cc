#include "engine/text/sampler.h"

#include <algorithm>
#include <array>
#include <limits>

#include "engine/math/numerics.h"

namespace thimble::text {
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

// GumbelFromBits(bits) < k + 0.001 for every bits <= kBitsBelow[k]: 2^32 * exp(-exp(-k)), rounded down. Most candidates
// cannot win, and this says so without a logarithm.
constexpr std::array<uint32_t, 16> kBitsBelow = {0x5e2d58d6, 0xb1340f6f, 0xdf98a6a2, 0xf3910c0b, 0xfb5a9786, 0xfe47e7fc,
                                                 0xff5dc0ee, 0xffc4441f, 0xffea04ce, 0xfff7e9a5, 0xfffd0653, 0xfffee7c9,
                                                 0xffff98e8, 0xffffda11, 0xfffff20a, 0xfffffadc};

bool CannotExceed(uint32_t bits, float need) {
  need -= 0.001f;
  if (!(need >= 0.0f)) return false;
  const auto k = need >= 15.0f ? size_t{15} : static_cast<size_t>(need);
  return bits <= kBitsBelow[k];
}

// Draws over [begin, end) of candidates, given as a function of the index: one pass, no memory.
class Draw {
 public:
  Draw(const SamplerOptions& options, uint32_t position)
      : greedy_(options.temperature <= 0.0f),
        inverse_temperature_(greedy_ ? 1.0f : N::Reciprocal(options.temperature)),
        seed_(options.seed),
        position_(position) {}

  void Offer(TokenId id, float logit) {
    float value = logit * inverse_temperature_;
    if (!greedy_) {
      if (id / 4 != block_) {
        block_ = id / 4;
        noise_bits_ = NoiseBlock(seed_, position_, block_);
      }
      if (CannotExceed(noise_bits_[id % 4], best_ - value)) return;
      value += GumbelFromBits(noise_bits_[id % 4]);
    }
    if (value > best_ || (value == best_ && id < best_id_)) {
      best_ = value;
      best_id_ = id;
    }
  }

  TokenId best_id() const { return best_id_; }

 private:
  bool greedy_;
  float inverse_temperature_;
  uint64_t seed_;
  uint32_t position_;
  uint32_t block_ = 0xffffffff;
  std::array<uint32_t, 4> noise_bits_ = {};
  float best_ = -std::numeric_limits<float>::infinity();
  TokenId best_id_ = 0;
};

// Larger logits first, then lower ids.
bool Before(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

// The k first of all logits by Before(), in that order, in `out`, which has room for k. Returns how many there are:
// fewer when there are fewer numbers.
size_t TopK(std::span<const float> logits, size_t k, std::span<Candidate> out) {
  size_t n = 0;
  for (TokenId id = 0; id < logits.size(); ++id) {
    const Candidate candidate = {logits[id], id};
    if (!(candidate.logit == candidate.logit)) continue;
    if (n < k) {
      out[n++] = candidate;
      std::push_heap(out.begin(), out.begin() + static_cast<ptrdiff_t>(n), Before);
    } else if (Before(candidate, out[0])) {
      std::pop_heap(out.begin(), out.begin() + static_cast<ptrdiff_t>(n), Before);
      out[n - 1] = candidate;
      std::push_heap(out.begin(), out.begin() + static_cast<ptrdiff_t>(n), Before);
    }
  }
  std::sort_heap(out.begin(), out.begin() + static_cast<ptrdiff_t>(n), Before);
  return n;
}

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
float MinPDistance(float min_p) { return min_p <= 0.0f ? std::numeric_limits<float>::infinity() : -N::Log(min_p); }

std::span<const TokenId> Recent(std::span<const TokenId> tokens, const SamplerOptions& options) {
  if (options.repeat_penalty == 1.0f || options.repeat_last_n == 0) return {};
  if (options.repeat_last_n < 0 || tokens.size() <= static_cast<size_t>(options.repeat_last_n)) return tokens;
  return tokens.last(static_cast<size_t>(options.repeat_last_n));
}

// Whether `tokens[i]` is the first of its kind.
bool IsFirst(std::span<const TokenId> tokens, size_t i) {
  return std::find(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(i), tokens[i]) ==
         tokens.begin() + static_cast<ptrdiff_t>(i);
}

TokenId Choose(std::span<const float> logits, const SamplerOptions& options, uint32_t position,
               std::span<Candidate> candidates) {
  Draw draw(options, position);
  const float distance = MinPDistance(options.min_p);
  if (CandidatesNeeded(options, static_cast<uint32_t>(logits.size())) == 0) {
    float largest = -std::numeric_limits<float>::infinity();
    for (float logit : logits) {
      if (logit > largest) largest = logit;
    }
    for (TokenId id = 0; id < logits.size(); ++id) {
      if (!(logits[id] < largest - distance)) draw.Offer(id, logits[id]);
    }
    return draw.best_id();
  }
  const size_t k = std::min<size_t>(options.top_k == 0 ? logits.size() : options.top_k, logits.size());
  std::span<Candidate> kept = candidates.first(TopK(logits, k, candidates.first(k)));
  if (kept.empty()) return 0;
  if (options.top_p < 1.0f) kept = kept.first(TopP(kept, options.top_p));
  for (const Candidate& c : kept) {
    if (!(c.logit < kept[0].logit - distance)) draw.Offer(c.id, c.logit);
  }
  return draw.best_id();
}

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
  if (options.temperature <= 0.0f || (options.top_k == 0 && options.top_p >= 1.0f)) return 0;
  return options.top_k == 0 ? vocab_size : std::min(options.top_k, vocab_size);
}

uint64_t SavedLogitsNeeded(const SamplerOptions& options, uint64_t context_tokens) {
  if (options.repeat_penalty == 1.0f) return 0;
  if (options.repeat_last_n < 0) return context_tokens;
  return std::min(static_cast<uint64_t>(options.repeat_last_n), context_tokens);
}

TokenId Sample(std::span<float> logits, const SamplerOptions& options, uint32_t position,
               std::span<const TokenId> recent, std::span<Candidate> candidates, std::span<float> saved_logits) {
  recent = Recent(recent, options);
  const float inverse_penalty = N::Reciprocal(options.repeat_penalty);
  for (size_t i = 0; i < recent.size(); ++i) {
    float& logit = logits[recent[i]];
    saved_logits[i] = logit;
    if (IsFirst(recent, i)) logit *= logit > 0.0f ? inverse_penalty : options.repeat_penalty;
  }
  const TokenId chosen = Choose(logits, options, position, candidates);
  for (size_t i = recent.size(); i-- > 0;) {
    if (IsFirst(recent, i)) logits[recent[i]] = saved_logits[i];
  }
  return chosen;
}

}  // namespace thimble::text
