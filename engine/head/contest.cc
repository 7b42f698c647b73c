#include "engine/head/contest.h"

#include <algorithm>
#include <limits>

#include "engine/math/numerics.h"

namespace thimble::head {
namespace {

using N = math::Numerics<math::BaselineOps>;

bool IsKnown(const Bounded& row) { return row.low == row.high; }
bool IsExcluded(const Bounded& row) { return row.noise == kExcluded; }

// Whom to ask first: what has been asked the least, since later answers cost more; then the widest bounds.
bool IsBetterToAsk(const Bounded& a, const Bounded& b) {
  if (a.asked != b.asked) return a.asked < b.asked;
  return a.high - a.low > b.high - b.low;
}

}  // namespace

Contest::Contest(TokenChoice& choice, std::span<Bounded> rows, float floor, std::span<Candidate> room)
    : rules_(choice.rules()), rows_(rows), floor_(floor), room_(room) {
  for (Bounded& row : rows_) row.noise = choice.Noise(row.id);
}

Contest::Step Contest::Next() {
  while (true) {
    looks_ += 2 * rows_.size();
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
    const Known known = Keeps(w);
    if (known.answer == Answer::kOut) {
      rows_[w].noise = kExcluded;
      continue;
    }
    if (!IsKnown(rows_[w])) {
      const float least = rules_.Score(rows_[w].low, rows_[w].noise);
      for (size_t i = 0; i < rows_.size(); ++i) {
        const Bounded& row = rows_[i];
        if (i == w || IsExcluded(row)) continue;
        const float score = rules_.Score(row.high, row.noise);
        if (score > least || (score == least && row.id < rows_[w].id)) return {Verdict::kTighten, w};
      }
    }
    if (known.answer == Answer::kIn) return {Verdict::kWinner, w};
    if (known.ask == rows_.size()) return {Verdict::kUndecided};
    return {Verdict::kTighten, known.ask};
  }
}

Contest::Known Contest::Keeps(size_t w) {
  if (!rules_.keeps_some) return {Answer::kIn, 0};
  const Known by_min_p = KeepsByMinP(w);
  if (by_min_p.answer != Answer::kIn) return by_min_p;
  // From here on, what is not among the rows does not come before w: its logit is less than min-p allows, or the top k
  // are full without it.
  if (rules_.top_k == 0 && rules_.top_p >= 1.0f) return by_min_p;
  looks_ += rows_.size();
  size_t num_may = 0;
  size_t num_sure = 0;
  size_t ask = w;
  bool has_ask = !IsKnown(rows_[w]);
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (i == w || !MayPrecede(rows_[i], rows_[w])) continue;
    ++num_may;
    if (Precedes(rows_[i], rows_[w])) {
      ++num_sure;
    } else if (!IsKnown(rows_[i]) && (!has_ask || IsBetterToAsk(rows_[i], rows_[ask]))) {
      ask = i;
      has_ask = true;
    }
  }
  if (rules_.top_k == 0) {  // top-p over all tokens: only the first of them is known to be kept
    return num_may == 0 ? Known{Answer::kIn, 0} : Known{Answer::kOpen, num_sure == 0 && has_ask ? ask : rows_.size()};
  }
  if (num_sure >= rules_.top_k) return {Answer::kOut, 0};
  if (num_may >= rules_.top_k) return {Answer::kOpen, has_ask ? ask : rows_.size()};
  return rules_.top_p >= 1.0f || num_may == 0 ? Known{Answer::kIn, 0} : KeepsByTopP(w, num_may, num_sure);
}

Contest::Known Contest::KeepsByMinP(size_t w) {
  if (!(rules_.distance < std::numeric_limits<float>::infinity())) return {Answer::kIn, 0};
  looks_ += rows_.size();
  size_t leader = 0;  // the row whose logit is the largest, if its upper bound is right
  float low = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].high > rows_[leader].high) leader = i;
    low = std::max(low, rows_[i].low);
  }
  if (rows_[w].high < low - rules_.distance) return {Answer::kOut, 0};
  if (rows_[w].low >= rows_[leader].high - rules_.distance) return {Answer::kIn, 0};
  if (IsKnown(rows_[w])) return {Answer::kOpen, IsKnown(rows_[leader]) ? rows_.size() : leader};
  if (IsKnown(rows_[leader])) return {Answer::kOpen, w};
  return {Answer::kOpen, IsBetterToAsk(rows_[leader], rows_[w]) ? leader : w};
}

template <class Take>
float Contest::SumOfLargest(size_t n, float Bounded::* bound, float reference, Take take, float* filler) {
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
  for (size_t i = 0; i < kept; ++i) sum += N::Exp(room_[i].logit - reference);
  if (filler != nullptr && floor_ > -std::numeric_limits<float>::infinity())
    *filler = static_cast<float>(n - kept) * N::Exp(floor_ - reference);
  return sum;
}

// With A the sum of e^logit of those that come before w, and B that of w and those after it, of the top k: w is kept
// if A < top_p (A + B). `slack` covers all roundings, the reference's own included (docs/screen.md).
Contest::Known Contest::KeepsByTopP(size_t w, size_t num_may, size_t num_sure) {
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
  float filler = 0;
  const float rest_at_least = SumOfLargest(
      rules_.top_k - num_may, &Bounded::low, reference,
      [&](const Bounded& u) { return &u == &row || !MayPrecede(u, row); }, nullptr);
  float rest_at_most = SumOfLargest(
      rules_.top_k - num_sure, &Bounded::high, reference,
      [&](const Bounded& u) { return &u == &row || !Precedes(u, row); }, &filler);
  rest_at_most += filler + tiny;
  const float p = rules_.top_p;
  const float slack = 0x1p-14f + static_cast<float>(rules_.top_k + 2) * 0x1p-20f;
  if (before_at_most * ((1.0f - p) + slack) < rest_at_least * (p * (1.0f - slack))) return {Answer::kIn, 0};
  if (before_at_least * ((1.0f - p) - slack) >= rest_at_most * (p * (1.0f + slack))) return {Answer::kOut, 0};
  // What adds most to what is not known.
  const auto unknown = [&](const Bounded& u) { return N::Exp(u.high - reference) - N::Exp(u.low - reference); };
  size_t ask = rows_.size();
  float most = 0;
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (IsKnown(rows_[i])) continue;
    const bool is_first = ask == rows_.size();
    if (!is_first && rows_[i].asked > rows_[ask].asked) continue;
    const float here = unknown(rows_[i]);
    if (is_first || rows_[i].asked < rows_[ask].asked || here > most) {
      ask = i;
      most = here;
    }
  }
  return {Answer::kOpen, ask};
}

}  // namespace thimble::head
