#include "host/studies/quality.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace thimble::host {
namespace {

// The logarithm of each token's probability.
void LogSoftmax(std::span<const float> logits, std::vector<double>& out) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  const double log_sum = largest + std::log(sum);
  out.resize(logits.size());
  std::transform(logits.begin(), logits.end(), out.begin(), [&](float logit) { return logit - log_sum; });
}

ptrdiff_t Likeliest(std::span<const float> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

// `values` are not empty.
double Percentile(std::vector<double> values, double fraction) {
  std::sort(values.begin(), values.end());
  const double rank = fraction * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (rank - static_cast<double>(below));
}

}  // namespace

void QualityMeter::Add(std::span<const float> logits, std::span<const float> base, TokenId next) {
  LogSoftmax(logits, log_p_);
  ++tokens_;
  sum_ -= log_p_[next];
  squares_ += log_p_[next] * log_p_[next];
  if (base.empty()) return;
  LogSoftmax(base, log_base_);
  double kld = 0;
  for (size_t i = 0; i < log_p_.size(); ++i) kld += std::exp(log_base_[i]) * (log_base_[i] - log_p_[i]);
  klds_.push_back(kld);
  base_sum_ -= log_base_[next];
  const double dp = std::exp(log_p_[next]) - std::exp(log_base_[next]);
  dp_squares_ += dp * dp;
  matches_ += Likeliest(logits) == Likeliest(base);
}

Quality QualityMeter::Result() const {
  const auto n = static_cast<double>(tokens_);
  const double mean = sum_ / n;
  Quality quality = {.tokens = tokens_, .ppl = std::exp(mean), .ppl_error = 0, .divergence = {}};
  if (tokens_ > 1) {
    const double variance = std::max(squares_ / n - mean * mean, 0.0);
    quality.ppl_error = quality.ppl * std::sqrt(variance / (n - 1));
  }
  if (klds_.empty()) return quality;
  double kld = 0;
  for (const double one : klds_) kld += one;
  // Below 0 by rounding only.
  quality.divergence = {.base_ppl = std::exp(base_sum_ / n),
                        .kld_mean = std::max(kld / n, 0.0),
                        .kld_p99 = std::max(Percentile(klds_, 0.99), 0.0),
                        .top_match = static_cast<double>(matches_) / n,
                        .rms_dp = std::sqrt(dp_squares_ / n)};
  return quality;
}

}  // namespace thimble::host
