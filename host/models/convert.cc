#include "host/models/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "host/formats/folder_writer.h"
#include "host/formats/gguf_parts.h"
#include "host/formats/hf_folder.h"
#include "host/formats/llama2c.h"
#include "host/models/card_open.h"
#include "host/models/model_file_source.h"
#include "host/support/atomic_file.h"
#include "host/support/foreign_file.h"
#include "host/support/hugging_face.h"
#include "host/support/input_file.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

// Formats that look like none of ours; naming them helps more than "not a checkpoint".
Status RefuseOthers(const std::string& source) {
  THIMBLE_ASSIGN(const InputFile file, InputFile::Open(source));
  if (source.ends_with(".safetensors") || source.ends_with(".json")) {
    return Sentence(fmt::format("{} is one file of a Hugging Face folder; give the folder", source));
  }
  if (file.size_bytes() < kMinLlama2cHeaderBytes) {
    return Sentence(fmt::format("{} is neither a Hugging Face folder nor a llama2.c checkpoint", source));
  }
  return {};
}

// The tokenizer as the user has it: what --tokenizer names, or what lies in the source's folder.
std::vector<std::string> TokenizerFiles(const ConvertOptions& options) {
  const std::vector<std::string> candidates =
      !options.tokenizer.empty() ? std::vector<std::string>{options.tokenizer}
      : IsFolder(options.source)
          ? std::vector<std::string>{options.source + "/tokenizer.model", options.source + "/tokenizer.json"}
          : std::vector<std::string>();
  std::vector<std::string> files;
  for (const std::string& file : candidates) {
    if (Exists(file) && !file.ends_with(".bin")) files.push_back(file);
  }
  return files;
}

// Folders have no place for what other models of the family add.
Status CheckForFolder(const ModelShape& shape, const std::string& source) {
  if (shape.architecture != Architecture::kLlama) {
    return Sentence(
        fmt::format("{} is a model of the architecture {}, and a tensor folder holds plain Llamas: convert "
                    "it to a GGUF file, without --to folder",
                    source, ArchitectureName(shape.architecture)));
  }
  if (shape.rope_linear_factor != 1 || shape.has_rope_factors) {
    return Sentence(
        fmt::format("{} scales its rotary positions, and a tensor folder holds plain Llamas: convert it to a "
                    "GGUF file, without --to folder",
                    source));
  }
  return {};
}

}  // namespace

// A llama2.c checkpoint has no mark of its own, only a header that tells its exact length; everything with a mark, and
// every disk image, is told from it by that.
Expected<bool> RunsAsItIs(const std::string& path) {
  THIMBLE_TRY(RefuseRepository(path));
  if (IsFolder(path)) return IsTensorFolder(path) && !Exists(path + "/config.json");
  if (IsDevice(path)) return true;
  THIMBLE_ASSIGN(const InputFile file, InputFile::Open(path));
  THIMBLE_TRY(RefuseForeign(file));
  std::array<std::byte, 512> sector = {};
  const size_t n = file.size_bytes() < sector.size() ? static_cast<size_t>(file.size_bytes()) : sector.size();
  THIMBLE_TRY(file.ReadAt(0, std::span(sector).first(n)));
  if (std::memcmp(sector.data(), "GGUF", 4) == 0) return true;
  const std::span header = std::span(sector).first(std::min(n, kLlama2cHeaderBytes));
  if (ParseLlama2cHeader(header, file.size_bytes(), path)) return false;
  return path.ends_with(".img") || (sector[510] == std::byte{0x55} && sector[511] == std::byte{0xaa});
}

Expected<Checkpoint> OpenCheckpoint(const std::string& source, const std::string& tokenizer) {
  THIMBLE_ASSIGN(const std::vector<std::string> parts, GgufParts(source));
  if (!parts.empty()) {
    // Open as long as the checkpoint lives, by the device that reads it.
    THIMBLE_ASSIGN(TemporaryFile file, TemporaryFile::Create());
    THIMBLE_TRY(JoinGguf(parts, file.sink()));
    THIMBLE_ASSIGN(OpenedModel opened, OpenModelFile(file.path(), "", IndexUse::kIgnore));
    THIMBLE_ASSIGN(Checkpoint checkpoint, OpenModelFileSource(std::move(opened), source, tokenizer));
    checkpoint.name = NameOfParts(source);
    checkpoint.inputs = parts;
    return checkpoint;
  }
  THIMBLE_ASSIGN(const bool runs_as_it_is, RunsAsItIs(source));
  if (runs_as_it_is) {
    THIMBLE_ASSIGN(OpenedModel opened, OpenModelFile(source, "", IndexUse::kIgnore));
    return OpenModelFileSource(std::move(opened), source, tokenizer);
  }
  if (IsFolder(source)) return OpenHfFolder(source, tokenizer);
  THIMBLE_TRY(RefuseOthers(source));
  return OpenLlama2c(source, tokenizer);
}

Expected<Converted> Convert(const ConvertOptions& options) {
  THIMBLE_ASSIGN(Checkpoint checkpoint, OpenCheckpoint(options.source, options.tokenizer));
  std::vector<std::string> inputs = checkpoint.inputs;
  if (!options.tokenizer.empty()) inputs.push_back(options.tokenizer);
  if (options.to_folder) {
    THIMBLE_TRY(CheckForFolder(checkpoint.shape, options.source));
    checkpoint.tokenizer_files = TokenizerFiles(options);
    THIMBLE_ASSIGN(AtomicFolder folder, AtomicFolder::Create(options.out, inputs, IsFolderFileName));
    THIMBLE_ASSIGN(const std::vector<std::string> notes, WriteFolder(checkpoint, "convert", folder));
    THIMBLE_TRY(folder.Commit());
    checkpoint.notes.insert(checkpoint.notes.end(), notes.begin(), notes.end());
    return Converted{.notes = checkpoint.notes, .types = {}, .bytes = 0};
  }
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(options.out, inputs));
  THIMBLE_ASSIGN(const std::vector<ChosenType> types, options.choose(checkpoint, options.types));
  THIMBLE_TRY(WriteGguf(checkpoint, types, "convert", file.sink()));
  const uint64_t bytes = file.sink().written_bytes();
  THIMBLE_TRY(file.Commit());
  return Converted{.notes = checkpoint.notes, .types = types, .bytes = bytes};
}

}  // namespace thimble::host
