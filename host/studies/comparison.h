// One model stored in several ways, on one board: what each costs and what it is worth.
#ifndef THIMBLE_HOST_STUDIES_COMPARISON_H_
#define THIMBLE_HOST_STUDIES_COMPARISON_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host/models/model_request.h"
#include "host/models/screen_builder.h"
#include "host/studies/quality.h"
#include "host/studies/simulator.h"
#include "host/support/errors.h"

namespace thimble::host {

struct ComparisonRequest {
  ModelRequest model;
  std::string card_mode;          // empty: the board's own
  std::string text_file;          // what models are judged by; empty: texts of the model's own
  uint32_t n_ctx = 0;             // on the board; 0: as many as all that can be there have room for
  uint32_t chunk = 128;           // tokens, or all positions that the model has
  uint32_t chunks = 32;           // at most, of a file; so many of its own texts
  int64_t n_predict = 64;         // tokens of the modelled run
  ScreenSize screen;              // what is 0 is chosen as `prepare` does
  std::optional<double> kld_max;  // one row more: what SearchQuant() finds within it
  bool best_plan = false;         // each with the plan that Optimize() finds instead of its usual one
};

// A way to find the next token.
struct ComparedHead {
  std::string refused;        // why this board cannot do it, a sentence; or empty
  Simulated simulated;        // greedy
  Stage token;                // of its tokens after the first, on average
  uint64_t memory_bytes = 0;  // of RAM: the most that was used of SRAM and PSRAM together
};

struct Compared {
  std::string stored;   // "float32"
  std::string same_as;  // the row before it that has the same types, or empty; all else is that row's then
  std::string types;    // "F16, Q8_0"
  uint64_t file_bytes = 0;
  Quality quality;  // held against float32
  ComparedHead full;
  ComparedHead screened;
};

struct Comparison {
  std::string model;
  std::string board;
  std::string constants;  // ConstantsText()
  std::string card_mode;
  std::string text;  // what it was judged by, in words
  uint32_t chunk = 0;
  uint32_t n_ctx = 0;          // on the board
  std::vector<Compared> rows;  // float32, 16 bits, hybrid, Q8_0, and what was searched
};

// Writes the model in each way to temporary files, judges and prepares each, and runs each on the board's clock. Shows
// progress. Deterministic. What a board cannot do is said in its row; fails for what makes all rows impossible.
Expected<Comparison> Compare(const ComparisonRequest& request);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_COMPARISON_H_
