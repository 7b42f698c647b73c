#include "host/formats/gguf_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "engine/formats/gguf.h"
#include "engine/formats/model_file.h"
#include "host/formats/tensor_name.h"
#include "host/formats/weights.h"
#include "host/support/glob.h"
#include "host/support/progress.h"
#include "host/support/utf8.h"

namespace thimble::host {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is written from memory as it lies there");

enum class ValueType : uint32_t {
  kUint8 = 0,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9
};

// llama_ftype by DType: "all F32", "mostly F16", ...; of Q4_K and Q5_K the "medium" mixtures.
constexpr std::array<uint32_t, kNumDTypes> kFileTypes = {0, 1, 32, 7, 2, 3, 8, 9, 15, 17, 18, 25};

uint64_t AlignUp(uint64_t n) { return (n + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment; }

// The bytes before the tensors. Keys are counted as they are added.
class Header {
 public:
  void Key(std::string_view key, uint32_t value) { Begin(key, ValueType::kUint32).Raw(value); }
  void Key(std::string_view key, float value) { Begin(key, ValueType::kFloat32).Raw(value); }
  void Key(std::string_view key, bool value) { Begin(key, ValueType::kBool).Raw(static_cast<uint8_t>(value)); }
  void Key(std::string_view key, std::string_view value) { Begin(key, ValueType::kString).Text(value); }
  void Key(std::string_view key, const char* value) { Key(key, std::string_view(value)); }

  void Key(std::string_view key, std::span<const std::string> values) {
    BeginArray(key, ValueType::kString, values.size());
    for (const std::string& value : values) Text(value);
  }
  void Key(std::string_view key, std::span<const float> values) {
    BeginArray(key, ValueType::kFloat32, values.size());
    for (float value : values) Raw(value);
  }
  void Key(std::string_view key, std::span<const TokenId> values) {
    BeginArray(key, ValueType::kUint32, values.size());
    for (TokenId value : values) Raw(uint32_t{value});
  }
  void Key(std::string_view key, std::span<const TokenType> values) {
    BeginArray(key, ValueType::kInt32, values.size());
    for (TokenType value : values) Raw(static_cast<int32_t>(value));
  }

  void Bytes(std::string_view key, std::string_view values) {
    BeginArray(key, ValueType::kUint8, values.size());
    bytes_ += values;
  }

  void Tensor(const TensorRef& tensor) {
    std::array<char, 64> name;
    Text(std::string_view(name.data(), FormatTensorName(tensor.id, name)));
    Raw(uint32_t{IsVector(tensor.id.kind) ? 1u : 2u});
    Raw(uint64_t{tensor.cols});
    if (!IsVector(tensor.id.kind)) Raw(uint64_t{tensor.rows});
    Raw(formats::kGgmlTypes[static_cast<size_t>(tensor.type)]);
    Raw(tensor.offset);
    ++tensors_;
  }

  // All of it, padded.
  std::string Finish() const {
    Header start;
    start.bytes_ = "GGUF";
    start.Raw(uint32_t{3});
    start.Raw(tensors_);
    start.Raw(keys_);
    std::string all = start.bytes_ + bytes_;
    all.resize(static_cast<size_t>(AlignUp(all.size())), '\0');
    return all;
  }

 private:
  Header& Begin(std::string_view key, ValueType type) {
    ++keys_;
    Text(key);
    Raw(type);
    return *this;
  }

  void BeginArray(std::string_view key, ValueType type, uint64_t size) {
    Begin(key, ValueType::kArray);
    Raw(type);
    Raw(size);
  }

  void Text(std::string_view text) {
    Raw(uint64_t{text.size()});
    bytes_ += text;
  }

  template <class T>
  void Raw(T value) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  std::string bytes_;
  uint64_t keys_ = 0;
  uint64_t tensors_ = 0;
};

// Whether all values of a tensor survive in F16, and in BF16.
class FitCheck {
 public:
  void Add(std::span<const float> values) {
    f16_ = f16_ && std::ranges::all_of(values, FitsF16);
    bf16_ = bf16_ && std::ranges::all_of(values, FitsBf16);
  }
  bool is_open() const { return f16_ || bf16_; }
  DType best() const { return f16_ ? DType::kF16 : bf16_ ? DType::kBF16 : DType::kF32; }

 private:
  bool f16_ = true;
  bool bf16_ = true;
};

// Rows of a tensor that are read at once.
uint32_t RowsAtOnce(uint32_t cols) {
  constexpr size_t kFloats = size_t{1} << 18;
  return static_cast<uint32_t>(std::max<size_t>(1, kFloats / cols));
}

// Reads a tensor until it is known which types its values fit.
Expected<DType> NarrowestType(const Checkpoint& checkpoint, TensorId id, Progress& progress) {
  const TensorDims dims = DimsOf(id.kind, checkpoint.shape);
  const uint32_t rows_at_once = RowsAtOnce(dims.cols);
  std::vector<float> values;
  FitCheck fits;
  for (uint32_t row = 0; row < dims.rows; row += rows_at_once) {
    const uint32_t rows = std::min(rows_at_once, dims.rows - row);
    values.resize(size_t{rows} * dims.cols);
    if (fits.is_open()) {
      THIMBLE_TRY(checkpoint.weights->ReadRows(id, row, values));
      fits.Add(values);
    }
    progress.Advance(values.size() * sizeof(float));
  }
  return fits.best();
}

// Whether a matrix has at least as many elements as the layers' matrices have on average.
bool IsLarge(const ModelShape& shape, TensorId id) {
  uint64_t sum = 0;
  uint64_t matrices = 0;
  for (uint32_t i = kTensorsOutsideLayers; i < kTensorsOutsideLayers + TensorsPerLayer(shape.architecture); ++i) {
    const TensorKind kind = TensorIdAt(i, shape).kind;
    if (IsVector(kind)) continue;
    const TensorDims dims = DimsOf(kind, shape);
    sum += uint64_t{dims.rows} * dims.cols;
    ++matrices;
  }
  const TensorDims dims = DimsOf(id.kind, shape);
  return uint64_t{dims.rows} * dims.cols * matrices >= sum;
}

bool Matches(const TypeRule& rule, TensorId id) { return host::Matches(rule.pattern, TensorName(id)); }

Status CheckRules(const Checkpoint& checkpoint, const TypeRecipe& recipe) {
  const std::vector<TensorId> ids = GgufTensorOrder(checkpoint.shape, checkpoint.tied);
  for (const TypeRule& rule : recipe.rules) {
    if (std::ranges::any_of(ids, [&](TensorId id) { return !IsVector(id.kind) && Matches(rule, id); })) continue;
    return Sentence(fmt::format(
        "{} is the name of no matrix of this model; they are called blk.0.ffn_up.weight and so on, 'thimble "
        "inspect' lists them",
        Quote(rule.pattern)));
  }
  return {};
}

WrittenType Wanted(const Checkpoint& checkpoint, const TypeRecipe& recipe, TensorId id) {
  WrittenType written = recipe.dtype;
  if (recipe.quant == Quant::kAll || (recipe.quant == Quant::kHybrid && IsLarge(checkpoint.shape, id))) {
    written = recipe.rounded;
  }
  for (const TypeRule& rule : recipe.rules) {
    if (Matches(rule, id)) written = rule.written;
  }
  return written;
}

// The tensors as they will lie, offsets from the start of the data.
std::vector<TensorRef> LayOut(const Checkpoint& checkpoint, std::span<const ChosenType> types) {
  std::vector<DType> type_of(TensorCount(checkpoint.shape), DType::kF32);
  for (const ChosenType& chosen : types) type_of[TensorIndex(chosen.id, checkpoint.shape)] = chosen.type;
  std::vector<TensorRef> tensors;
  uint64_t offset = 0;
  for (TensorId id : GgufTensorOrder(checkpoint.shape, checkpoint.tied)) {
    const TensorDims dims = DimsOf(id.kind, checkpoint.shape);
    tensors.push_back({.offset = offset,
                       .rows = dims.rows,
                       .cols = dims.cols,
                       .id = id,
                       .type = type_of[TensorIndex(id, checkpoint.shape)]});
    offset += AlignUp(tensors.back().size_bytes());
  }
  return tensors;
}

uint32_t FileType(std::span<const TensorRef> tensors) {
  std::array<uint64_t, kNumDTypes> elements = {};  // by type
  for (const TensorRef& tensor : tensors) {
    if (!IsVector(tensor.id.kind)) elements[static_cast<size_t>(tensor.type)] += uint64_t{tensor.rows} * tensor.cols;
  }
  return kFileTypes[static_cast<size_t>(std::ranges::max_element(elements) - elements.begin())];
}

void AddVocabulary(const Vocabulary& vocabulary, Header& header) {
  if (vocabulary.tokens.empty()) {
    header.Key("tokenizer.ggml.model", "no_vocab");
  } else if (vocabulary.is_byte_level()) {
    header.Key("tokenizer.ggml.model", "gpt2");
    header.Key("tokenizer.ggml.pre", formats::PreTokenizerName(vocabulary.pre));
    header.Key("tokenizer.ggml.tokens", vocabulary.tokens);
    header.Key("tokenizer.ggml.token_type", vocabulary.types);
    header.Key("tokenizer.ggml.merges", vocabulary.merges);
  } else {
    header.Key("tokenizer.ggml.model", vocabulary.is_unigram ? "t5" : "llama");
    header.Key("tokenizer.ggml.pre", "default");
    header.Key("tokenizer.ggml.tokens", vocabulary.tokens);
    header.Key("tokenizer.ggml.scores", vocabulary.scores);
    header.Key("tokenizer.ggml.token_type", vocabulary.types);
  }
  // A reader takes 1, 2 and 0 for those of a vocabulary that does not say so.
  const auto special = [&](std::string_view key, const std::optional<TokenId>& id) {
    if (id || !vocabulary.tokens.empty()) header.Key(key, id.value_or(kNoToken));
  };
  special("tokenizer.ggml.bos_token_id", vocabulary.bos);
  special("tokenizer.ggml.eos_token_id", vocabulary.eos);
  special("tokenizer.ggml.unknown_token_id", vocabulary.unk);
  header.Key("tokenizer.ggml.add_bos_token", vocabulary.add_bos);
  header.Key("tokenizer.ggml.add_eos_token", false);
  header.Key("tokenizer.ggml.add_space_prefix", vocabulary.add_space_prefix);
  if (vocabulary.remove_extra_whitespaces) header.Key("tokenizer.ggml.remove_extra_whitespaces", true);
  if (!vocabulary.charsmap.empty()) header.Bytes("tokenizer.ggml.precompiled_charsmap", vocabulary.charsmap);
  if (!vocabulary.fuse_unknown) header.Key("tokenizer.thimble.fuse_unk", false);
  if (!vocabulary.escape_whitespaces) header.Key("tokenizer.thimble.escape_whitespaces", false);
  if (!vocabulary.ends.empty()) header.Key("tokenizer.thimble.end_token_ids", vocabulary.ends);
  if (!vocabulary.chat_template.empty()) header.Key("tokenizer.chat_template", vocabulary.chat_template);
}

std::string MakeHeader(const Checkpoint& checkpoint, std::span<const TensorRef> tensors) {
  const ModelShape& shape = checkpoint.shape;
  Header header;
  header.Key("general.architecture", ArchitectureName(shape.architecture));
  header.Key("general.type", "model");
  header.Key("general.name", IsUtf8(checkpoint.name) ? std::string_view(checkpoint.name) : "model");
  header.Key("general.alignment", static_cast<uint32_t>(kGgufAlignment));
  header.Key("general.file_type", FileType(tensors));
  const auto own = [&](std::string_view key, auto value) {
    header.Key(fmt::format("{}{}", ArchitectureName(shape.architecture), key), value);
  };
  own(".vocab_size", shape.vocab_size);
  own(".context_length", shape.max_position_embeddings);
  own(".embedding_length", shape.hidden_size);
  own(".block_count", shape.num_hidden_layers);
  own(".feed_forward_length", shape.intermediate_size);
  own(".attention.head_count", shape.num_attention_heads);
  own(".attention.head_count_kv", shape.num_key_value_heads);
  own(".attention.key_length", shape.head_dim);
  own(".attention.value_length", shape.head_dim);
  own(".attention.layer_norm_rms_epsilon", shape.rms_norm_eps);
  own(".rope.dimension_count", shape.head_dim);
  own(".rope.freq_base", shape.rope_theta);
  if (shape.rope_linear_factor != 1) {
    own(".rope.scaling.type", "linear");
    own(".rope.scaling.factor", shape.rope_linear_factor);
  }
  AddVocabulary(checkpoint.vocabulary, header);
  for (const TensorRef& tensor : tensors) header.Tensor(tensor);
  return header.Finish();
}

// Writes rows, a buffer's worth at a time.
class TensorWriter {
 public:
  TensorWriter(WeightSource& weights, Progress& progress, FileSink& sink)
      : weights_(weights), progress_(progress), sink_(sink) {}

  Status Write(const TensorRef& tensor) {
    const uint32_t rows_at_once = RowsAtOnce(tensor.cols);
    for (uint32_t row = 0; row < tensor.rows; row += rows_at_once) {
      const uint32_t rows = std::min(rows_at_once, tensor.rows - row);
      THIMBLE_ASSIGN(const std::span<const std::byte> bytes, Rows(tensor, row, rows));
      THIMBLE_TRY(WriteBytes(bytes));
    }
    padding_.resize(static_cast<size_t>(AlignUp(tensor.size_bytes()) - tensor.size_bytes()));
    return WriteBytes(std::as_bytes(std::span(padding_)));
  }

  Status WriteBytes(std::span<const std::byte> bytes) {
    THIMBLE_TRY(sink_.Write(bytes));
    progress_.Advance(bytes.size());
    return {};
  }

 private:
  Expected<std::span<const std::byte>> Rows(const TensorRef& tensor, uint32_t first_row, uint32_t rows) {
    blocks_.resize(IsOfBlocks(tensor.type) ? static_cast<size_t>(rows * tensor.row_bytes()) : 0);
    if (IsOfBlocks(tensor.type) && weights_.StoredType(tensor.id) == tensor.type) {
      THIMBLE_TRY(weights_.ReadStoredRows(tensor.id, first_row, blocks_));
      return blocks_;
    }
    values_.resize(size_t{rows} * tensor.cols);
    THIMBLE_TRY(weights_.ReadRows(tensor.id, first_row, values_));
    if (tensor.type == DType::kF32) return std::as_bytes(std::span(values_));
    if (IsOfBlocks(tensor.type)) {
      if (Quantize(tensor.type, values_, blocks_)) return blocks_;
      return Sentence(
          fmt::format("{} has numbers that {} cannot hold, as its scales are at most 65504: write it in another type",
                      TensorName(tensor.id), DTypeName(tensor.type)));
    }
    halves_.resize(values_.size());
    std::ranges::transform(values_, halves_.begin(), tensor.type == DType::kF16 ? ToF16 : ToBf16);
    return std::as_bytes(std::span(halves_));
  }

  WeightSource& weights_;
  Progress& progress_;
  FileSink& sink_;
  std::vector<float> values_;
  std::vector<uint16_t> halves_;
  std::vector<std::byte> blocks_;
  std::string padding_;
};

}  // namespace

std::vector<TensorId> GgufTensorOrder(const ModelShape& shape, bool tied) {
  std::vector<TensorId> order;
  const uint32_t end = TensorCount(shape) - (shape.has_rope_factors ? 1 : 0);
  if (shape.has_rope_factors) order.push_back({TensorKind::kRopeFactors, 0});
  for (uint32_t i = kTensorsOutsideLayers; i < end; ++i) order.push_back(TensorIdAt(i, shape));
  order.push_back({TensorKind::kFinalNorm, 0});
  if (!tied) order.push_back({TensorKind::kLmHead, 0});
  order.push_back({TensorKind::kTokenEmbd, 0});
  return order;
}

std::optional<DType> RoundedType(WrittenType written) {
  switch (written) {
    case WrittenType::kF32:
    case WrittenType::kKeep:
    case WrittenType::kExact:
      return std::nullopt;
    case WrittenType::kQ8_0:
      return DType::kQ8_0;
    case WrittenType::kQ4_0:
      return DType::kQ4_0;
    case WrittenType::kQ4_1:
      return DType::kQ4_1;
    case WrittenType::kQ5_0:
      return DType::kQ5_0;
    case WrittenType::kQ5_1:
      return DType::kQ5_1;
    case WrittenType::kQ4_K:
      return DType::kQ4_K;
  }
  return std::nullopt;
}

namespace {

// The same of rows of `cols`, which may be no whole blocks: then `why` says so.
std::optional<DType> RoundedTypeOf(WrittenType written, uint32_t cols, std::string& why) {
  const std::optional<DType> wanted = RoundedType(written);
  if (!wanted || cols % BlockElements(*wanted) == 0) return wanted;
  why =
      fmt::format("no {}, as rows of {} are no whole blocks of {}; ", DTypeName(*wanted), cols, BlockElements(*wanted));
  if (*wanted == DType::kQ4_K && cols % BlockElements(DType::kQ5_0) == 0) return DType::kQ5_0;
  return std::nullopt;
}

}  // namespace

bool IsNamed(const TypeRecipe& recipe, TensorId id) {
  return std::ranges::any_of(recipe.rules, [&](const TypeRule& rule) { return Matches(rule, id); });
}

Expected<std::vector<ChosenType>> ChooseTypes(const Checkpoint& checkpoint, const TypeRecipe& recipe) {
  THIMBLE_TRY(CheckRules(checkpoint, recipe));
  std::vector<ChosenType> types;
  std::vector<size_t> to_narrow;
  uint64_t to_read = 0;
  for (TensorId id : GgufTensorOrder(checkpoint.shape, checkpoint.tied)) {
    if (IsVector(id.kind)) continue;
    const DType stored = checkpoint.weights->StoredType(id);
    const TensorDims dims = DimsOf(id.kind, checkpoint.shape);
    WrittenType written = Wanted(checkpoint, recipe, id);
    std::string why;
    const std::optional<DType> rounded = IsOfBlocks(stored) ? std::nullopt : RoundedTypeOf(written, dims.cols, why);
    if (!rounded && !why.empty()) written = recipe.dtype;
    if (written == WrittenType::kF32) {
      types.push_back({id, DType::kF32, why + "float32 was asked for"});
    } else if (rounded) {
      types.push_back({id, *rounded, why + fmt::format("rounded to blocks of {}", BlockElements(*rounded))});
    } else {
      types.push_back({id, stored, why + "as it is stored"});
    }
    if (written != WrittenType::kExact || stored != DType::kF32) continue;
    types.back().why = why;
    to_narrow.push_back(types.size() - 1);
    to_read += uint64_t{dims.rows} * dims.cols * sizeof(float);
  }
  if (to_narrow.empty()) return types;
  Progress progress("16 bits?", to_read);
  for (const size_t i : to_narrow) {
    ChosenType& chosen = types[i];
    THIMBLE_ASSIGN(chosen.type, NarrowestType(checkpoint, chosen.id, progress));
    chosen.why += chosen.type == DType::kF32 ? "some values need more than 16 bits" : "every value fits exactly";
  }
  return types;
}

Status WriteGguf(const Checkpoint& checkpoint, std::span<const ChosenType> types, const std::string& label,
                 FileSink& sink) {
  const std::vector<TensorRef> tensors = LayOut(checkpoint, types);
  const std::string header = MakeHeader(checkpoint, tensors);
  const TensorRef& last = tensors.back();
  Progress progress(label, header.size() + last.offset + AlignUp(last.size_bytes()));
  TensorWriter writer(*checkpoint.weights, progress, sink);
  THIMBLE_TRY(writer.WriteBytes(std::as_bytes(std::span(header))));
  for (const TensorRef& tensor : tensors) THIMBLE_TRY(writer.Write(tensor));
  return {};
}

Status WriteGguf(const Checkpoint& checkpoint, const TypeRecipe& recipe, const std::string& label, FileSink& sink) {
  THIMBLE_ASSIGN(const std::vector<ChosenType> types, ChooseTypes(checkpoint, recipe));
  return WriteGguf(checkpoint, types, label, sink);
}

Status WriteHollowGguf(const Checkpoint& checkpoint, DType type, FileSink& sink) {
  std::vector<ChosenType> types;
  for (TensorId id : GgufTensorOrder(checkpoint.shape, checkpoint.tied)) {
    if (!IsVector(id.kind)) types.push_back({.id = id, .type = type, .why = ""});
  }
  const std::vector<TensorRef> tensors = LayOut(checkpoint, types);
  THIMBLE_TRY(sink.Write(std::as_bytes(std::span<const char>(MakeHeader(checkpoint, tensors)))));
  uint64_t hole = tensors.back().offset + AlignUp(tensors.back().size_bytes());
  if (checkpoint.shape.has_rope_factors) {  // the first; 0 is no factor
    std::vector<float> ones(static_cast<size_t>(AlignUp(tensors.front().size_bytes())) / sizeof(float), 1.0f);
    THIMBLE_TRY(sink.Write(std::as_bytes(std::span(ones))));
    hole -= ones.size() * sizeof(float);
  }
  return sink.WriteHole(hole);
}

}  // namespace thimble::host
