// Which token a sampler chooses when logits are known only to lie within bounds: the winner, or whose bounds to
// tighten.
//
// The choice is the argmax of a score over the tokens that top-k, top-p and min-p keep (engine/head/sampler.h). So the
// logits of the kept are not needed, only that the best is one of them, and one look at the bounds usually shows it.
// The rules, and why they hold: docs/screen-details.md, "Certified lazily".
#ifndef THIMBLE_ENGINE_HEAD_CONTEST_H_
#define THIMBLE_ENGINE_HEAD_CONTEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/head/sampler.h"

namespace thimble::head {

// Refers to what it is given, which outlives it. Nothing is allocated.
class Contest {
 public:
  enum class Verdict : uint8_t {
    kWinner,     // `row` is the token
    kTighten,    // ask more about each of `asks`, whose bounds are not equal: `asked` rises, the bounds close or stay
    kUndecided,  // nothing that can be asked decides it: the logits themselves must be offered to the sampler
  };
  struct Step {
    Verdict verdict;
    size_t row = 0;                       // of the rows
    std::span<const uint32_t> asks = {};  // rows, one at least; valid until the next call
  };
  // Asking about a row that was asked about less than `asks` times, and whose id is less than `below`, costs less than
  // to look at some rows once more: several such rows are then asked about at once.
  struct Cheap {
    uint32_t asks = 0;
    TokenId below = 0;
  };

  // `rows` are all tokens that `choice` can depend on, with their bounds after penalties; each other token's logit is
  // less than `floor`. `room` is workspace for CandidatesNeeded() of the sampler's options.
  Contest(TokenChoice& choice, std::span<Bounded> rows, float floor, std::span<Candidate> room, const Cheap& cheap);

  // What comes next. Whatever the bounds are, true or not, kTighten ends when all of them are equal.
  Step Next();

  // Goes on with fewer rows, when bounds have excluded the others: `rows` is the beginning of what was given, as
  // TokenChoice::Prune() leaves it.
  void Continue(std::span<Bounded> rows, float floor) {
    rows_ = rows;
    floor_ = floor > floor_ ? floor : floor_;
  }

  // How many rows have been looked at, again and again.
  uint64_t looks() const { return looks_; }

 private:
  static constexpr size_t kMaxAsks = 64;
  enum class Answer : uint8_t { kIn, kOut, kOpen };

  bool MayPrecede(const Bounded& u, const Bounded& w) const {
    return u.high > w.low || (u.high == w.low && u.id < w.id);
  }
  bool Precedes(const Bounded& u, const Bounded& w) const { return u.low > w.high || (u.low == w.high && u.id < w.id); }
  bool IsExcluded(const Bounded& row) const { return row.noise == kExcluded || row.high < excluded_below_; }
  bool IsCheap(const Bounded& row) const { return row.asked < cheap_.asks && row.id < cheap_.below; }
  void ForgetAsks() { num_asks_ = 0; }
  void Propose(size_t row, float urgency);
  // Open answers leave whom to ask in asks_, or nobody.
  Answer Keeps(size_t w);
  Answer KeepsByMinP(size_t w);
  Answer KeepsByTopP(size_t w, size_t num_may, size_t num_sure);
  // The sum of e^(bound - reference) over the n largest bounds of the rows that `take` takes. None counts for less than
  // `least`, nor do places that no row takes.
  template <class Take>
  float SumOfLargest(size_t n, float Bounded::* bound, float reference, Take take, float least);

  TokenChoice::Rules rules_;
  std::span<Bounded> rows_;
  float floor_;
  std::span<Candidate> room_;
  Cheap cheap_;
  float excluded_below_;                      // rows whose logit is less than this are not kept
  std::array<uint32_t, kMaxAsks> asks_ = {};  // the most urgent first
  std::array<float, kMaxAsks> urgency_ = {};
  size_t num_asks_ = 0;
  uint64_t looks_ = 0;
};

}  // namespace thimble::head

#endif  // THIMBLE_ENGINE_HEAD_CONTEST_H_
