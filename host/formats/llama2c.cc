#include "host/formats/llama2c.h"

#include <fmt/format.h>

#include <utility>

#include "engine/formats/model_file.h"
#include "host/formats/hf_config.h"
#include "host/formats/llama2c_tokenizer.h"
#include "host/formats/tokenizer_file.h"
#include "host/formats/weights.h"
#include "host/support/foreign_file.h"
#include "host/support/input_file.h"
#include "host/support/little_endian.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

constexpr uint32_t kVersionedMagic = 0x616b3432;  // "ak42", read as one number

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

// From the file that the user names, which must be good, or from the one beside the checkpoint.
Status ReadVocabulary(const std::string& path, const std::string& tokenizer, Checkpoint& checkpoint) {
  const std::string folder = FolderOf(path);
  const std::string beside = folder + (folder.empty() || folder.ends_with('/') ? "" : "/") + "tokenizer.bin";
  const std::string& file = tokenizer.empty() ? beside : tokenizer;
  const size_t notes = checkpoint.notes.size();
  if (tokenizer.empty() && !Exists(file)) {
    checkpoint.notes.push_back(fmt::format(
        "there is no tokenizer.bin beside {}; the model runs with token ids only, or pass --tokenizer", path));
  } else {
    THIMBLE_ASSIGN(const std::string bytes, ReadWholeFile(file, kMaxTokenizerBytes));
    THIMBLE_TRY(RefuseForeign(bytes, file));
    Expected<Vocabulary> read = ParseWholeTokenizerFile(bytes, file, checkpoint.shape.vocab_size, checkpoint.notes);
    if (read) {
      checkpoint.vocabulary = std::move(*read);
      return {};
    }
    if (!tokenizer.empty()) return std::unexpected(read.error());
    checkpoint.no_texts = read.error();
    checkpoint.notes.resize(notes);
    checkpoint.notes.push_back(IdsOnlyNote(read.error()));
  }
  checkpoint.vocabulary.bos = kLlama2cBosToken;
  checkpoint.vocabulary.eos = kLlama2cEosToken;
  return {};
}

}  // namespace

Expected<Llama2cHeader> ParseLlama2cHeader(std::span<const std::byte, kLlama2cHeaderBytes> bytes, uint64_t file_bytes,
                                           const std::string& path) {
  const auto refuse = [&](std::string_view what) { return Sentence(fmt::format("{}: {}", path, what)); };
  if (LoadLittleEndian<uint32_t>(bytes.data()) == kVersionedMagic) {
    return refuse(fmt::format("version {} of llama2.c's format is not read; export with --version 0",
                              LoadLittleEndian<int32_t>(bytes.data() + 4)));
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
    const auto stored = int64_t{LoadLittleEndian<int32_t>(bytes.data() + 4 * i)};
    const int64_t value = i == kVocabSize && stored < 0 ? -stored : stored;
    if (i == kVocabSize) header.tied = stored > 0;
    if (value < (i == kVocabSize ? 3 : 1) || value > int64_t{kMax[i]}) {
      return refuse(fmt::format("{} is {} in the header; this is no llama2.c checkpoint", kFields[i], stored));
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
      return refuse(fmt::format("dim {} does not make n_heads {} heads of an even size", shape.hidden_size,
                                shape.num_attention_heads));
    case formats::ShapeFault::kKeyValueHeads:
      return refuse(fmt::format("n_heads {} is no multiple of n_kv_heads {}", shape.num_attention_heads,
                                shape.num_key_value_heads));
  }
  const uint64_t wanted = kLlama2cHeaderBytes + FirstElement(TensorKind::kNone, header) * sizeof(float);
  if (file_bytes != wanted) {
    return refuse(fmt::format("the header calls for {} bytes, the file has {}", wanted, file_bytes));
  }
  return header;
}

Expected<Checkpoint> OpenLlama2c(const std::string& path, const std::string& tokenizer) {
  THIMBLE_ASSIGN(InputFile file, InputFile::Open(path));
  std::array<std::byte, kLlama2cHeaderBytes> bytes;
  THIMBLE_TRY(file.ReadAt(0, bytes));
  THIMBLE_ASSIGN(const Llama2cHeader header, ParseLlama2cHeader(bytes, file.size_bytes(), path));
  Checkpoint checkpoint;
  checkpoint.name = StemOf(path);
  checkpoint.shape = header.shape;
  checkpoint.tied = header.tied;
  checkpoint.inputs = {path};
  THIMBLE_TRY(ReadVocabulary(path, tokenizer, checkpoint));
  checkpoint.weights = std::make_unique<Llama2cWeights>(std::move(file), header);
  return checkpoint;
}

}  // namespace thimble::host
