#include "host/models/source.h"

#include <fmt/format.h>

#include "host/formats/gguf_parts.h"
#include "host/models/card_open.h"
#include "host/models/convert.h"
#include "host/models/model_file_source.h"
#include "host/support/messages.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

Expected<ModelSource> Written(const Checkpoint& checkpoint, WrittenType written) {
  THIMBLE_ASSIGN(const std::vector<ChosenType> types, ChooseTypes(checkpoint, {.dtype = written}));
  return WriteTemporary(checkpoint, types);
}

}  // namespace

Expected<ModelSource> WriteTemporary(const Checkpoint& checkpoint, std::span<const ChosenType> types) {
  THIMBLE_ASSIGN(TemporaryFile file, TemporaryFile::Create());
  THIMBLE_TRY(WriteGguf(checkpoint, types, "convert", file.sink()));
  return ModelSource(std::move(file), checkpoint.no_texts);
}

Expected<ModelSource> OpenModelSource(const std::string& path, const std::string& tokenizer, bool as_one_file,
                                      WrittenType written) {
  THIMBLE_ASSIGN(const std::vector<std::string> parts, GgufParts(path));
  if (!parts.empty() && tokenizer.empty() && written == WrittenType::kExact) {
    THIMBLE_ASSIGN(TemporaryFile file, TemporaryFile::Create());
    THIMBLE_TRY(JoinGguf(parts, file.sink()));
    return ModelSource(std::move(file), "");
  }
  THIMBLE_ASSIGN(const bool runs_as_it_is, RunsAsItIs(path));
  const bool as_it_is = runs_as_it_is && parts.empty() && !(as_one_file && IsFolder(path));
  const bool lacks_tokenizer =
      IsTensorFolder(path) && !Exists(fmt::format("{}/{}", path, formats::kFolderTokenizerName));
  if (as_it_is && (tokenizer.empty() || !lacks_tokenizer)) {
    if (!tokenizer.empty()) return Sentence(fmt::format("--tokenizer: {} brings its own tokenizer", path));
    return ModelSource(path);
  }
  THIMBLE_ASSIGN(const Checkpoint checkpoint, OpenCheckpoint(path, tokenizer));
  THIMBLE_ASSIGN(ModelSource source, Written(checkpoint, written));
  for (const std::string& note : checkpoint.notes) ReportNote(note);
  return source;
}

std::string NameConverted(const std::string& path) {
  std::string name = NameOf(path);
  if (name.size() > 4 && name.ends_with(".bin")) name.resize(name.size() - 4);
  if (name.ends_with(".gguf")) name = NameOfParts(name);
  return name + ".gguf";
}

Expected<ModelSource> RewriteModel(const std::string& path, const std::string& file_on_card, WrittenType written) {
  THIMBLE_ASSIGN(OpenedModel opened, OpenModelFile(path, file_on_card, IndexUse::kIgnore));
  THIMBLE_ASSIGN(const Checkpoint checkpoint, OpenModelFileSource(std::move(opened), path, ""));
  return Written(checkpoint, written);
}

}  // namespace thimble::host
