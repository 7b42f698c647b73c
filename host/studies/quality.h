// How well a model foretells a text, and how far it is from another one: llama.cpp's measures.
#ifndef THIMBLE_HOST_STUDIES_QUALITY_H_
#define THIMBLE_HOST_STUDIES_QUALITY_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/base/tensor.h"

namespace thimble::host {

// Between the distributions of a base and of the model, over all tokens of the vocabulary, natural logarithms.
struct Divergence {
  double base_ppl = 0;
  double kld_mean = 0;   // Kullback and Leibler's, sum of p_base * log(p_base / p): 0 where they are the same
  double kld_p99 = 0;    // 99th percentile, interpolated between ranks
  double top_match = 0;  // share of positions at which the likeliest token is the same, the first of equal ones
  double rms_dp = 0;     // root of the mean square of p - p_base, of the text's token
};

struct Quality {
  uint64_t tokens = 0;
  double ppl = 0;        // e to the mean of -log p of the text's tokens
  double ppl_error = 0;  // its standard error: of the mean of independent tokens, times ppl; 0 for one token
  std::optional<Divergence> divergence;
};

// Takes one position after the other.
class QualityMeter {
 public:
  // `logits` and `base` [vocab_size], finite; `base` empty, always or never: no divergence. `next` is what follows in
  // the text, below vocab_size.
  void Add(std::span<const float> logits, std::span<const float> base, TokenId next);

  // Of all positions so far, at least one.
  Quality Result() const;

 private:
  uint64_t tokens_ = 0;
  double sum_ = 0;  // of -log p, and of its square
  double squares_ = 0;
  double base_sum_ = 0;
  double dp_squares_ = 0;
  uint64_t matches_ = 0;
  std::vector<double> klds_;
  std::vector<double> log_p_, log_base_;  // workspace
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_QUALITY_H_
