// Heads that a screen finds hard, and heads with their screens from plain weights.
#ifndef THIMBLE_TESTS_SUPPORT_HARD_HEAD_H_
#define THIMBLE_TESTS_SUPPORT_HARD_HEAD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "host/models/screened_head.h"

namespace thimble::tests {

// Independent normal numbers; the same for the same arguments with one standard library.
std::vector<float> Normal(size_t n, uint32_t seed, float deviation = 1.0f);

// Rows [rows, hidden_size], among them equal ones, some that differ by one unit in the last place of one element or of
// all, zeros, subnormal ones and large ones.
std::vector<float> HardHead(uint32_t rows, uint32_t hidden_size, uint32_t seed);

struct ScreenedHeadOptions {
  host::ScreenShape shape = {};
  uint32_t num_parts = 1;  // of the first stage; at most as many as its records have words
  host::ScreenedHead::Options head = {};
  bool as_blocks = false;  // the rows are rounded to Q8_0, and so are the states that they are multiplied with
};

// `weights` [rows, hidden_size], stored as F16 where every one of them is exact in it, else as float32, or in blocks
// that must be able to hold them. `states` [n, hidden_size] shape the screen.
std::unique_ptr<host::ScreenedHead> MakeScreenedHead(std::span<const float> weights, uint32_t hidden_size,
                                                     std::span<const float> states, const ScreenedHeadOptions& options);

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_HARD_HEAD_H_
