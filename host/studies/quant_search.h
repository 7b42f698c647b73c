// Which matrices to round to Q8_0, so that a token reads the fewest bytes within a limit of divergence.
#ifndef THIMBLE_HOST_STUDIES_QUANT_SEARCH_H_
#define THIMBLE_HOST_STUDIES_QUANT_SEARCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "host/formats/checkpoint.h"
#include "host/formats/gguf_writer.h"
#include "host/models/convert.h"
#include "host/studies/quality.h"
#include "host/support/errors.h"

namespace thimble::host {

struct QuantLimit {
  double kld_max = 0.001;  // mean, from the model as it is
  std::string text_file;   // what it is measured by; empty: texts of the model's own
  uint32_t chunk = 128;    // tokens, or all positions that the model has
  uint32_t chunks = 16;    // at most, of a file; so many of its own texts
};

struct QuantFound {
  std::vector<ChosenType> types;   // of all matrices, as ChooseTypes() gives them
  Quality quality;                 // measured with these
  uint64_t token_bytes = 0;        // that a token reads of matrices in a full scan
  uint64_t exact_token_bytes = 0;  // the same with no matrix rounded for this
  uint32_t measured = 0;           // models that were measured
  std::string text;                // what they were measured by, in words
};

// Starts from ChooseTypes() for `recipe`, whose `quant` is not looked at; what its rules name stays as they say.
// Measures the model with all other matrices in Q8_0; if that is too far, each of them alone, and then choices of them
// that by the sum of these should be within the limit. What it gives was measured to be. Writes models to temporary
// files, shows progress. Deterministic.
Expected<QuantFound> SearchQuant(const Checkpoint& checkpoint, const TypeRecipe& recipe, const QuantLimit& limit);

// Convert() with what SearchQuant() finds for the types of `options`, which says nothing of how to choose them.
struct SearchedConversion {
  Converted converted;
  QuantFound found;
};
Expected<SearchedConversion> ConvertWithin(ConvertOptions options, const QuantLimit& limit);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_QUANT_SEARCH_H_
