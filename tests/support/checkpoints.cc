#include "tests/support/checkpoints.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "tests/support/gguf_builder.h"

namespace thimble::tests {
namespace {

std::string Varint(uint64_t n) {
  std::string out;
  for (; n >= 128; n >>= 7) out += static_cast<char>((n & 127) | 128);
  return out + static_cast<char>(n);
}
std::string NumberField(int field, uint64_t value) { return Varint(static_cast<uint64_t>(field) << 3) + Varint(value); }
std::string BytesField(int field, std::string_view bytes) {
  return Varint(static_cast<uint64_t>(field) << 3 | 2) + Varint(bytes.size()) + std::string(bytes);
}
std::string FloatField(int field, float value) { return Varint(static_cast<uint64_t>(field) << 3 | 5) + Bytes(value); }

uint64_t ElementCount(const std::vector<uint64_t>& shape) {
  uint64_t n = 1;
  for (uint64_t dim : shape) n *= dim;
  return n;
}

// A finite number of the type, each bit pattern about as likely as any other.
uint32_t FiniteBits(const std::string& dtype, std::mt19937_64& random) {
  while (true) {
    const auto bits = static_cast<uint32_t>(random());
    if (dtype == "F32" && (bits >> 23 & 0xff) != 0xff) return bits;
    if (dtype == "F16" && (bits >> 10 & 0x1f) != 0x1f) return bits & 0xffff;
    if (dtype == "BF16" && (bits >> 7 & 0xff) != 0xff) return bits & 0xffff;
  }
}

StoredTensor RandomTensor(std::vector<uint64_t> shape, const std::string& dtype, std::mt19937_64& random) {
  StoredTensor tensor{dtype, shape, ""};
  for (uint64_t n = ElementCount(shape); n > 0; --n) {
    tensor.bytes += Bytes(FiniteBits(dtype, random)).substr(0, dtype == "F32" ? 4 : 2);
  }
  return tensor;
}

class Cursor {
 public:
  explicit Cursor(const std::string& bytes) : bytes_(bytes) {}

  template <class T>
  T Take() {
    T value{};
    if (at_ + sizeof(T) > bytes_.size()) {
      ADD_FAILURE() << "the GGUF file ends early";
      return value;
    }
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  std::string Text() {
    const auto n = Take<uint64_t>();
    if (n > bytes_.size() - at_) {
      ADD_FAILURE() << "a text beyond the end of the GGUF file";
      return "";
    }
    at_ += n;
    return bytes_.substr(at_ - n, n);
  }

  nlohmann::json Value(uint32_t type) {
    switch (type) {
      case 4:
        return Take<uint32_t>();
      case 5:
        return Take<int32_t>();
      case 6:
        return Take<float>();
      case 7:
        return Take<uint8_t>() != 0;
      case 8:
        return Text();
      case 9: {
        const auto inner = Take<uint32_t>();
        nlohmann::json array = nlohmann::json::array();
        for (auto n = Take<uint64_t>(); n > 0 && !testing::Test::HasFailure(); --n) array.push_back(Value(inner));
        return array;
      }
      default:
        ADD_FAILURE() << "value type " << type;
        return nullptr;
    }
  }

  uint64_t at() const { return at_; }

 private:
  const std::string& bytes_;
  uint64_t at_ = 0;
};

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "thimble-test-XXXXXX").string();
  EXPECT_NE(mkdtemp(name.data()), nullptr);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::set<std::string> TemporaryFolder::Names() const {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) names.insert(entry.path().filename().string());
  return names;
}

void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.flush()) << path;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string SafetensorsFile(std::string_view header, std::string_view data) {
  return Bytes(uint64_t{header.size()}) + std::string(header) + std::string(data);
}

std::string SafetensorsFile(const std::map<std::string, StoredTensor>& tensors) {
  nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  return SafetensorsFile(header.dump(), data);
}

double StoredValue(const StoredTensor& tensor, uint64_t element) {
  const size_t width = tensor.dtype == "F32" ? 4 : 2;
  uint32_t bits = 0;
  std::memcpy(&bits, tensor.bytes.data() + element * width, width);
  const int exponent_bits = tensor.dtype == "F16" ? 5 : 8;
  const int fraction_bits = static_cast<int>(width) * 8 - 1 - exponent_bits;
  const auto fraction = static_cast<double>(bits & ((1u << fraction_bits) - 1));
  const int exponent = static_cast<int>(bits >> fraction_bits & ((1u << exponent_bits) - 1));
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = bits >> (fraction_bits + exponent_bits) & 1 ? -1 : 1;
  const double significand = exponent == 0 ? fraction : fraction + std::ldexp(1.0, fraction_bits);
  return sign * std::ldexp(significand, std::max(exponent, 1) - bias - fraction_bits);
}

void StoreElement(StoredTensor& tensor, uint64_t element, uint32_t bits) {
  const size_t width = tensor.dtype == "F32" ? 4 : 2;
  std::memcpy(tensor.bytes.data() + element * width, &bits, width);
}

SentencePieceProto SentencePieceProto::Make(uint32_t size) {
  SentencePieceProto proto;
  proto.pieces = {{"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}};
  for (int byte = 0; byte < 256; ++byte) proto.pieces.push_back({fmt::format("<0x{:02X}>", byte), 0, 6});
  proto.pieces.push_back({"\u2581", -1, 1});
  for (char c = 'a'; c <= 'z'; ++c) proto.pieces.push_back({std::string(1, c), -1, 1});
  for (char a = 'a'; a <= 'z'; ++a) {
    for (char b = 'a'; b <= 'z'; ++b) {
      proto.pieces.push_back({{a, b}, -static_cast<float>(proto.pieces.size()), 1});
    }
  }
  EXPECT_GE(proto.pieces.size(), size);
  proto.pieces.resize(size);
  return proto;
}

std::string SentencePieceProto::Serialize() const {
  std::string out;
  for (const ProtoPiece& piece : pieces) {
    std::string inner = BytesField(1, piece.piece) + FloatField(2, piece.score);
    if (piece.type != 1) inner += NumberField(3, static_cast<uint64_t>(piece.type));
    out += BytesField(1, inner);
  }
  out += BytesField(2, NumberField(3, static_cast<uint64_t>(model_type)) + NumberField(4, pieces.size()) +
                           NumberField(24, whitespace_as_suffix) + NumberField(35, byte_fallback));
  out += BytesField(3, BytesField(1, normalizer_name) + BytesField(2, charsmap) + NumberField(3, add_dummy_prefix) +
                           NumberField(4, remove_extra_whitespaces) + NumberField(5, escape_whitespaces));
  return out;
}

HfModel HfModel::Make(const ModelShape& shape, const std::string& dtype, uint64_t seed) {
  std::mt19937_64 random(seed);
  HfModel model;
  constexpr std::array<const char*, kNumArchitectures> kNames = {"LlamaForCausalLM", "Qwen2ForCausalLM",
                                                                 "Qwen3ForCausalLM"};
  model.config = {{"architectures", {kNames[static_cast<size_t>(shape.architecture)]}},
                  {"model_type", ArchitectureName(shape.architecture)},
                  {"vocab_size", shape.vocab_size},
                  {"hidden_size", shape.hidden_size},
                  {"intermediate_size", shape.intermediate_size},
                  {"num_hidden_layers", shape.num_hidden_layers},
                  {"num_attention_heads", shape.num_attention_heads},
                  {"num_key_value_heads", shape.num_key_value_heads},
                  {"head_dim", shape.head_dim},
                  {"max_position_embeddings", shape.max_position_embeddings},
                  {"rms_norm_eps", shape.rms_norm_eps},
                  {"rope_theta", shape.rope_theta},
                  {"rope_scaling", nullptr},
                  {"hidden_act", "silu"},
                  {"attention_bias", false},
                  {"mlp_bias", false},
                  {"pretraining_tp", 1},
                  {"tie_word_embeddings", false},
                  {"torch_dtype", "float32"},
                  {"bos_token_id", 1},
                  {"eos_token_id", 2}};
  const auto add = [&](const std::string& name, std::vector<uint64_t> dims) {
    model.tensors[name] = RandomTensor(std::move(dims), dtype, random);
  };
  const uint64_t hidden = shape.hidden_size;
  add("model.embed_tokens.weight", {shape.vocab_size, hidden});
  add("lm_head.weight", {shape.vocab_size, hidden});
  add("model.norm.weight", {hidden});
  for (uint32_t i = 0; i < shape.num_hidden_layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    add(layer + "input_layernorm.weight", {hidden});
    add(layer + "post_attention_layernorm.weight", {hidden});
    add(layer + "self_attn.q_proj.weight", {shape.q_dim(), hidden});
    add(layer + "self_attn.k_proj.weight", {shape.kv_dim(), hidden});
    add(layer + "self_attn.v_proj.weight", {shape.kv_dim(), hidden});
    add(layer + "self_attn.o_proj.weight", {hidden, shape.q_dim()});
    add(layer + "mlp.gate_proj.weight", {shape.intermediate_size, hidden});
    add(layer + "mlp.up_proj.weight", {shape.intermediate_size, hidden});
    add(layer + "mlp.down_proj.weight", {hidden, shape.intermediate_size});
    if (shape.architecture == Architecture::kQwen2) {
      add(layer + "self_attn.q_proj.bias", {shape.q_dim()});
      add(layer + "self_attn.k_proj.bias", {shape.kv_dim()});
      add(layer + "self_attn.v_proj.bias", {shape.kv_dim()});
    } else if (shape.architecture == Architecture::kQwen3) {
      add(layer + "self_attn.q_norm.weight", {shape.head_dim});
      add(layer + "self_attn.k_norm.weight", {shape.head_dim});
    }
  }
  return model;
}

void HfModel::Write(const std::string& folder) const {
  std::filesystem::create_directories(folder);
  WriteFile(folder + "/config.json", config.dump(2));
  WriteFile(folder + "/model.safetensors", SafetensorsFile(tensors));
  for (const auto& [name, bytes] : files) WriteFile(folder + "/" + name, bytes);
}

void HfModel::WriteSharded(const std::string& folder, size_t num_shards) const {
  Write(folder);
  std::filesystem::remove(folder + "/model.safetensors");
  std::vector<std::map<std::string, StoredTensor>> shards(num_shards);
  nlohmann::json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", nlohmann::json::object()}};
  size_t i = 0;
  for (const auto& [name, tensor] : tensors) {
    const size_t shard = i++ % num_shards;
    shards[shard][name] = tensor;
    index["weight_map"][name] = ShardName(shard, num_shards);
  }
  for (size_t shard = 0; shard < num_shards; ++shard) {
    WriteFile(folder + "/" + ShardName(shard, num_shards), SafetensorsFile(shards[shard]));
  }
  WriteFile(folder + "/model.safetensors.index.json", index.dump());
}

std::string ShardName(size_t shard, size_t num_shards) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, num_shards);
}

nlohmann::json TokenizerJson(const SentencePieceProto& proto) {
  using nlohmann::json;
  json vocab = json::object();
  json added = json::array();
  std::map<std::string, float> scores;
  for (size_t id = 0; id < proto.pieces.size(); ++id) {
    const ProtoPiece& piece = proto.pieces[id];
    vocab[piece.piece] = id;
    if (piece.type == 1) scores[piece.piece] = piece.score;
    if (piece.type == 2 || piece.type == 3) {
      added.push_back({{"id", id},
                       {"content", piece.piece},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
    }
  }
  // Every way to make every piece of two others, the best piece first.
  std::vector<std::pair<float, std::string>> merges;
  for (const auto& [piece, score] : scores) {
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      const std::string left = piece.substr(0, cut);
      const std::string right = piece.substr(cut);
      if (scores.contains(left) && scores.contains(right)) merges.emplace_back(-score, left + " " + right);
    }
  }
  std::ranges::sort(merges);
  json merge_list = json::array();
  for (const auto& [score, merge] : merges) merge_list.push_back(merge);
  const json space = "\u2581";
  return {{"version", "1.0"},
          {"added_tokens", added},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers",
             {{{"type", "Prepend"}, {"prepend", space}},
              {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space}}}}}},
          {"pre_tokenizer", nullptr},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single",
             {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}}},
          {"decoder", {{"type", "Sequence"}, {"decoders", {{{"type", "ByteFallback"}}, {{"type", "Fuse"}}}}}},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", "<unk>"},
            {"fuse_unk", true},
            {"byte_fallback", proto.byte_fallback},
            {"vocab", vocab},
            {"merges", merge_list}}}};
}

Llama2cModel Llama2cModel::Make(const ModelShape& shape, bool tied, uint64_t seed) {
  std::mt19937_64 random(seed);
  Llama2cModel model;
  const auto vocab_size = static_cast<int32_t>(shape.vocab_size);
  model.header = {static_cast<int32_t>(shape.hidden_size),
                  static_cast<int32_t>(shape.intermediate_size),
                  static_cast<int32_t>(shape.num_hidden_layers),
                  static_cast<int32_t>(shape.num_attention_heads),
                  static_cast<int32_t>(shape.num_key_value_heads),
                  tied ? vocab_size : -vocab_size,
                  static_cast<int32_t>(shape.max_position_embeddings)};
  model.tied = tied;
  for (uint32_t i = 0; i < TensorCount(shape); ++i) {
    const TensorId id = TensorIdAt(i, shape);
    if (tied && id.kind == TensorKind::kLmHead) continue;
    char name[64];
    FormatTensorName(id, name);
    const TensorDims dims = DimsOf(id.kind, shape);
    model.tensors[name] = RandomTensor({dims.rows, dims.cols}, "F32", random).bytes;
  }
  return model;
}

std::string Llama2cModel::File() const {
  std::string out;
  for (int32_t field : header) out += Bytes(field);
  const auto layers = [&](std::string_view stem) {
    for (int32_t i = 0; i < header[2]; ++i) out += tensors.at(fmt::format("blk.{}.{}.weight", i, stem));
  };
  out += tensors.at("token_embd.weight");
  layers("attn_norm");
  layers("attn_q");
  layers("attn_k");
  layers("attn_v");
  layers("attn_output");
  layers("ffn_norm");
  layers("ffn_gate");
  layers("ffn_down");
  layers("ffn_up");
  out += tensors.at("output_norm.weight");
  // The cosine and sine tables. NaN: nobody may look at them.
  const size_t table_floats = static_cast<size_t>(header[6]) * static_cast<size_t>(header[0] / header[3]);
  out += std::string(table_floats * 4, '\xff');
  if (!tied) out += tensors.at("output.weight");
  return out;
}

namespace {

std::string Llama2cVersionedFile(const Llama2cModel& model, int32_t version, uint32_t group_size) {
  std::string out = Bytes(uint32_t{0x616b3432}) + Bytes(version);
  for (int32_t field : model.header) out += Bytes(std::abs(field));
  out += static_cast<char>(model.tied);
  if (version == 2) out += Bytes(group_size);
  out.resize(256);
  const auto one = [&](const std::string& name) {
    const std::string& floats = model.tensors.at(name + ".weight");
    if (version == 1 || name.ends_with("norm")) {
      out += floats;
      return;
    }
    const Llama2cGroups groups(floats, group_size);
    out += groups.codes + groups.scales;
  };
  const auto layers = [&](std::string_view stem) {
    for (int32_t i = 0; i < model.header[2]; ++i) one(fmt::format("blk.{}.{}", i, stem));
  };
  layers("attn_norm");
  layers("ffn_norm");
  one("output_norm");
  one("token_embd");
  for (const char* stem : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_down", "ffn_up"}) layers(stem);
  if (!model.tied) one("output");
  return out;
}

}  // namespace

std::string Llama2cModel::FileOfVersion1() const { return Llama2cVersionedFile(*this, 1, 0); }

std::string Llama2cModel::FileOfVersion2(uint32_t group_size) const {
  return Llama2cVersionedFile(*this, 2, group_size);
}

Llama2cGroups::Llama2cGroups(std::string_view float32, uint32_t group_size) {
  std::vector<float> w(float32.size() / sizeof(float));
  std::memcpy(w.data(), float32.data(), float32.size());
  for (size_t first = 0; first < w.size(); first += group_size) {
    float largest = 0;
    for (uint32_t i = 0; i < group_size; ++i) largest = std::max(largest, std::abs(w[first + i]));
    const float scale = largest / 127.0f;
    scales += Bytes(scale);
    for (uint32_t i = 0; i < group_size; ++i) {
      const auto code = static_cast<int8_t>(scale == 0 ? 0 : std::nearbyint(w[first + i] / scale));
      codes += static_cast<char>(code);
      values += Bytes(static_cast<float>(code) * scale);
    }
  }
}

std::string Llama2cTokenizerFile(uint32_t size) {
  std::string out = Bytes(uint32_t{6});
  const SentencePieceProto proto = SentencePieceProto::Make(size);
  for (size_t id = 0; id < proto.pieces.size(); ++id) {
    std::string token = proto.pieces[id].piece;
    if (token == "\u2581") token = " ";
    if (id == 1 || id == 2) token = "\n" + token + "\n";
    out += Bytes(proto.pieces[id].score) + Bytes(static_cast<uint32_t>(token.size())) + token;
  }
  return out;
}

GgufContent ReadGguf(const std::string& path) {
  const std::string bytes = ReadFile(path);
  Cursor cursor(bytes);
  GgufContent content;
  content.file_bytes = bytes.size();
  EXPECT_EQ(cursor.Take<uint32_t>(), 0x46554747u);
  content.version = cursor.Take<uint32_t>();
  const auto tensor_count = cursor.Take<uint64_t>();
  for (auto n = cursor.Take<uint64_t>(); n > 0 && !testing::Test::HasFailure(); --n) {
    const std::string key = cursor.Text();
    EXPECT_FALSE(content.keys.contains(key)) << key;
    content.keys[key] = cursor.Value(cursor.Take<uint32_t>());
  }
  for (uint64_t n = 0; n < tensor_count && !testing::Test::HasFailure(); ++n) {
    const std::string name = cursor.Text();
    EXPECT_FALSE(content.tensors.contains(name)) << name;
    GgufContent::Tensor& tensor = content.tensors[name];
    content.tensor_order.push_back(name);
    for (auto dims = cursor.Take<uint32_t>(); dims > 0; --dims) tensor.dims.push_back(cursor.Take<uint64_t>());
    tensor.type = cursor.Take<uint32_t>();
    tensor.file_offset = cursor.Take<uint64_t>();
  }
  if (testing::Test::HasFailure()) return content;
  const uint64_t alignment =
      content.keys.contains("general.alignment") ? content.keys["general.alignment"].get<uint64_t>() : 32;
  const uint64_t data = (cursor.at() + alignment - 1) / alignment * alignment;
  for (auto& [name, tensor] : content.tensors) {
    tensor.file_offset += data;
    const uint64_t count = ElementCount(tensor.dims);
    const uint64_t size = GgufBuilder::BytesOf(tensor.type, count);
    EXPECT_LE(tensor.file_offset + size, bytes.size()) << name;
    if (tensor.file_offset + size <= bytes.size()) tensor.bytes = bytes.substr(tensor.file_offset, size);
  }
  return content;
}

ModelShape SmallShape() {
  return {.vocab_size = 300,
          .hidden_size = 20,
          .intermediate_size = 28,
          .num_hidden_layers = 2,
          .num_attention_heads = 4,
          .num_key_value_heads = 2,
          .head_dim = 6,
          .max_position_embeddings = 40,
          .rms_norm_eps = 1e-5f,
          .rope_theta = 500000};
}

uint32_t LittleEndian(std::string_view bytes, size_t offset, size_t size) {
  uint32_t value = 0;
  for (size_t i = size; i > 0; --i) value = value << 8 | static_cast<uint8_t>(bytes[offset + i - 1]);
  return value;
}

}  // namespace thimble::tests
