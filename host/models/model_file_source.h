// A model that the engine reads as it is, as a source of `convert`.
#ifndef THIMBLE_HOST_MODELS_MODEL_FILE_SOURCE_H_
#define THIMBLE_HOST_MODELS_MODEL_FILE_SOURCE_H_

#include <string>

#include "host/formats/checkpoint.h"
#include "host/models/card_open.h"
#include "host/support/errors.h"

namespace thimble::host {

// Opens the model with the engine's own readers, so that what passes here is what runs: header, tensor table and, if it
// has one, the whole tokenizer; one that cannot be used is left out (Checkpoint::no_texts). Tensors keep the types they
// are stored in. Whatever opens as a formats::ModelFile will do. `path` is what sentences start with. `tokenizer` is a
// tokenizer file that goes before the model's own, or empty.
Expected<Checkpoint> OpenModelFileSource(OpenedModel opened, const std::string& path, const std::string& tokenizer);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_MODEL_FILE_SOURCE_H_
