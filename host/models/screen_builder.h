// Making the screen of an LM head: codes, scales and norms of every row (docs/screen.md).
#ifndef THIMBLE_HOST_MODELS_SCREEN_BUILDER_H_
#define THIMBLE_HOST_MODELS_SCREEN_BUILDER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/formats/index_file.h"

namespace thimble::host {

// A screen, as it will stand in an index. row_crc of the records is 0: SealRecords() fills it in.
struct BuiltScreen {
  formats::ScreenInfo info;
  std::vector<float> vectors;                   // [1 + num_directions, hidden_size]
  std::vector<std::vector<std::byte>> records;  // of each stage, [rows, record_bytes]
};

// Stages of these many bits for the rows of `head` [rows, hidden_size], all finite. `states` [n, hidden_size] are
// hidden states of the model: their principal directions and the head's are kept apart from the codes. Deterministic.
BuiltScreen BuildScreen(std::span<const float> head, uint32_t hidden_size, std::span<const float> states,
                        std::span<const uint32_t> bits);

// Of each stage, in the mean: rows that go on, and have their next record or, after the last stage, their weights read.
using RowsLeft = std::array<float, formats::kMaxStages>;

// Measures on `states` how many rows go on after each stage when the likeliest token is chosen, and sets the info's
// rows_left_*, num_measured and num_candidates. Returns the same for the 40 likeliest, the sampler's default. Where
// there is nothing to measure on, all rows are taken to go on.
RowsLeft MeasureScreen(BuiltScreen& screen, uint32_t hidden_size, std::span<const float> states);

// Writes the checksums of the head's rows, as the model stores them, and of the records.
void SealRecords(BuiltScreen& screen, std::span<const uint32_t> row_crcs);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_SCREEN_BUILDER_H_
