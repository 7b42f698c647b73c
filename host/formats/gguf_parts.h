// Models in several GGUF files, as llama.cpp's llama-gguf-split makes them: NAME-00001-of-00003.gguf and so on.
//
// Format: llama.cpp, tools/gguf-split. The first part has all keys; each part has a tensor table and data of its own,
// and the keys split.no, split.count and split.tensors.count.
#ifndef THIMBLE_HOST_FORMATS_GGUF_PARTS_H_
#define THIMBLE_HOST_FORMATS_GGUF_PARTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "host/support/atomic_file.h"
#include "host/support/errors.h"

namespace thimble::host {

// The paths of all parts of the model whose first `path` is by its name; none if its name is no part's. A later part is
// refused with the name of the first, and so are parts that are not beside it.
Expected<std::vector<std::string>> GgufParts(const std::string& path);

// NAME of the parts' names.
std::string NameOfParts(const std::string& path);

// One GGUF file of the `parts`, which are all there are, in order: the keys of the first but for split.*, the tensor
// tables one after the other, all data. Nothing of it is checked but what could mix up the parts: their numbers and
// that each holds the data of its tensors. Fails with a sentence that names the part. The header is held in memory.
Status JoinGguf(std::span<const std::string> parts, FileSink& sink);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_GGUF_PARTS_H_
