#include "host/llama2c.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>

#include "engine/formats/model_file.h"
#include "host/hf_config.h"
#include "host/input_file.h"
#include "host/tokenizer_file.h"
#include "host/utf8.h"
#include "host/weights.h"

namespace thimble::host {
namespace {

constexpr uint32_t kVersionedMagic = 0x616b3432;  // "ak42", read as one number
constexpr TokenId kBosToken = 1;
constexpr TokenId kEosToken = 2;

template <class T>
T Load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

// The order of run.c's memory_map_weights(): each kind for all layers together.
constexpr std::array<TensorKind, 11> kFileOrder = {TensorKind::kTokenEmbd, TensorKind::kAttnNorm, TensorKind::kAttnQ,
                                                   TensorKind::kAttnK,     TensorKind::kAttnV,    TensorKind::kAttnO,
                                                   TensorKind::kFfnNorm,   TensorKind::kFfnGate,  TensorKind::kFfnDown,
                                                   TensorKind::kFfnUp,     TensorKind::kFinalNorm};

uint64_t Elements(TensorKind kind, const ModelShape& shape) {
  const TensorDims dims = DimsOf(kind, shape);
  return uint64_t{dims.rows} * dims.cols;
}

// `kind` or, for kNone, the end of the file.
uint64_t FirstElement(TensorKind wanted, const Llama2cHeader& header) {
  const ModelShape& shape = header.shape;
  uint64_t first = 0;
  for (TensorKind kind : kFileOrder) {
    if (kind == wanted) return first;
    const bool per_layer = kind != TensorKind::kTokenEmbd && kind != TensorKind::kFinalNorm;
    first += Elements(kind, shape) * (per_layer ? shape.num_hidden_layers : 1);
  }
  first += uint64_t{shape.max_position_embeddings} * shape.head_dim;  // cosine and sine tables, which run.c skips too
  if (wanted == TensorKind::kLmHead || header.tied) return first;
  return first + Elements(TensorKind::kLmHead, shape);
}

class Llama2cWeights : public WeightSource {
 public:
  Llama2cWeights(InputFile file, const Llama2cHeader& header) : file_(std::move(file)), header_(header) {}

  Status ReadRows(TensorId id, uint32_t first_row, std::span<float> out) override {
    const TensorDims dims = DimsOf(id.kind, header_.shape);
    const uint64_t in_tensor = uint64_t{first_row} * dims.cols;
    const uint64_t first = FirstElement(id.kind, header_) + Elements(id.kind, header_.shape) * id.layer + in_tensor;
    THIMBLE_TRY(file_.ReadAt(kLlama2cHeaderBytes + first * sizeof(float), std::as_writable_bytes(out)));
    std::array<char, 64> name;
    return CheckFinite(out, file_.path(), std::string_view(name.data(), FormatTensorName(id, name)), in_tensor);
  }

 private:
  InputFile file_;
  Llama2cHeader header_;
};

std::string EscapeSpaces(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == ' ') {
      out += "\u2581";
    } else {
      out += c;
    }
  }
  return out;
}

std::string UnescapeSpaces(std::string text) {
  constexpr std::string_view kSpace = "\u2581";
  for (size_t at = 0; (at = text.find(kSpace, at)) != text.npos; ++at) text.replace(at, kSpace.size(), " ");
  return text;
}

Status ReadVocabulary(const std::string& path, std::string tokenizer, Checkpoint& checkpoint) {
  if (tokenizer.empty()) {
    tokenizer = (std::filesystem::path(path).parent_path() / "tokenizer.bin").string();
    if (!Exists(tokenizer)) {
      checkpoint.notes.push_back(fmt::format(
          "there is no tokenizer.bin beside {}; the model runs with token ids only, or pass --tokenizer.", path));
      checkpoint.vocabulary.bos = kBosToken;
      checkpoint.vocabulary.eos = kEosToken;
      return {};
    }
  }
  THIMBLE_ASSIGN(checkpoint.vocabulary,
                 ReadWholeTokenizerFile(tokenizer, checkpoint.shape.vocab_size, checkpoint.notes));
  return {};
}

}  // namespace

Expected<Llama2cHeader> ParseLlama2cHeader(std::span<const std::byte, kLlama2cHeaderBytes> bytes, uint64_t file_bytes,
                                           const std::string& path) {
  const auto refuse = [&](std::string_view what) { return Sentence(fmt::format("{}: {}", path, what)); };
  if (Load<uint32_t>(bytes.data()) == kVersionedMagic) {
    return refuse(fmt::format("version {} of llama2.c's format is not read; export with --version 0.",
                              Load<int32_t>(bytes.data() + 4)));
  }
  constexpr std::array<const char*, 7> kFields = {"dim",        "hidden_dim", "n_layers",   "n_heads",
                                                  "n_kv_heads", "vocab_size", "max_seq_len"};
  constexpr std::array<uint32_t, 7> kMax = {kMaxWidth, kMaxWidth,     kMaxLayers, kMaxWidth,
                                            kMaxWidth, kMaxVocabSize, 1u << 28};
  constexpr size_t kVocabSize = 5;
  std::array<uint32_t, kFields.size()> fields;
  Llama2cHeader header;
  header.tied = true;
  for (size_t i = 0; i < fields.size(); ++i) {
    const auto stored = int64_t{Load<int32_t>(bytes.data() + 4 * i)};
    const int64_t value = i == kVocabSize && stored < 0 ? -stored : stored;
    if (i == kVocabSize) header.tied = stored > 0;
    if (value < (i == kVocabSize ? 3 : 1) || value > int64_t{kMax[i]}) {
      return refuse(fmt::format("{} is {} in the header; this is no llama2.c checkpoint.", kFields[i], stored));
    }
    fields[i] = static_cast<uint32_t>(value);
  }
  ModelShape& shape = header.shape;
  shape.hidden_size = fields[0];
  shape.intermediate_size = fields[1];
  shape.num_hidden_layers = fields[2];
  shape.num_attention_heads = fields[3];
  shape.num_key_value_heads = fields[4];
  shape.vocab_size = fields[kVocabSize];
  shape.max_position_embeddings = fields[6];
  shape.rms_norm_eps = 1e-5f;  // as run.c has it
  shape.rope_theta = 10000;    // as run.c has it
  shape.head_dim = shape.hidden_size / shape.num_attention_heads;
  switch (formats::CheckShape(shape, /*has_head_dim=*/false)) {
    case formats::ShapeFault::kNone:
    case formats::ShapeFault::kAllHeads:  // are dim
      break;
    case formats::ShapeFault::kHiddenSize:
    case formats::ShapeFault::kHeadDim:
      return refuse(fmt::format("dim {} does not make n_heads {} heads of an even size.", shape.hidden_size,
                                shape.num_attention_heads));
    case formats::ShapeFault::kKeyValueHeads:
      return refuse(fmt::format("n_heads {} is no multiple of n_kv_heads {}.", shape.num_attention_heads,
                                shape.num_key_value_heads));
  }
  const uint64_t wanted = kLlama2cHeaderBytes + FirstElement(TensorKind::kNone, header) * sizeof(float);
  if (file_bytes != wanted) {
    return refuse(fmt::format("the header calls for {} bytes, the file has {}.", wanted, file_bytes));
  }
  return header;
}

Expected<Vocabulary> ParseLlama2cTokenizer(std::string_view bytes, uint32_t vocab_size, const std::string& path) {
  const auto refuse = [&](std::string_view what) { return Sentence(fmt::format("{}: {}", path, what)); };
  const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
  size_t at = 4;
  Vocabulary vocabulary;
  std::set<std::string> seen;
  for (TokenId id = 0; id < vocab_size; ++id) {
    if (bytes.size() < at || bytes.size() - at < 8) {
      return refuse(fmt::format("it ends at token {}, but the model has a vocabulary of {}.", id, vocab_size));
    }
    const auto score = Load<float>(data + at);
    const auto length = Load<uint32_t>(data + at + 4);
    at += 8;
    if (length == 0 || length > bytes.size() - at) {
      return refuse(fmt::format("token {} has a length of {} bytes.", id, length));
    }
    std::string token = EscapeSpaces(bytes.substr(at, length));
    at += length;
    if (!std::isfinite(score)) return refuse(fmt::format("token {} has a score that is not a finite number.", id));
    if (id == formats::kLlama2cFirstByteToken && token == std::string(1, '\0')) {
      return refuse("it keeps bytes raw, as llama2.c did at first; export it again with a newer tokenizer.py.");
    }
    if (!IsUtf8(token)) return refuse(fmt::format("token {} is not UTF-8.", id));
    TokenType type = TokenType::kNormal;
    if (id == 0) type = TokenType::kUnknown;
    if (id == kBosToken || id == kEosToken) {
      type = TokenType::kControl;
      token = id == kBosToken ? "<s>" : "</s>";  // kept as "\n<s>\n" there
    }
    if (id >= formats::kLlama2cFirstByteToken && id < formats::kLlama2cFirstByteToken + 256 &&
        token == ByteTokenName(static_cast<uint8_t>(id - formats::kLlama2cFirstByteToken))) {
      type = TokenType::kByte;
    }
    if (!seen.insert(token).second)
      return refuse(fmt::format("token {} (\"{}\") stands there twice.", id, Quote(token)));
    vocabulary.Add(std::move(token), score, type);
  }
  if (at != bytes.size()) {
    return refuse(
        fmt::format("it goes on after {} tokens, but the model has a vocabulary of {}; take the tokenizer that "
                    "belongs to the model.",
                    vocab_size, vocab_size));
  }
  vocabulary.unk = 0;
  vocabulary.bos = kBosToken;
  vocabulary.eos = kEosToken;
  return vocabulary;
}

std::string FormatLlama2cTokenizer(const Vocabulary& vocabulary) {
  std::string records;
  uint32_t longest = 0;
  const auto append = [](auto value, std::string& out) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  for (TokenId id = 0; id < vocabulary.tokens.size(); ++id) {
    std::string token = UnescapeSpaces(vocabulary.tokens[id]);
    if (id == kBosToken && vocabulary.bos == id) token = "\n<s>\n";
    if (id == kEosToken && vocabulary.eos == id) token = "\n</s>\n";
    const auto length = static_cast<uint32_t>(token.size());
    longest = std::max(longest, length);
    append(vocabulary.scores[id], records);
    append(length, records);
    records += token;
  }
  std::string file;
  append(longest, file);
  return file + records;
}

Expected<Checkpoint> OpenLlama2c(const std::string& path, const std::string& tokenizer) {
  THIMBLE_ASSIGN(InputFile file, InputFile::Open(path));
  std::array<std::byte, kLlama2cHeaderBytes> bytes;
  THIMBLE_TRY(file.ReadAt(0, bytes));
  THIMBLE_ASSIGN(const Llama2cHeader header, ParseLlama2cHeader(bytes, file.size_bytes(), path));
  Checkpoint checkpoint;
  checkpoint.name = std::filesystem::path(path).stem().string();
  checkpoint.shape = header.shape;
  checkpoint.tied = header.tied;
  checkpoint.inputs = {path};
  THIMBLE_TRY(ReadVocabulary(path, tokenizer, checkpoint));
  checkpoint.weights = std::make_unique<Llama2cWeights>(std::move(file), header);
  return checkpoint;
}

}  // namespace thimble::host
