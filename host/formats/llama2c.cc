#include "host/formats/llama2c.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "engine/formats/model_file.h"
#include "host/formats/hf_config.h"
#include "host/formats/llama2c_tokenizer.h"
#include "host/formats/tokenizer_file.h"
#include "host/formats/weights.h"
#include "host/support/input_file.h"
#include "host/support/little_endian.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

constexpr uint32_t kVersionedMagic = 0x616b3432;  // "ak42", read as one number

// The order of run.c's memory_map_weights(): each kind for all layers together.
constexpr std::array<TensorKind, 12> kOrderOfVersion0 = {
    TensorKind::kTokenEmbd, TensorKind::kAttnNorm, TensorKind::kAttnQ,     TensorKind::kAttnK,
    TensorKind::kAttnV,     TensorKind::kAttnO,    TensorKind::kFfnNorm,   TensorKind::kFfnGate,
    TensorKind::kFfnDown,   TensorKind::kFfnUp,    TensorKind::kFinalNorm, TensorKind::kLmHead};
// The order of version1_export() and version2_export(): norms, then matrices.
constexpr std::array<TensorKind, 12> kOrderOfLater = {
    TensorKind::kAttnNorm, TensorKind::kFfnNorm, TensorKind::kFinalNorm, TensorKind::kTokenEmbd,
    TensorKind::kAttnQ,    TensorKind::kAttnK,   TensorKind::kAttnV,     TensorKind::kAttnO,
    TensorKind::kFfnGate,  TensorKind::kFfnDown, TensorKind::kFfnUp,     TensorKind::kLmHead};

uint64_t Elements(TensorKind kind, const ModelShape& shape) {
  const TensorDims dims = DimsOf(kind, shape);
  return uint64_t{dims.rows} * dims.cols;
}

// Of a tensor in the file. In version 2 a matrix is its int8, then the scales of its groups.
uint64_t SizeBytes(TensorKind kind, const Llama2cHeader& header) {
  const uint64_t elements = Elements(kind, header.shape);
  if (header.group_size == 0 || IsVector(kind)) return elements * sizeof(float);
  return elements + elements / header.group_size * sizeof(float);
}

// Of the tensor in the file or, for none, of the file's end.
uint64_t OffsetOf(std::optional<TensorId> wanted, const Llama2cHeader& header) {
  const ModelShape& shape = header.shape;
  uint64_t offset = header.size_bytes();
  for (const TensorKind kind : header.version == 0 ? kOrderOfVersion0 : kOrderOfLater) {
    const bool once = kind == TensorKind::kTokenEmbd || kind == TensorKind::kFinalNorm || kind == TensorKind::kLmHead;
    if (kind == TensorKind::kLmHead && header.version == 0) {
      // Cosine and sine tables, which run.c skips too.
      offset += uint64_t{shape.max_position_embeddings} * shape.head_dim * sizeof(float);
    }
    if (kind == TensorKind::kLmHead && header.tied) break;
    if (wanted && wanted->kind == kind) return offset + SizeBytes(kind, header) * wanted->layer;
    offset += SizeBytes(kind, header) * (once ? 1 : shape.num_hidden_layers);
  }
  return offset;
}

class Llama2cWeights : public WeightSource {
 public:
  Llama2cWeights(InputFile file, const Llama2cHeader& header) : file_(std::move(file)), header_(header) {}

  Status ReadRows(TensorId id, uint32_t first_row, std::span<float> out) override {
    const uint64_t first = uint64_t{first_row} * DimsOf(id.kind, header_.shape).cols;
    std::array<char, 64> name;
    const std::string_view tensor(name.data(), FormatTensorName(id, name));
    if (header_.group_size != 0 && !IsVector(id.kind)) {
      THIMBLE_TRY(ReadGroups(id, first, out, tensor));
    } else {
      THIMBLE_TRY(file_.ReadAt(OffsetOf(id, header_) + first * sizeof(float), std::as_writable_bytes(out)));
    }
    return CheckFinite(out, file_.path(), tensor, first);
  }

 private:
  Status ReadGroups(TensorId id, uint64_t first, std::span<float> out, std::string_view name) {
    const uint64_t group_size = header_.group_size;
    const uint64_t first_group = first / group_size;
    const uint64_t end_group = (first + out.size() + group_size - 1) / group_size;
    const uint64_t offset = OffsetOf(id, header_);
    std::vector<int8_t> codes(out.size());
    std::vector<float> scales(static_cast<size_t>(end_group - first_group));
    THIMBLE_TRY(file_.ReadAt(offset + first, std::as_writable_bytes(std::span(codes))));
    const uint64_t scales_offset = offset + Elements(id.kind, header_.shape) + first_group * sizeof(float);
    THIMBLE_TRY(file_.ReadAt(scales_offset, std::as_writable_bytes(std::span(scales))));
    for (size_t i = 0; i < scales.size(); ++i) {
      // A scale is a largest absolute value / 127. Exports made before runq.c read them keep all scales at the file's
      // end; then other bytes stand here.
      if (std::isfinite(scales[i]) && !std::signbit(scales[i])) continue;
      return Sentence(
          fmt::format("{}: the scale of group {} of {} is {}, which is no scale; export the model again with a "
                      "newer export.py, or with --version 0",
                      file_.path(), first_group + i, name, scales[i]));
    }
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<float>(codes[i]) * scales[static_cast<size_t>((first + i) / group_size - first_group)];
    }
    return {};
  }

  InputFile file_;
  Llama2cHeader header_;
};

// From the file that the user names, which must be good, or from the one beside the checkpoint.
Status ReadVocabulary(const std::string& path, const std::string& tokenizer, Checkpoint& checkpoint) {
  const std::string beside = Joined(FolderOf(path), "tokenizer.bin");
  const std::string& file = tokenizer.empty() ? beside : tokenizer;
  const size_t notes = checkpoint.notes.size();
  if (tokenizer.empty() && !Exists(file)) {
    checkpoint.notes.push_back(fmt::format(
        "there is no tokenizer.bin beside {}; the model runs with token ids only, or pass --tokenizer", path));
  } else {
    THIMBLE_ASSIGN(const TokenizerBytes given, ReadTokenizerBytes(file));
    Expected<Vocabulary> read = Sentence(given.fault);
    if (given.fault.empty()) {
      read = ParseWholeTokenizerFile(given.bytes, file, checkpoint.shape.vocab_size, checkpoint.notes);
    }
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

Expected<Llama2cHeader> ParseLlama2cHeader(std::span<const std::byte> bytes, uint64_t file_bytes,
                                           const std::string& path) {
  const auto refuse = [&](std::string_view what) { return Sentence(fmt::format("{}: {}", path, what)); };
  if (bytes.size() < kMinLlama2cHeaderBytes) return refuse("it is too short for a llama2.c checkpoint");
  constexpr std::array<const char*, 7> kFields = {"dim",        "hidden_dim", "n_layers",   "n_heads",
                                                  "n_kv_heads", "vocab_size", "max_seq_len"};
  constexpr std::array<uint32_t, 7> kMax = {kMaxWidth, kMaxWidth,     kMaxLayers, kMaxWidth,
                                            kMaxWidth, kMaxVocabSize, 1u << 28};
  constexpr size_t kVocabSize = 5;
  // Versions 1 and 2: magic, version, the fields, a byte, and in version 2 an int.
  constexpr size_t kFieldsOffset = 8;
  constexpr size_t kTiedOffset = kFieldsOffset + kFields.size() * 4;
  constexpr size_t kGroupSizeOffset = kTiedOffset + 1;
  std::array<uint32_t, kFields.size()> fields;
  Llama2cHeader header;
  const bool versioned = LoadLittleEndian<uint32_t>(bytes.data()) == kVersionedMagic;
  if (versioned) {
    const auto version = LoadLittleEndian<int32_t>(bytes.data() + 4);
    if (version != 1 && version != 2) {
      return refuse(
          fmt::format("version {} of llama2.c's format is not read; export with --version 0, 1 or 2", version));
    }
    if (bytes.size() < kLlama2cHeaderBytes) {
      return refuse(fmt::format("the header has {} bytes, the file has {}", kLlama2cHeaderBytes, bytes.size()));
    }
    header.version = static_cast<uint32_t>(version);
    const auto tied = LoadLittleEndian<uint8_t>(bytes.data() + kTiedOffset);
    if (tied > 1) return refuse(fmt::format("shared_classifier is {} in the header, not 0 or 1", tied));
    header.tied = tied == 1;
  }
  for (size_t i = 0; i < fields.size(); ++i) {
    const auto stored = int64_t{LoadLittleEndian<int32_t>(bytes.data() + (versioned ? kFieldsOffset : 0) + 4 * i)};
    const bool sign_tells = i == kVocabSize && !versioned;
    const int64_t value = sign_tells && stored < 0 ? -stored : stored;
    if (sign_tells) header.tied = stored > 0;
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
  if (header.version == 2) {
    // export.py halves its 64 until dim is a multiple.
    const auto group_size = LoadLittleEndian<int32_t>(bytes.data() + kGroupSizeOffset);
    if (group_size < 1 || shape.hidden_size % static_cast<uint32_t>(group_size) != 0) {
      return refuse(
          fmt::format("group_size is {} in the header, which does not divide dim {}", group_size, shape.hidden_size));
    }
    header.group_size = static_cast<uint32_t>(group_size);
  }
  const uint64_t wanted = OffsetOf(std::nullopt, header);
  if (file_bytes != wanted) {
    return refuse(fmt::format("the header calls for {} bytes, the file has {}", wanted, file_bytes));
  }
  return header;
}

Expected<Checkpoint> OpenLlama2c(const std::string& path, const std::string& tokenizer) {
  THIMBLE_ASSIGN(InputFile file, InputFile::Open(path));
  std::array<std::byte, kLlama2cHeaderBytes> buffer;
  const std::span bytes =
      std::span(buffer).first(static_cast<size_t>(std::min<uint64_t>(buffer.size(), file.size_bytes())));
  THIMBLE_TRY(file.ReadAt(0, bytes));
  THIMBLE_ASSIGN(const Llama2cHeader header, ParseLlama2cHeader(bytes, file.size_bytes(), path));
  Checkpoint checkpoint;
  checkpoint.name = StemOf(path);
  checkpoint.shape = header.shape;
  checkpoint.tied = header.tied;
  checkpoint.inputs = {path};
  if (header.version == 2) {
    checkpoint.notes.push_back(
        fmt::format("{} is quantized: each weight is its int8 times its group's scale, in float32; runq.c rounds "
                    "activations as well, so its texts can differ",
                    path));
  }
  THIMBLE_TRY(ReadVocabulary(path, tokenizer, checkpoint));
  checkpoint.weights = std::make_unique<Llama2cWeights>(std::move(file), header);
  return checkpoint;
}

}  // namespace thimble::host
