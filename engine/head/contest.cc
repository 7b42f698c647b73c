#include "engine/head/contest.h"

#include <algorithm>
#include <limits>

#include "engine/base/exact.h"
#include "engine/head/sampler-inl.h"
#include "engine/math/numerics.h"

namespace thimble::head {
namespace {

using N = math::Numerics<math::BaselineOps>;

constexpr size_t kRowsOfAsk = 8;  // to look at so many, several times, takes about as long as to ask about one cheaply

bool IsKnown(const Bounded& row) { return row.low == row.high; }

}  // namespace

Contest::Contest(TokenChoice& choice, std::span<Bounded> rows, float floor, std::span<Candidate> room,
                 const Cheap& cheap)
    : rules_(choice.rules()),
      rows_(rows),
      floor_(floor),
      room_(room),
      cheap_(cheap),
      excluded_below_(-std::numeric_limits<float>::infinity()) {
  for (Bounded& row : rows_) row.noise = choice.Noise(row.id);
}

// Later answers cost more: what has been asked the least comes first, then what is most urgent.
void Contest::Propose(size_t row, float urgency) {
  const Bounded& proposed = rows_[row];
  if (IsKnown(proposed)) return;
  const size_t most = IsCheap(proposed) ? std::clamp<size_t>(rows_.size() / kRowsOfAsk, 2, kMaxAsks) : 1;
  if (num_asks_ > 0) {
    const Bounded& first = rows_[asks_[0]];
    if (IsCheap(first) != IsCheap(proposed)) {
      if (IsCheap(first)) return;
      num_asks_ = 0;
    } else if (first.asked != proposed.asked) {
      if (first.asked < proposed.asked) return;
      num_asks_ = 0;
    }
  }
  size_t at = num_asks_;
  while (at > 0 && urgency_[at - 1] < urgency) --at;
  if (at == most) return;
  num_asks_ = std::min(num_asks_ + 1, most);
  for (size_t i = num_asks_ - 1; i > at; --i) {
    asks_[i] = asks_[i - 1];
    urgency_[i] = urgency_[i - 1];
  }
  asks_[at] = static_cast<uint32_t>(row);
  urgency_[at] = urgency;
}

Contest::Step Contest::Next() {
  const auto tighten = [&] {
    return num_asks_ == 0 ? Step{Verdict::kUndecided} : Step{Verdict::kTighten, 0, std::span(asks_).first(num_asks_)};
  };
  while (true) {
    looks_ += rows_.size();
    size_t w = rows_.size();
    float most = 0;
    for (size_t i = 0; i < rows_.size(); ++i) {
      const Bounded& row = rows_[i];
      if (IsExcluded(row)) continue;
      const float score = rules_.Score(row.high, row.noise);
      if (w == rows_.size() || score > most || (score == most && row.id < rows_[w].id)) {
        w = i;
        most = score;
      }
    }
    if (w == rows_.size()) return {Verdict::kUndecided};  // bounds that lie exclude each other
    const Bounded& best = rows_[w];
    ForgetAsks();
    const Answer answer = Keeps(w);
    if (answer == Answer::kOut) {  // and all that surely come after it
      excluded_below_ = std::max(excluded_below_, best.high);
      rows_[w].noise = kExcluded;
      continue;
    }
    if (!IsKnown(best)) {
      looks_ += rows_.size();
      const float score_at_least = rules_.Score(best.low, best.noise);
      float least = score_at_least;  // of the highest score
      float most_of_likeliest = most;
      bool has_rival = false;
      for (size_t i = 0; i < rows_.size(); ++i) {
        const Bounded& row = rows_[i];
        if (i == w || IsExcluded(row)) continue;
        const float score = rules_.Score(row.high, row.noise);
        has_rival |= score > score_at_least || (score == score_at_least && row.id < best.id);
        if (const float low = rules_.Score(row.low, row.noise); low > least) {
          least = low;
          most_of_likeliest = score;
        }
      }
      if (has_rival) {  // none of those that may score more than the likeliest is spared, itself perhaps
        looks_ += rows_.size();
        ForgetAsks();
        for (size_t i = 0; i < rows_.size(); ++i) {
          const Bounded& row = rows_[i];
          if (IsExcluded(row)) continue;
          const float score = rules_.Score(row.high, row.noise);
          if (i == w || score > most_of_likeliest) Propose(i, i == w ? std::numeric_limits<float>::infinity() : score);
        }
        return tighten();
      }
    }
    if (answer == Answer::kIn) return {Verdict::kWinner, w};
    return tighten();
  }
}

Contest::Answer Contest::Keeps(size_t w) {
  if (!rules_.keeps_some) return Answer::kIn;
  const Answer by_min_p = KeepsByMinP(w);
  if (by_min_p != Answer::kIn) return by_min_p;
  // From here on, what is not among the rows does not come before w: its logit is less than min-p allows, or the top k
  // are full without it.
  if (rules_.top_k == 0 && rules_.top_p >= 1.0f) return by_min_p;
  looks_ += rows_.size();
  size_t num_may = 0;
  size_t num_sure = 0;
  const Bounded& row = rows_[w];
  Propose(w, row.high - row.low);
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (i == w || !MayPrecede(rows_[i], row)) continue;
    ++num_may;
    if (Precedes(rows_[i], row)) {
      ++num_sure;
    } else {
      Propose(i, rows_[i].high - rows_[i].low);
    }
  }
  if (rules_.top_k == 0) {  // top-p over all tokens: only the first of them is known to be kept
    if (num_may == 0) return Answer::kIn;
    if (num_sure != 0) ForgetAsks();
    return Answer::kOpen;
  }
  if (num_sure >= rules_.top_k) return Answer::kOut;
  if (num_may >= rules_.top_k) return Answer::kOpen;
  return rules_.top_p >= 1.0f || num_may == 0 ? Answer::kIn : KeepsByTopP(w, num_may, num_sure);
}

Contest::Answer Contest::KeepsByMinP(size_t w) {
  if (!(rules_.distance < std::numeric_limits<float>::infinity())) return Answer::kIn;
  looks_ += rows_.size();
  size_t leader = 0;  // the row whose logit is the largest, if its upper bound is right
  float low = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].high > rows_[leader].high) leader = i;
    low = std::max(low, rows_[i].low);
  }
  if (rows_[w].high < low - rules_.distance) return Answer::kOut;
  if (rows_[w].low >= rows_[leader].high - rules_.distance) return Answer::kIn;
  // Itself, or those that are in its way.
  looks_ += rows_.size();
  Propose(w, std::numeric_limits<float>::infinity());
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].high - rules_.distance > rows_[w].low) Propose(i, rows_[i].high);
  }
  return Answer::kOpen;
}

template <class Take>
float Contest::SumOfLargest(size_t n, float Bounded::* bound, float reference, Take take, float least) {
  const auto less = [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; };
  size_t kept = 0;
  for (const Bounded& row : rows_) {
    if (!take(row)) continue;
    const float value = row.*bound;
    if (kept < n) {
      room_[kept++].logit = value;
      std::push_heap(room_.begin(), room_.begin() + static_cast<ptrdiff_t>(kept), less);
    } else if (value > room_[0].logit) {
      std::pop_heap(room_.begin(), room_.begin() + static_cast<ptrdiff_t>(kept), less);
      room_[kept - 1].logit = value;
      std::push_heap(room_.begin(), room_.begin() + static_cast<ptrdiff_t>(kept), less);
    }
  }
  float sum = 0;
  for (size_t i = 0; i < kept; ++i) sum += N::Exp(std::max(room_[i].logit, least) - reference);
  if (kept < n && least > -std::numeric_limits<float>::infinity()) {
    sum += static_cast<float>(n - kept) * N::Exp(least - reference);
  }
  return sum;
}

// With A the sum of e^logit of those that come before w, and B that of w and those after it, of the top k: w is kept
// if A < top_p (A + B). `slack` covers all roundings, the reference's own included (docs/screen-details.md).
Contest::Answer Contest::KeepsByTopP(size_t w, size_t num_may, size_t num_sure) {
  looks_ += 5 * rows_.size();
  const Bounded& row = rows_[w];
  float reference = -std::numeric_limits<float>::infinity();
  for (const Bounded& u : rows_) reference = std::max(reference, u.high);
  const float tiny = static_cast<float>(rows_.size()) * 0x1p-120f;  // what Exp() rounds to 0
  float before_at_most = tiny;
  float before_at_least = 0;
  for (const Bounded& u : rows_) {
    if (&u == &row || !MayPrecede(u, row)) continue;
    before_at_most += N::Exp(u.high - reference);
    if (Precedes(u, row)) before_at_least += N::Exp(u.low - reference);
  }
  const float rest_at_least = SumOfLargest(
      rules_.top_k - num_may, &Bounded::low, reference,
      [&](const Bounded& u) { return &u == &row || !MayPrecede(u, row); }, -std::numeric_limits<float>::infinity());
  // Rows that are missing may lie just below the floor: above those that are there and were bounded more closely.
  const float rest_at_most = tiny + SumOfLargest(
                                        rules_.top_k - num_sure, &Bounded::high, reference,
                                        [&](const Bounded& u) { return &u == &row || !Precedes(u, row); }, floor_);
  const float p = rules_.top_p;
  const float slack = 0x1p-14f + static_cast<float>(rules_.top_k + 2) * 0x1p-20f;
  if (before_at_most * ((1.0f - p) + slack) < rest_at_least * (p * (1.0f - slack))) return Answer::kIn;
  if (before_at_least * ((1.0f - p) - slack) >= rest_at_most * (p * (1.0f + slack))) return Answer::kOut;
  // What adds most to what is not known.
  ForgetAsks();
  for (size_t i = 0; i < rows_.size(); ++i) {
    const Bounded& u = rows_[i];
    if (!IsKnown(u)) Propose(i, N::Exp(u.high - reference) - N::Exp(u.low - reference));
  }
  return Answer::kOpen;
}

}  // namespace thimble::head
