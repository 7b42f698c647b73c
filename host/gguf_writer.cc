#include "host/gguf_writer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <span>
#include <string_view>
#include <type_traits>

#include "host/progress.h"
#include "host/utf8.h"

namespace thimble::host {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is written from memory as it lies there");

enum class ValueType : uint32_t { kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9 };
constexpr uint32_t kTensorTypeF32 = 0;
constexpr uint32_t kFileTypeAllF32 = 0;

bool IsNorm(TensorKind kind) {
  return kind == TensorKind::kAttnNorm || kind == TensorKind::kFfnNorm || kind == TensorKind::kFinalNorm;
}

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
  void Key(std::string_view key, std::span<const TokenType> values) {
    BeginArray(key, ValueType::kInt32, values.size());
    for (TokenType value : values) Raw(static_cast<int32_t>(value));
  }

  void Tensor(TensorId id, const ModelShape& shape, uint64_t offset) {
    std::array<char, 64> name;
    Text(std::string_view(name.data(), FormatTensorName(id, name)));
    const TensorDims dims = DimsOf(id.kind, shape);
    Raw(uint32_t{IsNorm(id.kind) ? 1u : 2u});
    Raw(uint64_t{dims.cols});
    if (!IsNorm(id.kind)) Raw(uint64_t{dims.rows});
    Raw(kTensorTypeF32);
    Raw(offset);
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
    all.resize(AlignUp(all.size()), '\0');
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

uint64_t TensorBytes(TensorId id, const ModelShape& shape) {
  const TensorDims dims = DimsOf(id.kind, shape);
  return uint64_t{dims.rows} * dims.cols * sizeof(float);
}

void AddVocabulary(const Vocabulary& vocabulary, Header& header) {
  if (vocabulary.tokens.empty()) {
    header.Key("tokenizer.ggml.model", "no_vocab");
  } else {
    header.Key("tokenizer.ggml.model", "llama");
    header.Key("tokenizer.ggml.pre", "default");
    header.Key("tokenizer.ggml.tokens", vocabulary.tokens);
    header.Key("tokenizer.ggml.scores", vocabulary.scores);
    header.Key("tokenizer.ggml.token_type", vocabulary.types);
  }
  if (vocabulary.bos) header.Key("tokenizer.ggml.bos_token_id", *vocabulary.bos);
  if (vocabulary.eos) header.Key("tokenizer.ggml.eos_token_id", *vocabulary.eos);
  if (vocabulary.unk) header.Key("tokenizer.ggml.unknown_token_id", *vocabulary.unk);
  header.Key("tokenizer.ggml.add_bos_token", vocabulary.add_bos);
  header.Key("tokenizer.ggml.add_eos_token", false);
  header.Key("tokenizer.ggml.add_space_prefix", vocabulary.add_space_prefix);
}

std::string MakeHeader(const Checkpoint& checkpoint, std::span<const TensorId> order) {
  const ModelShape& shape = checkpoint.shape;
  Header header;
  header.Key("general.architecture", "llama");
  header.Key("general.type", "model");
  header.Key("general.name", IsUtf8(checkpoint.name) ? std::string_view(checkpoint.name) : "model");
  header.Key("general.alignment", static_cast<uint32_t>(kGgufAlignment));
  header.Key("general.file_type", kFileTypeAllF32);
  header.Key("llama.vocab_size", shape.vocab_size);
  header.Key("llama.context_length", shape.max_position_embeddings);
  header.Key("llama.embedding_length", shape.hidden_size);
  header.Key("llama.block_count", shape.num_hidden_layers);
  header.Key("llama.feed_forward_length", shape.intermediate_size);
  header.Key("llama.attention.head_count", shape.num_attention_heads);
  header.Key("llama.attention.head_count_kv", shape.num_key_value_heads);
  header.Key("llama.attention.key_length", shape.head_dim);
  header.Key("llama.attention.value_length", shape.head_dim);
  header.Key("llama.attention.layer_norm_rms_epsilon", shape.rms_norm_eps);
  header.Key("llama.rope.dimension_count", shape.head_dim);
  header.Key("llama.rope.freq_base", shape.rope_theta);
  AddVocabulary(checkpoint.vocabulary, header);
  uint64_t offset = 0;
  for (TensorId id : order) {
    header.Tensor(id, shape, offset);
    offset += AlignUp(TensorBytes(id, shape));
  }
  return header.Finish();
}

Status WriteTensor(const Checkpoint& checkpoint, TensorId id, std::vector<float>& buffer, Progress& progress,
                   FileSink& sink) {
  const TensorDims dims = DimsOf(id.kind, checkpoint.shape);
  const auto rows_at_once = static_cast<uint32_t>(std::max<size_t>(1, buffer.size() / dims.cols));
  buffer.resize(std::max<size_t>(buffer.size(), dims.cols));
  for (uint32_t row = 0; row < dims.rows; row += rows_at_once) {
    const std::span<float> rows = std::span(buffer).first(size_t{std::min(rows_at_once, dims.rows - row)} * dims.cols);
    THIMBLE_TRY(checkpoint.weights->ReadRows(id, row, rows));
    THIMBLE_TRY(sink.Write(std::as_bytes(rows)));
    progress.Advance(rows.size_bytes());
  }
  return {};
}

}  // namespace

std::vector<TensorId> GgufTensorOrder(const ModelShape& shape, bool tied) {
  std::vector<TensorId> order;
  for (uint32_t i = kTensorsOutsideLayers; i < TensorCount(shape); ++i) order.push_back(TensorIdAt(i));
  order.push_back({TensorKind::kFinalNorm, 0});
  if (!tied) order.push_back({TensorKind::kLmHead, 0});
  order.push_back({TensorKind::kTokenEmbd, 0});
  return order;
}

Status WriteGguf(const Checkpoint& checkpoint, const std::string& label, FileSink& sink) {
  const std::vector<TensorId> order = GgufTensorOrder(checkpoint.shape, checkpoint.tied);
  const std::string header = MakeHeader(checkpoint, order);
  uint64_t total_bytes = header.size();
  for (TensorId id : order) total_bytes += AlignUp(TensorBytes(id, checkpoint.shape));
  Progress progress(label, total_bytes);
  THIMBLE_TRY(sink.Write(std::as_bytes(std::span(header))));
  progress.Advance(header.size());
  std::vector<float> buffer(size_t{1} << 18);
  for (TensorId id : order) {
    THIMBLE_TRY(WriteTensor(checkpoint, id, buffer, progress, sink));
    const uint64_t bytes = TensorBytes(id, checkpoint.shape);
    const std::string padding(AlignUp(bytes) - bytes, '\0');
    THIMBLE_TRY(sink.Write(std::as_bytes(std::span(padding))));
    progress.Advance(padding.size());
  }
  return {};
}

}  // namespace thimble::host
