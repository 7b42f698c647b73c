// Files that people get in place of a model.
#ifndef THIMBLE_HOST_SUPPORT_FOREIGN_FILE_H_
#define THIMBLE_HOST_SUPPORT_FOREIGN_FILE_H_

#include <string>
#include <string_view>

#include "host/support/errors.h"
#include "host/support/input_file.h"

namespace thimble::host {

// Of a file's start that this much tells all: the mark of a tar archive is the last thing that is looked for.
inline constexpr size_t kForeignStartBytes = 512;

// Refuses, by what it holds and whatever its name, what is never a model, its weights or its tokenizer: a Git LFS
// pointer, a web page, an archive, a PyTorch checkpoint, nothing at all. The sentence says what it is and what to do.
Status RefuseForeign(std::string_view start, const std::string& path);
Status RefuseForeign(const InputFile& file);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_FOREIGN_FILE_H_
