// Choosing the next token from logits: llama.cpp's chain, drawn by perturbed argmax.
#ifndef THIMBLE_ENGINE_HEAD_SAMPLER_H_
#define THIMBLE_ENGINE_HEAD_SAMPLER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "engine/base/error.h"
#include "engine/base/tensor.h"

namespace thimble::head {

// llama.cpp's names and defaults. Steps apply in the order of the members.
struct SamplerOptions {
  float repeat_penalty = 1.0f;  // of tokens seen lately: logits above 0 are divided by it, others multiplied. 1: off
  int32_t repeat_last_n = 64;   // how many tokens back it looks; -1: the whole context; 0: off
  uint32_t top_k = 40;          // keep the k largest logits; 0: all
  float top_p = 0.95f;          // keep the largest whose probabilities reach p together; 1: all
  float min_p = 0.05f;          // keep those at least min_p times as likely as the likeliest; 0: all
  float temperature = 0.8f;     // 0: the largest logit, whatever else is set but the penalty
  uint64_t seed = 0;

  friend bool operator==(const SamplerOptions&, const SamplerOptions&) = default;
};

// kInvalidArgument names the first option that is out of range: repeat_penalty in [0.01, 100], repeat_last_n at least
// -1, top_p in (0, 1], min_p in [0, 1), temperature 0 or in [0.001, 1000].
Result<void> CheckSamplerOptions(const SamplerOptions& options);

// One candidate of the steps that need to see several at once.
struct Candidate {
  float logit = 0;
  TokenId id = 0;
};

// Workspace of a TokenChoice in elements, for the plan. Pure functions. A repeat_last_n of -1 looks back over the whole
// context: as many penalised ids as there are tokens in it.
uint64_t CandidatesNeeded(const SamplerOptions& options, uint32_t vocab_size);
uint64_t PenalisedNeeded(const SamplerOptions& options, uint64_t context_tokens);
// False for top_p without top_k, which depends on every logit: bounds decide it only where the first token is sure.
bool IsBoundable(const SamplerOptions& options);

// The standard Gumbel noise of one candidate: -log(-log(u)), u from a counter-based generator keyed by `seed` and
// addressed by (position, id), so that any subset of candidates in any order sees the same noise. u is (w + 1/2) / 2^32
// of word w = id % 4 of Philox4x32-10 (J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) with
// the counter (id / 4, position, 0, 0) and the key (seed's lower half, its upper half). In [-3.1, 22.9].
float GumbelNoise(uint64_t seed, uint32_t position, TokenId id);

// The random bits that noise is made of, for ids in any order; rising is fastest.
class NoiseBits {
 public:
  NoiseBits(uint64_t seed, uint32_t position) : seed_(seed), position_(position) {}
  uint32_t Of(TokenId id);

 private:
  uint64_t seed_;
  uint32_t position_;
  uint32_t block_ = 0xffffffff;  // of the generator, that was used last
  std::array<uint32_t, 4> bits_ = {};
};

// A token whose logit is known to lie within bounds only.
struct Bounded {
  TokenId id = 0;
  uint32_t asked = 0;  // how often its bounds were asked for
  float center = 0;    // the caller keeps here what the bounds were made from
  float low = 0;       // after penalties
  float high = 0;
  float noise = 0;  // of the draw, or kExcluded
};
// The noise of a token that cannot be chosen.
inline constexpr float kExcluded = -std::numeric_limits<float>::infinity();

// The choice of one token, its logits coming one by one.
//
// With p the softmax of the penalised logits: keeps the top_k largest; of these, in falling order, the fewest whose
// share of the kept reaches top_p; of these, those with logit at least the largest plus log(min_p); and draws from the
// softmax of logit / temperature over what is left, as the id of the largest logit / temperature + GumbelNoise(seed,
// position, id) (E. Gumbel, "Statistical Theory of Extreme Values", 1954). Everywhere, the k-th place included, the
// lower of two ids with equal values comes first. So the token is the same in whatever order the logits come.
//
//   TokenChoice choice(...);
//   do {
//     for each id: choice.Offer(id, logit);
//   } while (choice.NeedsAnotherPass());
//   choice.Chosen()
//
// The second class of calls serves those who know only bounds of logits: MayMatter() and Prune() tell which tokens the
// choice can depend on. When the logits of these alone are offered, the choice is that of all logits.
class TokenChoice {
 public:
  // `position` is that of the token being chosen; `recent` are the tokens of the context, the latest last
  // (repeat_last_n of them count). Workspaces as CandidatesNeeded() and PenalisedNeeded() of recent.size() say; they
  // stay the caller's and must outlive this.
  TokenChoice(const SamplerOptions& options, uint32_t vocab_size, uint32_t position, std::span<const TokenId> recent,
              std::span<Candidate> candidates, std::span<TokenId> penalised);

  // A token and its logit, before penalties. Each id once in a pass, in any order (rising is fastest). A logit that is
  // not a number never wins.
  void Offer(TokenId id, float logit);

  // The same for tokens with consecutive ids.
  void OfferAll(TokenId first, std::span<const float> logits);

  // True, once at most, when the logits must all be offered again: with min_p and without top_k, after a pass in which
  // more tokens came near the largest logit than there is room for.
  bool NeedsAnotherPass();

  // After the last pass. 0 if nothing was offered.
  TokenId Chosen();

  // The logit after penalties: rises with `logit`, so that it maps bounds to bounds.
  float Penalised(TokenId id, float logit);

  // How the token is chosen, for those who know bounds.
  struct Rules {
    float inverse_temperature = 1;
    bool keeps_some = false;  // false: all tokens are kept, and nothing below counts
    uint32_t top_k = 0;       // 0: all; at most the vocabulary
    float top_p = 1;
    float distance = 0;  // below the largest logit at which min_p cuts; infinite: it does not

    // What the largest of is drawn, of a logit or of one of its bounds: rises with `logit`, as rounded.
    float Score(float logit, float noise) const;  // sampler-inl.h
  };
  Rules rules() const;
  const SamplerOptions& options() const { return options_; }
  // The noise in a token's score; 0 where the largest logit is chosen.
  float Noise(TokenId id);

  // Bounds of one token's logit, after penalties, in a pass over all tokens in any order: false if it cannot matter,
  // whatever comes.
  bool MayMatter(TokenId id, float low, float high);

  // More is known of a token that MayMatter() has seen: its logit after penalties is at least `low`.
  void RaiseFloor(TokenId id, float low);
  // As many tokens as top_k keeps have at least this logit after penalties.
  void RaiseFloorOfTopK(float low) { floor_ = floor_ < low ? low : floor_; }

  // Tokens whose logit after penalties, or its upper bound, is less than this cannot matter.
  float floor() const { return floor_; }
  bool IsPenalised(TokenId id) { return !penalised_.empty() && FindPenalised(id); }

  // The same in a second pass over tokens that MayMatter() has seen all.
  bool StillMatters(TokenId id, float low, float high) {
    return mode_ == Mode::kTopK ? !(high < floor_) : MayMatter(id, low, high);
  }

  // Whether the largest score of all tokens is looked for, noise and all. Then one whose logit is less than
  // draw_floor() less the temperature times its noise cannot matter, and noise is less than 0.001 more than ln 2 for
  // each of the leading ones of its bits and one more.
  bool draws_from_all() const { return mode_ == Mode::kLargest && !is_greedy(); }
  float draw_floor() const;
  NoiseBits noise_bits() const { return bits_; }

  // The ids that the penalty changes, rising.
  std::span<const TokenId> penalised() const { return penalised_; }

  // Of `tokens`, moves those that can matter to the front, in the same order, and returns their number. They must hold
  // all that can matter: of all tokens if `all_seen`, else of those that MayMatter() has seen.
  size_t Prune(std::span<Bounded> tokens, bool all_seen);

  // Between the last call about bounds and the first Offer(): they share their memory.
  void ForgetBounds();
  // With top_p within top_k, min_p tells early of most of the top k that they cannot be chosen, though their share
  // counts. Bounds may leave that open: then a pass that keeps all of the top k decides.
  bool leaves_tail() const { return !keeps_tail_ && CutsTail(); }
  void KeepTail() { keeps_tail_ = true; }

  // That memory, for a caller that chooses from bounds in between.
  std::span<Candidate> room() const { return candidates_; }

 private:
  enum class Mode : uint8_t {
    kLargest,   // one token is kept: the largest perturbed logit
    kFrontier,  // the same among those near the largest logit: min_p
    kTopK,      // the k largest are kept in candidates_
    kAll,       // all are kept in candidates_
  };
  // A token that no other one beats both in logit and in perturbed logit.
  struct Contender {
    float logit, score;
    TokenId id;
  };
  static constexpr size_t kMaxContenders = 32;

  bool CutsTail() const { return mode_ == Mode::kTopK && options_.top_p < 1.0f && options_.min_p > 0.0f; }
  bool is_greedy() const { return options_.temperature <= 0.0f || options_.top_k == 1; }
  bool FindPenalised(TokenId id);
  bool MayScoreMost(TokenId id, float low, float high);
  float Score(TokenId id, float logit);
  bool CannotReach(TokenId id, float logit, float score);
  float FloorOfScore(float score) const;
  void Draw(TokenId id, float logit);
  void OfferToFrontier(TokenId id, float logit);
  void Keep(float logit, TokenId id);
  std::span<const Candidate> Kept();

  SamplerOptions options_;
  Mode mode_;
  NoiseBits bits_;
  float inverse_temperature_;
  float inverse_penalty_;
  float distance_;  // below the largest logit at which min_p cuts
  std::span<Candidate> candidates_;
  std::span<const TokenId> penalised_;  // rising
  size_t next_penalised_ = 0;
  size_t num_kept_ = 0;
  // Of the draw.
  float best_;
  TokenId best_id_ = 0;
  // Of the frontier.
  std::array<Contender, kMaxContenders> contenders_;
  size_t num_contenders_ = 0;
  float largest_;
  bool overflowed_ = false;
  bool second_pass_ = false;
  bool keeps_tail_ = false;
  // Of the bounds.
  float floor_;
  float best_low_;
  float best_low_score_;
};

// Bytes reserved for a TokenChoice, the same on every target.
inline constexpr uint64_t kChoiceBytes = 640;
static_assert(sizeof(TokenChoice) <= kChoiceBytes && kChoiceBytes % alignof(TokenChoice) == 0);

}  // namespace thimble::head

#endif  // THIMBLE_ENGINE_HEAD_SAMPLER_H_
