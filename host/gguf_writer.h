// Writing a model as a GGUF file, version 3, little-endian.
//
// Format: ggml project, docs/gguf.md. Keys as llama.cpp reads them for the architecture "llama".
#ifndef THIMBLE_HOST_GGUF_WRITER_H_
#define THIMBLE_HOST_GGUF_WRITER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "host/atomic_file.h"
#include "host/checkpoint.h"

namespace thimble::host {

// Tensors start on this boundary (general.alignment): whole sectors, and whole flash pages, of a card.
inline constexpr uint64_t kGgufAlignment = 4096;

// The tensors in the order of the file: layer by layer in the order of use, the final norm, the LM head, and the token
// embedding at the end. One token then reads a row of the last tensor and goes through the rest of the file once,
// forwards; with a tied head, through all of it.
std::vector<TensorId> GgufTensorOrder(const ModelShape& shape, bool tied);

// The type in which matrices are written. Norms are always float32, as llama.cpp wants them. The numbers are the same.
enum class WrittenType {
  kF32,   // expanded
  kKeep,  // as WeightSource::StoredType() has them
};

// Writes `checkpoint` to `sink`, a megabyte at a time, and shows how far it is under `label`. general.file_type is the
// type that most elements of matrices have.
Status WriteGguf(const Checkpoint& checkpoint, WrittenType dtype, const std::string& label, FileSink& sink);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_GGUF_WRITER_H_
