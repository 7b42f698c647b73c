// Writing a model as a GGUF file, version 3, little-endian.
//
// Format: ggml project, docs/gguf.md. Keys as llama.cpp reads them for the model's architecture.
#ifndef THIMBLE_HOST_FORMATS_GGUF_WRITER_H_
#define THIMBLE_HOST_FORMATS_GGUF_WRITER_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/formats/checkpoint.h"
#include "host/support/atomic_file.h"

namespace thimble::host {

// Tensors start on this boundary (general.alignment): whole sectors, and whole flash pages, of a card.
inline constexpr uint64_t kGgufAlignment = 4096;

// The tensors in the order of the file: rotary factors, layer by layer in the order of use, the final norm, the LM
// head, and the token embedding at the end. One token then reads a row of the last tensor and goes through the rest of
// the file once, forwards; with a tied head, through all of it.
std::vector<TensorId> GgufTensorOrder(const ModelShape& shape, bool tied);

// The type in which a matrix is written. Vectors are always float32, as llama.cpp wants them. Those of blocks change
// the numbers, the others leave them the same. Blocks are written as they are stored, or expanded: no matrix is rounded
// twice.
enum class WrittenType {
  kF32,    // expanded
  kKeep,   // as WeightSource::StoredType() has them
  kExact,  // in 16 bits where every value survives: as they are stored, else F16, else BF16, else float32
  kQ8_0,   // rounded to blocks of 32, if rows are whole blocks; what is in blocks already stays as it is stored
  kQ4_0,   // the same
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,  // rounded to blocks of 256; to Q5_0, as llama.cpp does, where rows are whole blocks of 32 only
};

// What a matrix that is to be `written` so is rounded to, if it is.
std::optional<DType> RoundedType(WrittenType written);

// Which matrices are made smaller than their numbers allow.
enum class Quant {
  kNone,
  kAll,     // all
  kHybrid,  // the large ones: with at least as many elements as the layers' matrices have on average
};

// Matrices by name, as a shell matches files: "blk.*.ffn_*".
struct TypeRule {
  std::string pattern;
  WrittenType written = WrittenType::kExact;
};

// How the matrices of a model are to be written: what the last rule says that matches, else what `quant` says, else
// `dtype`. The last also goes for those that were to be rounded and cannot be.
struct TypeRecipe {
  WrittenType dtype = WrittenType::kExact;
  Quant quant = Quant::kNone;
  WrittenType rounded = WrittenType::kQ8_0;  // what those are rounded to
  std::vector<TypeRule> rules = {};
};

// Whether a rule of `recipe` is about this tensor.
bool IsNamed(const TypeRecipe& recipe, TensorId id);

// One matrix and the type it is written in, and why, in a few words.
struct ChosenType {
  TensorId id;
  DType type = DType::kF32;
  std::string why;
};

// The types of all matrices, in the order of the file. kExact reads those that are stored in float32 once, and shows
// how far it is. Fails when reading does, and for a rule that matches no matrix.
Expected<std::vector<ChosenType>> ChooseTypes(const Checkpoint& checkpoint, const TypeRecipe& recipe);

// Writes `checkpoint` to `sink`, a megabyte at a time, and shows how far it is under `label`. general.file_type is the
// type that most elements of matrices have. `types` is ChooseTypes() of it.
Status WriteGguf(const Checkpoint& checkpoint, std::span<const ChosenType> types, const std::string& label,
                 FileSink& sink);

// The same with the types that ChooseTypes() gives for `recipe`.
Status WriteGguf(const Checkpoint& checkpoint, const TypeRecipe& recipe, const std::string& label, FileSink& sink);

// The same file with 0 for every number (1 for rotary factors), its matrices in `type`: what a model of that shape is
// to a plan and a clock. The tensors are a hole.
Status WriteHollowGguf(const Checkpoint& checkpoint, DType type, FileSink& sink);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_GGUF_WRITER_H_
