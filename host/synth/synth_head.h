// The two ends of a synthetic model, token embedding and LM head, made so that hidden states and head rows lie to each
// other as they do in a trained model.
//
// A matrix of independent random numbers is no test of a head that reads only the rows that can win: how many can win
// depends on how close the best logits lie. Here
//   * head rows share a mean row, have a spectrum that falls like a trained head's, norms that spread by a seventh, and
//     come in groups of eight near-synonyms within looser groups, scattered over the ids;
//   * the embedding row of a token is the hidden state that it leads to: the direction of a group that follows it (two
//     groups, for "web"), with a weight that varies from token to token, and noise with a falling spectrum.
// Layers that add little to the residual (SynthWeights scales their outputs down) let that state reach the head, bent
// somewhat by all that came before. The followers form one cycle through the vocabulary.
//
// All of it is synthetic; what is taken from trained models is one measure: the 10, 50 and 90 % quantiles, over hidden
// states x after the final norm, of (best logit - j-th best logit) / (|x| * mean row norm) for j = 2, 10 and 100.
//
//          j = 2                j = 10               j = 100
//   story  .0055  .0366  .1248  .0740  .1400  .2270  .195  .281  .366
//   web    .0020  .0130  .0390  .0400  .0670  .1120  .114  .150  .205
//
// Source: measured by Thimble's authors on the heads of small trained story models (14 019 x 128 and 6 000 x 64; the
// smaller of the two where both were measured). "web" is the first head under its story states mixed with noise until
// the entropy was above 4 nats, standing in for a model that learned from the web. At 32 000 x 192, over seeds and
// texts of 400 tokens, the quantiles reached here are 0.7 to 1.07 times these, and at j = 2, where chance is largest,
// up to 1.2 times: on the whole a head finds no easier work. The entropy at temperature 1 is about 1.9 nats (story)
// and 4.5 (web). At other shapes all of it differs.
#ifndef THIMBLE_HOST_SYNTH_SYNTH_HEAD_H_
#define THIMBLE_HOST_SYNTH_SYNTH_HEAD_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace thimble::host {

enum class SynthHead {
  kPlain,  // independent random numbers
  kStory,  // a model sure of itself
  kWeb,    // a model less sure
};

// `value` to the nearest number of IEEE 754 binary16, ties to even; |value| < 65 504.
float RoundToF16(float value);

// Likewise to bfloat16, for a finite value.
float RoundToBF16(float value);

// Rows of both matrices, each by itself. Every element is a pure function of the arguments, made of integers and of
// IEEE 754 basic operations and square roots in a fixed order: the same bits on every computer. Immutable.
class HeadGeometry {
 public:
  // `head`: kStory or kWeb.
  HeadGeometry(SynthHead head, uint32_t vocab_size, uint32_t hidden_size, uint64_t seed);

  // One row, [hidden_size], each element exact in binary16. Elements of an embedding row are about 1; a head row is
  // scaled so that logits spread as in a trained model.
  void LmHeadRow(uint32_t token, std::span<float> row) const;
  void EmbeddingRow(uint32_t token, std::span<float> row) const;

 private:
  struct Profile;
  static const Profile kStory;
  static const Profile kWeb;

  double Normal(uint32_t stream, uint64_t index) const;
  uint32_t Place(uint32_t token) const;
  void AddLevel(size_t level, uint32_t place, std::span<double> vector) const;
  void Turn(std::span<double> vector) const;

  const Profile& profile_;
  uint32_t vocab_size_;
  uint64_t seed_;
  uint32_t stride_;                 // from a token's place to that of its follower
  std::vector<double> axes_;        // [hidden_size] deviation of head rows along each principal axis
  std::vector<double> noise_axes_;  // [hidden_size] of hidden states
  std::vector<double> mean_row_;    // [hidden_size]
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SYNTH_SYNTH_HEAD_H_
