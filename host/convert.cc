#include "host/convert.h"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

#include "host/atomic_file.h"
#include "host/hf_folder.h"
#include "host/input_file.h"
#include "host/llama2c.h"

namespace thimble::host {
namespace {

// Formats that look like none of ours; naming them helps more than "not a checkpoint".
Status RefuseOthers(const std::string& source) {
  THIMBLE_ASSIGN(const InputFile file, InputFile::Open(source));
  std::array<char, 4> start = {};
  if (file.size_bytes() >= start.size()) THIMBLE_TRY(file.ReadAt(0, std::as_writable_bytes(std::span(start))));
  const std::string_view magic(start.data(), start.size());
  if (magic == "GGUF") return Sentence(fmt::format("{} is a GGUF file already; it runs as it is.", source));
  if (magic == "PK\x03\x04")
    return Sentence(fmt::format("{} is a PyTorch checkpoint; save it as safetensors.", source));
  if (source.ends_with(".safetensors") || source.ends_with(".json")) {
    return Sentence(fmt::format("{} is one file of a Hugging Face folder; give the folder.", source));
  }
  if (file.size_bytes() < kLlama2cHeaderBytes) {
    return Sentence(fmt::format("{} is neither a Hugging Face folder nor a llama2.c checkpoint.", source));
  }
  return {};
}

}  // namespace

Expected<Checkpoint> OpenCheckpoint(const std::string& source, const std::string& tokenizer) {
  if (IsFolder(source)) return OpenHfFolder(source, tokenizer);
  THIMBLE_TRY(RefuseOthers(source));
  return OpenLlama2c(source, tokenizer);
}

Expected<std::vector<std::string>> Convert(const ConvertOptions& options) {
  THIMBLE_ASSIGN(const Checkpoint checkpoint, OpenCheckpoint(options.source, options.tokenizer));
  std::vector<std::string> inputs = checkpoint.inputs;
  if (!options.tokenizer.empty()) inputs.push_back(options.tokenizer);
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(options.out, inputs));
  THIMBLE_TRY(WriteGguf(checkpoint, options.dtype, "convert", file.sink()));
  THIMBLE_TRY(file.Commit());
  return checkpoint.notes;
}

}  // namespace thimble::host
