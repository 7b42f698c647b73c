// Reading a GGUF model: hyper-parameters, where each tensor lies, where the tokenizer lies. Versions 2 and 3,
// little-endian.
//
// Format: ggml project, docs/gguf.md. Keys read and their meaning are listed in docs/formats/gguf.md of this product.
// The file is untrusted: sizes, counts, offsets, types and shapes are all checked here, once, so that nothing after
// this has to.
#ifndef THIMBLE_ENGINE_FORMATS_GGUF_H_
#define THIMBLE_ENGINE_FORMATS_GGUF_H_

#include <cstdint>
#include <optional>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"

namespace thimble::formats {

// ggml's number of each type, and the type of a number: none of those that cannot be run.
inline constexpr uint32_t kGgmlTypes[kNumDTypes] = {0, 1, 30, 8, 2, 3, 6, 7, 12, 13, 14, 20};
std::optional<DType> TypeOfGgml(uint32_t ggml_type);

// Reads the header through `reader` from the start of the file. The tensor table is taken from `arena`
// (TensorCount(shape) * sizeof(TensorRef) bytes). Refused by name: other architectures, tensor types that no
// DType is, biases, rope scaling, and any other tensor or key that would change the numbers; missing or doubled
// tensors; shapes that contradict the hyper-parameters; data outside the file; offsets that are not multiples of 4.
// A model without output.weight is tied. A tokenizer is one of tokenizer.ggml.model = "llama", "t5", or "gpt2" with a
// tokenizer.ggml.pre of PreTokenizer; without that key, or with "none" or "no_vocab", there is none. Of another kind,
// and where its keys contradict each other, it is not used (ModelFile::tokenizer_fault).
Result<ModelFile> OpenGguf(storage::ByteReader& reader, Arena& arena);

// The tokenizer alone, of a model of any architecture or of a file without a model. Fails where OpenGguf() would have a
// tokenizer_fault, and with kNotFound if there is no tokenizer.
Result<TokenizerRef> OpenGgufVocabulary(storage::ByteReader& reader);

}  // namespace thimble::formats

#endif  // THIMBLE_ENGINE_FORMATS_GGUF_H_
