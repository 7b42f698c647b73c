// A model on its way from one file format to another: what every reader hands to the GGUF writer.
#ifndef THIMBLE_HOST_FORMATS_CHECKPOINT_H_
#define THIMBLE_HOST_FORMATS_CHECKPOINT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/tensor.h"
#include "host/formats/vocabulary.h"
#include "host/support/errors.h"

namespace thimble::host {

// The numbers of a model, read piece by piece.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // The type that the tensor's numbers have where they are stored: each fits it exactly. kF32 where nothing says more.
  virtual DType StoredType(TensorId) const { return DType::kF32; }

  // Fills `out`, whole rows of DimsOf(id.kind) from `first_row`, with float32 values that equal the stored ones
  // exactly. Rows of q and k come in the GgufRowOrder() of the architecture. Fails when the disk does, and on a value
  // that is NaN or infinite, naming the tensor as its source does.
  virtual Status ReadRows(TensorId id, uint32_t first_row, std::span<float> out) = 0;

  // The same rows as they are stored: of tensors whose StoredType() is of blocks, which their numbers do not tell.
  virtual Status ReadStoredRows(TensorId, uint32_t, std::span<std::byte>) {
    return Sentence("This source has no blocks");
  }
};

struct Checkpoint {
  std::string name;  // general.name
  ModelShape shape;
  bool tied = false;  // the LM head is the token embedding; kLmHead is never asked for
  Vocabulary vocabulary;
  std::unique_ptr<WeightSource> weights;
  std::string no_texts;                      // why its tokenizer cannot be used; empty: it can, or there is none
  std::vector<std::string> notes;            // what the user should know, one sentence each
  std::vector<std::string> tokenizer_files;  // a tokenizer.model and a tokenizer.json that came with it, to be copied
  std::vector<std::string> inputs;           // paths of the files it is read from, which no output may replace
};

// What a user is told of a tokenizer that cannot be used; `why` is a sentence.
inline std::string IdsOnlyNote(const std::string& why) { return why + "; the model runs with token ids only"; }

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_CHECKPOINT_H_
