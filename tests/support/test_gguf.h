// GGUF files made in memory, with seeded weights that are the same on every target: models for tests.
#ifndef THIMBLE_TESTS_SUPPORT_TEST_GGUF_H_
#define THIMBLE_TESTS_SUPPORT_TEST_GGUF_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/base/tensor.h"

namespace thimble::tests {

struct TestModel {
  ModelShape shape;
  bool tied = false;
  uint32_t alignment = 4096;  // of each tensor's data, from the start of the data
  uint64_t seed = 1;
  // What every weight of a matrix is rounded to; norms are float32, and so are matrices whose rows are no whole blocks.
  DType precision = DType::kF32;
  // Instead: each matrix in another of the types whose blocks are expanded, of those that its rows are whole blocks of.
  bool mixed = false;
  bool stored_wide = false;  // stored as float32 all the same
};

// A model without tokenizer. Weights are of a size that keeps activations near 1 and makes attention sharp.
std::vector<std::byte> MakeGguf(const TestModel& model);

// Tiny-LLM's shape (arnir0/Tiny-LLM on Hugging Face, config.json).
inline constexpr ModelShape kTinyLlm = {
    .vocab_size = 32000,
    .hidden_size = 192,
    .intermediate_size = 1024,
    .num_hidden_layers = 1,
    .num_attention_heads = 2,
    .num_key_value_heads = 1,
    .head_dim = 96,
    .max_position_embeddings = 1024,
    .rms_norm_eps = 1e-5f,
    .rope_theta = 10000.0f,
};

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_TEST_GGUF_H_
