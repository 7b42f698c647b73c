// Writing a model as a tensor folder. Format: docs/formats/tensor_folder.md.
#ifndef THIMBLE_HOST_FORMATS_FOLDER_WRITER_H_
#define THIMBLE_HOST_FORMATS_FOLDER_WRITER_H_

#include <string>
#include <string_view>
#include <vector>

#include "host/formats/checkpoint.h"
#include "host/support/atomic_file.h"
#include "host/support/errors.h"

namespace thimble::host {

// Whether a file of this name may be in a tensor folder that WriteFolder() made.
bool IsFolderFileName(std::string_view name);

// Writes `checkpoint` into `folder`, and shows how far it is under `label`: all tensors expanded to float32, the files
// of checkpoint.tokenizer_files as they are and, if there is a vocabulary, tokenizer.bin. Returns notes for the user:
// what tokenizer.bin cannot keep.
Expected<std::vector<std::string>> WriteFolder(const Checkpoint& checkpoint, const std::string& label,
                                               AtomicFolder& folder);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_FOLDER_WRITER_H_
