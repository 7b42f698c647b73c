// Making a model's index, MODEL.thimble: docs/formats/index.md.
#ifndef THIMBLE_HOST_MODELS_PREPARE_H_
#define THIMBLE_HOST_MODELS_PREPARE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/board.h"
#include "engine/formats/index_file.h"
#include "host/models/screen_builder.h"
#include "host/support/atomic_file.h"
#include "host/support/errors.h"

namespace thimble::host {

struct PrepareOptions {
  std::string model = {};  // a GGUF file or a tensor folder
  std::string out = {};    // empty: IndexName() of it
  ScreenSize screen = {};  // what is 0 of it is chosen: what costs the fewest bytes on `board`
  // Of the first stage. 0: one where its tables then lie in the board's internal memory, otherwise what costs the
  // fewest bytes there. More than its records have words: as many as they have.
  uint32_t num_parts = 0;
  // Of the model's own text, for the table of drafts; 0: no table.
  uint32_t draft_tokens = 0;
  Board board = kEsp32Cam;
  uint32_t n_ctx = 0;  // positions of context there; 0: as many as it has room for, up to the model's
};

struct Prepared {
  formats::Index index;
  std::string path;
  uint64_t index_bytes = 0;
  // What was compared, in that order, and the bytes a token costs with it.
  struct Tried {
    ScreenShape shape;
    uint32_t num_parts = 1;
    double bytes_a_token = 0;
    std::array<formats::ScreenUse, 2> uses = {};  // by MeasuredSampler
    std::array<double, 2> survivors_mean = {};
    bool is_chosen = false;
  };
  std::vector<Tried> tried;
  uint64_t draft_entries = 0;  // of the table of drafts
  uint32_t positions = 0;      // of each text that the model wrote; of one position there is nothing to measure
};

// Reads the model once, lets it write a few short texts of its own, makes and measures the screen, and writes the
// index, whole or not at all. Where there was nothing to measure on (index.screen.num_measured is 0), the first size of
// those that would have been compared is taken. Deterministic: the same model and options give the same bytes on every
// computer. Shows progress. Needs memory for the LM head in float32 five times over. Fails with one sentence.
Expected<Prepared> Prepare(const PrepareOptions& options);

// The same to a file that is open, whatever options.out is.
Expected<Prepared> WriteIndex(const PrepareOptions& options, FileSink& sink);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_PREPARE_H_
