#include "host/synth/synth.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "engine/formats/model_file.h"
#include "host/formats/gguf_writer.h"
#include "host/formats/hf_config.h"
#include "host/formats/weights.h"
#include "host/synth/synth_random.h"

namespace thimble::host {
namespace {

constexpr ModelShape kTinyLlm = {.vocab_size = 32000,
                                 .hidden_size = 192,
                                 .intermediate_size = 1024,
                                 .num_hidden_layers = 1,
                                 .num_attention_heads = 2,
                                 .num_key_value_heads = 1,
                                 .head_dim = 96,
                                 .max_position_embeddings = 1024,
                                 .rms_norm_eps = 1e-5f,
                                 .rope_theta = 10000};
constexpr ModelShape kStories15M = {.vocab_size = 32000,
                                    .hidden_size = 288,
                                    .intermediate_size = 768,
                                    .num_hidden_layers = 6,
                                    .num_attention_heads = 6,
                                    .num_key_value_heads = 6,
                                    .head_dim = 48,
                                    .max_position_embeddings = 256,
                                    .rms_norm_eps = 1e-5f,
                                    .rope_theta = 10000};
constexpr ModelShape kSmolLm2135M = {.vocab_size = 49152,
                                     .hidden_size = 576,
                                     .intermediate_size = 1536,
                                     .num_hidden_layers = 30,
                                     .num_attention_heads = 9,
                                     .num_key_value_heads = 3,
                                     .head_dim = 64,
                                     .max_position_embeddings = 8192,
                                     .rms_norm_eps = 1e-5f,
                                     .rope_theta = 100000};
constexpr ModelShape kSmall = {.vocab_size = 512,
                               .hidden_size = 64,
                               .intermediate_size = 172,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 4,
                               .num_key_value_heads = 2,
                               .head_dim = 16,
                               .max_position_embeddings = 128,
                               .rms_norm_eps = 1e-5f,
                               .rope_theta = 10000};
constexpr std::array<SynthPreset, 4> kPresets = {
    {{"tiny-llm", "the shape of arnir0/Tiny-LLM: 12 988 992 parameters, 51.96 MB", kTinyLlm, false},
     {"stories15m", "the shape of llama2.c's stories15M: 15 191 712 parameters, 60.77 MB, tied", kStories15M, true},
     {"smollm2-135m", "the shape of SmolLM2-135M: 30 layers; 134 515 008 parameters, 269.03 MB in BF16, tied",
      kSmolLm2135M, true, DType::kBF16},
     {"small", "two layers, four heads, two key/value heads; 0.6 MB", kSmall, false}}};

constexpr std::array<std::string_view, 3> kHeadNames = {"plain", "story", "web"};  // in the order of SynthHead

class SynthWeights : public WeightSource {
 public:
  SynthWeights(const SynthPreset& preset, uint64_t seed, SynthHead head)
      : shape_(preset.shape), stored_(preset.stored), tied_(preset.tied), seed_(seed) {
    if (head != SynthHead::kPlain) geometry_.emplace(head, shape_.vocab_size, shape_.hidden_size, seed);
  }

  DType StoredType(TensorId id) const override {
    if (IsVector(id.kind)) return DType::kF32;
    return geometry_ ? DType::kF16 : stored_;
  }

  Status ReadRows(TensorId id, uint32_t first_row, std::span<float> out) override {
    if (geometry_ && (id.kind == TensorKind::kTokenEmbd || id.kind == TensorKind::kLmHead)) {
      ReadEnds(id.kind, first_row, out);
      return {};
    }
    const uint64_t stream = Mix(Mix(seed_) + TensorIndex(id, shape_) + 1);
    const uint64_t first = uint64_t{first_row} * DimsOf(id.kind, shape_).cols;
    const bool norm = IsVector(id.kind);
    const auto scale = static_cast<float>(norm ? 0.25 / kBellMax : Deviation(id.kind) / kBellDeviation);
    const float mean = norm ? 1.0f : 0.0f;
    for (size_t i = 0; i < out.size(); ++i) {
      const auto bell = static_cast<float>(Bell(RandomBits(stream, first + i)));
      const float product = bell * scale;
      out[i] = mean + product;
    }
    if (StoredType(id) == DType::kF16) std::ranges::transform(out, out.begin(), RoundToF16);
    if (StoredType(id) == DType::kBF16) std::ranges::transform(out, out.begin(), RoundToBF16);
    return {};
  }

 private:
  void ReadEnds(TensorKind kind, uint32_t first_row, std::span<float> out) const {
    for (uint32_t token = first_row; !out.empty(); ++token) {
      const std::span<float> row = out.first(shape_.hidden_size);
      if (kind == TensorKind::kLmHead) {
        geometry_->LmHeadRow(token, row);
      } else {
        geometry_->EmbeddingRow(token, row);
      }
      out = out.subspan(row.size());
    }
  }

  // Of one element, so that a dot product with elements near 1 gives about the number named.
  double Deviation(TensorKind kind) const {
    const double per_unit = 1 / std::sqrt(static_cast<double>(DimsOf(kind, shape_).cols));
    constexpr double kLogits = 3;
    switch (kind) {
      case TensorKind::kTokenEmbd:
        return tied_ ? kLogits * per_unit : 1;
      case TensorKind::kLmHead:
        return kLogits * per_unit;
      case TensorKind::kAttnQ:
      case TensorKind::kAttnK:
        return 1.5 * per_unit;
      case TensorKind::kAttnO:
      case TensorKind::kFfnDown:
        return geometry_ ? per_unit * kQuiet / std::sqrt(static_cast<double>(shape_.num_hidden_layers)) : per_unit;
      default:
        return per_unit;
    }
  }
  // What all layers add to the residual when the embedding is to show through.
  static constexpr double kQuiet = 0.6;

  ModelShape shape_;
  DType stored_;
  bool tied_;
  uint64_t seed_;
  std::optional<HeadGeometry> geometry_;  // none: plain
};

constexpr uint32_t kMinTokenizerSize = 512;

// Every piece longer than one character is the sum of two earlier ones, as training would leave it.
Vocabulary MakeVocabulary(uint32_t size) {
  constexpr std::string_view kSpace = "\u2581";
  constexpr std::string_view kConsonants = "bcdfghjklmnprstvwz";
  constexpr std::string_view kVowels = "aeiou";

  Vocabulary vocabulary;
  vocabulary.Add("<unk>", 0, TokenType::kUnknown);
  vocabulary.Add("<s>", 0, TokenType::kControl);
  vocabulary.Add("</s>", 0, TokenType::kControl);
  vocabulary.unk = 0;
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.Add(ByteTokenName(static_cast<uint8_t>(byte)), 0, TokenType::kByte);
  }

  // Characters, then what merges first: syllables, words of one, of two, of three syllables.
  std::vector<std::string> pieces = {std::string(kSpace)};
  for (char c = '!'; c <= '~'; ++c) pieces.emplace_back(1, c);
  std::vector<std::string> syllables;
  for (char consonant : kConsonants) {
    for (char vowel : kVowels) syllables.push_back({consonant, vowel});
  }
  pieces.insert(pieces.end(), syllables.begin(), syllables.end());
  std::vector<std::string> words;
  for (const std::string& syllable : syllables) words.push_back(std::string(kSpace) + syllable);
  pieces.insert(pieces.end(), words.begin(), words.end());
  const size_t wanted = size - vocabulary.tokens.size();
  while (pieces.size() < wanted) {
    std::vector<std::string> longer;
    for (const std::string& word : words) {
      for (const std::string& syllable : syllables) longer.push_back(word + syllable);
      if (pieces.size() + longer.size() >= wanted) break;
    }
    pieces.insert(pieces.end(), longer.begin(), longer.end());
    words = std::move(longer);
  }
  pieces.resize(wanted);
  for (size_t i = 0; i < pieces.size(); ++i) {
    vocabulary.Add(std::move(pieces[i]), -static_cast<float>(i), TokenType::kNormal);
  }
  return vocabulary;
}

struct ShapeKey {
  std::string_view name;
  uint32_t ModelShape::* field;
  uint32_t max;
};
constexpr std::array<ShapeKey, 8> kShapeKeys = {
    {{"vocab_size", &ModelShape::vocab_size, kMaxVocabSize},
     {"hidden_size", &ModelShape::hidden_size, kMaxWidth},
     {"intermediate_size", &ModelShape::intermediate_size, kMaxWidth},
     {"num_hidden_layers", &ModelShape::num_hidden_layers, kMaxLayers},
     {"num_attention_heads", &ModelShape::num_attention_heads, kMaxWidth},
     {"num_key_value_heads", &ModelShape::num_key_value_heads, kMaxWidth},
     {"head_dim", &ModelShape::head_dim, kMaxWidth},
     {"max_position_embeddings", &ModelShape::max_position_embeddings, 1u << 30}}};

Status ApplyChange(std::string_view change, SynthPreset& preset) {
  const size_t equals = change.find('=');
  const std::string_view name = change.substr(0, equals);
  const std::string_view text = equals == change.npos ? "" : change.substr(equals + 1);
  if (name == "tie_word_embeddings" && (text == "true" || text == "false")) {
    preset.tied = text == "true";
    return {};
  }
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto key = std::ranges::find(kShapeKeys, name, &ShapeKey::name);
  const bool is_number = error == std::errc() && end == text.data() + text.size() && value != 0;
  if (key == kShapeKeys.end() || !is_number || value > key->max) {
    std::string names;
    for (const ShapeKey& known : kShapeKeys) names += fmt::format("{}=N, ", known.name);
    return Sentence(fmt::format("--shape: \"{}\" is none of {}tie_word_embeddings=true or =false, separated by commas",
                                Quote(change), names));
  }
  preset.shape.*key->field = value;
  return {};
}

}  // namespace

std::span<const SynthPreset> SynthPresets() { return kPresets; }

Expected<SynthPreset> SynthShape(std::string_view name, std::string_view changes) {
  const auto found = std::ranges::find(kPresets, name, &SynthPreset::name);
  if (found == kPresets.end()) {
    std::string names;
    for (const SynthPreset& preset : kPresets) names += fmt::format("{}{}", names.empty() ? "" : ", ", preset.name);
    return Sentence(fmt::format("there is no preset \"{}\"; there are {}", Quote(name), names));
  }
  SynthPreset preset = *found;
  while (!changes.empty()) {
    const size_t comma = changes.find(',');
    THIMBLE_TRY(ApplyChange(changes.substr(0, comma), preset));
    changes = comma == changes.npos ? "" : changes.substr(comma + 1);
  }
  const ModelShape& shape = preset.shape;
  switch (formats::CheckShape(shape, /*has_head_dim=*/true, kMaxWidth)) {
    case formats::ShapeFault::kNone:
    case formats::ShapeFault::kHiddenSize:  // there is always a head_dim
      break;
    case formats::ShapeFault::kKeyValueHeads:
      return Sentence(fmt::format("--shape: num_attention_heads {} is no multiple of num_key_value_heads {}",
                                  shape.num_attention_heads, shape.num_key_value_heads));
    case formats::ShapeFault::kHeadDim:
      return Sentence(fmt::format("--shape: head_dim {} is not even", shape.head_dim));
    case formats::ShapeFault::kAllHeads:
      return Sentence(fmt::format("--shape: num_attention_heads {} times head_dim {} is more than {}",
                                  shape.num_attention_heads, shape.head_dim, kMaxWidth));
  }
  return preset;
}

Expected<SynthHead> SynthHeadNamed(std::string_view name, const SynthPreset& preset) {
  const auto found = std::ranges::find(kHeadNames, name);
  if (found == kHeadNames.end()) {
    return Sentence(
        fmt::format("--head: there is no head \"{}\"; there are {}", Quote(name), fmt::join(kHeadNames, ", ")));
  }
  const auto head = static_cast<SynthHead>(found - kHeadNames.begin());
  if (head != SynthHead::kPlain && preset.tied) {
    return Sentence(
        fmt::format("--head {}: the output matrix of this model is its embedding, and one matrix cannot be both ends; "
                    "add tie_word_embeddings=false to --shape",
                    name));
  }
  return head;
}

Checkpoint MakeSynth(const SynthPreset& preset, uint64_t seed, SynthHead head) {
  Checkpoint checkpoint;
  const std::string_view kind = kHeadNames[static_cast<size_t>(head)];
  checkpoint.name = head == SynthHead::kPlain ? fmt::format("synth {} {}", preset.name, seed)
                                              : fmt::format("synth {} {} {}", preset.name, kind, seed);
  checkpoint.shape = preset.shape;
  checkpoint.tied = preset.tied;
  if (preset.shape.vocab_size >= kMinTokenizerSize) {
    checkpoint.vocabulary = MakeVocabulary(preset.shape.vocab_size);
  } else {
    checkpoint.notes.push_back(
        fmt::format("a vocabulary of {} is too small for a tokenizer; the model runs with token "
                    "ids only",
                    preset.shape.vocab_size));
  }
  checkpoint.weights = std::make_unique<SynthWeights>(preset, seed, head);
  return checkpoint;
}

uint64_t CountParameters(const ModelShape& shape, bool tied) {
  uint64_t n = 0;
  for (TensorId id : GgufTensorOrder(shape, tied)) {
    const TensorDims dims = DimsOf(id.kind, shape);
    n += uint64_t{dims.rows} * dims.cols;
  }
  return n;
}

}  // namespace thimble::host
