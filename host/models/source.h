// What a user may name as a model, made into one file that the engine reads.
#ifndef THIMBLE_HOST_MODELS_SOURCE_H_
#define THIMBLE_HOST_MODELS_SOURCE_H_

#include <optional>
#include <span>
#include <string>
#include <utility>

#include "host/formats/gguf_writer.h"
#include "host/support/atomic_file.h"
#include "host/support/errors.h"

namespace thimble::host {

class ModelSource {
 public:
  explicit ModelSource(std::string path) : path_(std::move(path)) {}
  ModelSource(TemporaryFile converted, std::string no_texts)
      : path_(converted.path()), converted_(std::move(converted)), no_texts_(std::move(no_texts)) {}

  // What to open: valid while this object lives.
  const std::string& path() const { return path_; }

  // Whether path() is a conversion that nobody else sees, gone with this object.
  bool is_converted() const { return converted_.has_value(); }

  // Checkpoint::no_texts of what was converted.
  const std::string& no_texts() const { return no_texts_; }

 private:
  std::string path_;
  std::optional<TemporaryFile> converted_;
  std::string no_texts_;
};

// A Hugging Face folder, a llama2.c checkpoint, or a tensor folder without tokenizer.bin to which a tokenizer is given,
// is converted into a nameless temporary file, with a progress line and its notes on stderr; so are the parts of a
// model in several GGUF files, of which `path` is the first. Whatever else there is, a GGUF file, a tensor folder, a
// card's image, a device, is handed on as it is, unread but for its first sector. With `as_one_file` a tensor folder is
// converted, too. `written`: what the conversion's matrices are stored in. `tokenizer` as for Convert(); refused where
// there is nothing to convert.
Expected<ModelSource> OpenModelSource(const std::string& path, const std::string& tokenizer, bool as_one_file = false,
                                      WrittenType written = WrittenType::kExact);

// What a file that `path` is converted into is called: "stories.gguf" of stories.bin, of a folder stories and of
// stories-00001-of-00002.gguf.
std::string NameConverted(const std::string& path);

// The checkpoint as a nameless temporary GGUF file. `types` is ChooseTypes() of it.
Expected<ModelSource> WriteTemporary(const Checkpoint& checkpoint, std::span<const ChosenType> types);

// The model at `path`, which runs as it is, once more as a nameless temporary file, its matrices in `written`.
// `file_on_card` as for OpenModelFile().
Expected<ModelSource> RewriteModel(const std::string& path, const std::string& file_on_card, WrittenType written);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_SOURCE_H_
