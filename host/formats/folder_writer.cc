#include "host/formats/folder_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <span>

#include "engine/formats/model_folder.h"
#include "host/formats/llama2c_tokenizer.h"
#include "host/formats/tokenizer_file.h"
#include "host/formats/weights.h"
#include "host/support/input_file.h"
#include "host/support/progress.h"

namespace thimble::host {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are written from memory as they lie there");

constexpr size_t kElementsAtOnce = size_t{1} << 18;

// The tokenizer as the source has it, by the name it has in the folder.
constexpr std::string_view kModelName = "tokenizer.model";
constexpr std::string_view kJsonName = "tokenizer.json";

std::string FileName(uint32_t number, const ModelShape& shape) {
  std::array<char, 64> name;
  return std::string(name.data(), formats::FormatFolderFileName(number, shape.num_hidden_layers, name));
}

// The keys in the order in which the first folders had them; then those that they lacked.
std::string ConfigText(const Checkpoint& checkpoint) {
  const ModelShape& shape = checkpoint.shape;
  const Vocabulary& vocabulary = checkpoint.vocabulary;
  std::vector<std::string> members;
  const auto add = [&](std::string_view key, const auto& value) {
    members.push_back(fmt::format("  \"{}\": {}", key, value));
  };
  const auto add_id = [&](std::string_view key, const std::optional<TokenId>& id) {
    add(key, id ? fmt::format("{}", *id) : "null");
  };
  add("vocab_size", shape.vocab_size);
  add("hidden_size", shape.hidden_size);
  add("num_hidden_layers", shape.num_hidden_layers);
  add("num_attention_heads", shape.num_attention_heads);
  add("num_key_value_heads", shape.num_key_value_heads);
  add("intermediate_size", shape.intermediate_size);
  add("max_position_embeddings", shape.max_position_embeddings);
  add("rms_norm_eps", shape.rms_norm_eps);
  add("hidden_act", "\"silu\"");
  add_id("bos_token_id", vocabulary.bos);
  add_id("eos_token_id", vocabulary.eos);
  add("use_quantization", false);
  add("rope_theta", double{shape.rope_theta});  // exactly: whoever reads it compares
  add("head_dim", shape.head_dim);
  add("tie_word_embeddings", checkpoint.tied);
  add("torch_dtype", "\"float32\"");
  add("model_type", "\"llama\"");
  if (!vocabulary.tokens.empty()) {
    add("add_bos_token", vocabulary.add_bos);
    add("add_prefix_space", vocabulary.add_space_prefix);
    if (vocabulary.remove_extra_whitespaces) add("remove_extra_whitespaces", true);
  }
  return fmt::format("{{\n{}\n}}\n", fmt::join(members, ",\n"));
}

// What is lost when tokenizer.bin is read again.
std::vector<std::string> LossesOf(const Vocabulary& vocabulary, const std::string& tokenizer) {
  const auto again = ParseLlama2cTokenizer(tokenizer, static_cast<uint32_t>(vocabulary.tokens.size()), "tokenizer.bin");
  if (!again)
    return {fmt::format("the board reads the folder's tokenizer.bin, but convert does not: {}", again.error())};
  std::vector<std::string> lost;
  for (TokenId id = 0; id < vocabulary.tokens.size(); ++id) {
    const bool is_special = id == vocabulary.bos || id == vocabulary.eos;
    const TokenType type = is_special ? TokenType::kControl : again->types[id];
    if (type != vocabulary.types[id]) lost.push_back(fmt::format("{} \"{}\"", id, Quote(vocabulary.tokens[id])));
  }
  constexpr size_t kMaxShown = 3;
  const size_t shown = std::min(lost.size(), kMaxShown);
  if (lost.empty()) return {};
  return {
      fmt::format("tokenizer.bin cannot tell what is special about {} token{} ({}{}), so that {} text there; the GGUF "
                  "file of the same model can",
                  lost.size(), lost.size() == 1 ? "" : "s", fmt::join(std::span(lost).first(shown), ", "),
                  lost.size() > shown ? ", ..." : "", lost.size() == 1 ? "it is" : "they are")};
}

class Writer {
 public:
  Writer(const Checkpoint& checkpoint, const std::string& label, AtomicFolder& folder)
      : checkpoint_(checkpoint), folder_(folder), progress_(label, TotalBytes(checkpoint)) {}

  Expected<std::vector<std::string>> Write() {
    std::vector<std::string> notes;
    THIMBLE_TRY(WriteText(FileName(formats::kFolderConfig, shape()), ConfigText(checkpoint_)));
    if (checkpoint_.vocabulary.is_more_than_llama2c()) {
      notes.push_back(
          fmt::format("a folder has no place for {}, so that it runs with token ids only; the GGUF file of the same "
                      "model has texts",
                      checkpoint_.vocabulary.is_byte_level() ? "byte-level BPE"
                      : checkpoint_.vocabulary.is_unigram    ? "a Unigram tokenizer"
                                                             : "what the tokenizer does to a text first"));
    } else if (!checkpoint_.vocabulary.tokens.empty()) {
      const std::string tokenizer = FormatLlama2cTokenizer(checkpoint_.vocabulary);
      notes = LossesOf(checkpoint_.vocabulary, tokenizer);
      THIMBLE_TRY(WriteText(FileName(formats::kFolderTokenizer, shape()), tokenizer));
      if (checkpoint_.tokenizer_files.empty()) {
        notes.push_back(
            "the source has no tokenizer.model or tokenizer.json to copy; the folder has tokenizer.bin only");
      }
    }
    THIMBLE_TRY(CopyTokenizers());
    for (uint32_t i = 0; i < TensorCount(shape()); ++i) THIMBLE_TRY(WriteTensor(i));
    return notes;
  }

 private:
  const ModelShape& shape() const { return checkpoint_.shape; }

  static uint64_t TotalBytes(const Checkpoint& checkpoint) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < TensorCount(checkpoint.shape); ++i) {
      const TensorDims dims = DimsOf(TensorIdAt(i, checkpoint.shape).kind, checkpoint.shape);
      bytes += uint64_t{dims.rows} * dims.cols * sizeof(float);
    }
    return bytes;
  }

  Status WriteText(const std::string& name, std::string_view text) {
    THIMBLE_ASSIGN(FileSink * sink, folder_.Begin(name));
    return sink->Write(std::as_bytes(std::span(text)));
  }

  Status CopyTokenizers() {
    for (const std::string& path : checkpoint_.tokenizer_files) {
      THIMBLE_ASSIGN(const std::string text, ReadWholeFile(path, kMaxTokenizerBytes));
      THIMBLE_TRY(WriteText(std::string(path.ends_with(".json") ? kJsonName : kModelName), text));
    }
    return {};
  }

  Status WriteTensor(uint32_t index) {
    TensorId id = TensorIdAt(index, shape());
    THIMBLE_ASSIGN(FileSink * sink, folder_.Begin(FileName(formats::kFolderTensors + index, shape())));
    if (checkpoint_.tied && id.kind == TensorKind::kLmHead) id.kind = TensorKind::kTokenEmbd;
    const TensorDims dims = DimsOf(id.kind, shape());
    const auto rows_at_once = static_cast<uint32_t>(std::max<size_t>(1, kElementsAtOnce / dims.cols));
    buffer_.resize(size_t{rows_at_once} * dims.cols);
    for (uint32_t row = 0; row < dims.rows; row += rows_at_once) {
      const uint32_t n = std::min(rows_at_once, dims.rows - row);
      const std::span<float> rows = std::span(buffer_).first(size_t{n} * dims.cols);
      THIMBLE_TRY(ReadRows(id, row, dims.cols, rows));
      THIMBLE_TRY(sink->Write(std::as_bytes(rows)));
      progress_.Advance(rows.size_bytes());
    }
    return {};
  }

  // Rows in Hugging Face's order.
  Status ReadRows(TensorId id, uint32_t first_row, uint32_t cols, std::span<float> out) {
    if (id.kind != TensorKind::kAttnQ && id.kind != TensorKind::kAttnK) {
      return checkpoint_.weights->ReadRows(id, first_row, out);
    }
    for (uint32_t row = first_row; !out.empty(); ++row, out = out.subspan(cols)) {
      THIMBLE_TRY(checkpoint_.weights->ReadRows(id, InterleavedRow(row, shape().head_dim), out.first(cols)));
    }
    return {};
  }

  const Checkpoint& checkpoint_;
  AtomicFolder& folder_;
  Progress progress_;
  std::vector<float> buffer_;
};

}  // namespace

bool IsFolderFileName(std::string_view name) {
  return formats::FolderFileNumber(name).has_value() || name == kModelName || name == kJsonName;
}

Expected<std::vector<std::string>> WriteFolder(const Checkpoint& checkpoint, const std::string& label,
                                               AtomicFolder& folder) {
  return Writer(checkpoint, label, folder).Write();
}

}  // namespace thimble::host
