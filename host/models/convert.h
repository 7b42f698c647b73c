// From any checkpoint that is read to one GGUF file or one tensor folder.
#ifndef THIMBLE_HOST_MODELS_CONVERT_H_
#define THIMBLE_HOST_MODELS_CONVERT_H_

#include <functional>
#include <string>
#include <vector>

#include "host/formats/checkpoint.h"
#include "host/formats/gguf_writer.h"
#include "host/support/errors.h"

namespace thimble::host {

// Whether the engine reads `path` as it is: a GGUF file, a card's image, a device.
Expected<bool> RunsAsItIs(const std::string& path);

// Opens the checkpoint at `source`: a Hugging Face folder, a llama2.c .bin file, or what runs as it is. `tokenizer`
// names a tokenizer file that goes before the one the source brings, or is empty. What cannot be represented is refused
// by name.
Expected<Checkpoint> OpenCheckpoint(const std::string& source, const std::string& tokenizer);

struct ConvertOptions {
  std::string source = {};
  std::string out = {};        // the file, or the folder, to write
  std::string tokenizer = {};  // as for OpenCheckpoint()
  TypeRecipe types = {};
  // What makes types of `types`; another may measure first.
  std::function<Expected<std::vector<ChosenType>>(const Checkpoint&, const TypeRecipe&)> choose = ChooseTypes;
  bool to_folder = false;  // a tensor folder, in float32 whatever `types` says, instead of a GGUF file
};

// Writes the source as `out`, which appears whole or not at all.
struct Converted {
  std::vector<std::string> notes;  // what the user should know, one sentence each
  std::vector<ChosenType> types;   // of a GGUF file's matrices
  uint64_t bytes = 0;              // of a GGUF file
};
Expected<Converted> Convert(const ConvertOptions& options);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_CONVERT_H_
