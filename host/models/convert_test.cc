#include "host/models/convert.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "engine/formats/gguf.h"
#include "host/formats/llama2c.h"
#include "host/formats/llama2c_tokenizer.h"
#include "host/formats/tensor_name.h"
#include "host/formats/weights.h"
#include "tests/support/checkpoints.h"
#include "tests/support/test_gguf.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr char kEmbedding[] = "model.embed_tokens.weight";
constexpr char kHead[] = "lm_head.weight";

// A folder with a model in "model", where results go to "out".
class Convert : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(mkdir((folder_ / "out").c_str(), 0700), 0); }

  std::string source() const { return folder_ / "model"; }
  std::string out() const { return folder_ / "out/model.gguf"; }

  GgufContent Converted(const HfModel& model) {
    model.Write(source());
    notes_ = Expect(source(), "");
    return ReadGguf(out());
  }

  std::vector<std::string> Expect(const std::string& source, const std::string& tokenizer) {
    const auto notes =
        host::Convert({.source = source, .out = out(), .tokenizer = tokenizer, .types = {.dtype = dtype_}});
    EXPECT_TRUE(notes) << notes.error();
    return notes ? notes->notes : std::vector<std::string>();
  }

  // One sentence, and nothing new where the result would be.
  std::string Refusal(const std::string& source, const std::string& tokenizer = "") {
    const std::set<std::string> before = OutNames();
    const auto notes =
        host::Convert({.source = source, .out = out(), .tokenizer = tokenizer, .types = {.dtype = dtype_}});
    EXPECT_FALSE(notes);
    EXPECT_EQ(OutNames(), before);
    const std::string sentence = notes ? "" : notes.error();
    EXPECT_THAT(sentence, AllOf(Not(EndsWith(".")), Not(HasSubstr("\n"))));
    return sentence;
  }

  // Of a model whose tokenizer cannot be used: the only note.
  std::string NoteOf(const HfModel& model) {
    model.Write(source());
    return NoteOf(source());
  }
  std::string NoteOf(const std::string& source) {
    const std::vector<std::string> notes = Expect(source, "");
    EXPECT_EQ(notes.size(), 1u);
    if (notes.empty()) return "";
    EXPECT_THAT(notes[0], EndsWith("; the model runs with token ids only"));
    const GgufContent gguf = ReadGguf(out());
    EXPECT_EQ(gguf.keys.at("tokenizer.ggml.model"), "no_vocab");
    EXPECT_EQ(gguf.keys.at("tokenizer.ggml.bos_token_id"), 1);
    EXPECT_EQ(gguf.keys.at("tokenizer.ggml.eos_token_id"), 2);
    std::filesystem::remove(out());
    return notes[0];
  }

  std::string Refusal(const HfModel& model) {
    model.Write(source());
    return Refusal(source());
  }

  std::set<std::string> OutNames() const {
    std::set<std::string> names;
    for (const std::string& name : folder_.Names()) {
      if (name != "out" && name != "model" && !name.starts_with("in-")) names.insert(name);
    }
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "out")) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }

  TemporaryFolder folder_;
  WrittenType dtype_ = WrittenType::kF32;
  std::vector<std::string> notes_;
};

void ExpectTensor(const GgufContent& gguf, const std::string& name, const std::vector<uint64_t>& dims,
                  const std::vector<double>& values) {
  ASSERT_TRUE(gguf.tensors.contains(name)) << name;
  const GgufContent::Tensor& tensor = gguf.tensors.at(name);
  EXPECT_EQ(tensor.dims, dims) << name;
  EXPECT_EQ(tensor.type, 0u) << name;
  EXPECT_EQ(tensor.file_offset % 4096, 0u) << name;
  ASSERT_EQ(tensor.bytes.size(), values.size() * 4) << name;
  for (size_t i = 0; i < values.size(); ++i) {
    float value;
    std::memcpy(&value, tensor.bytes.data() + 4 * i, 4);
    ASSERT_EQ(double{value}, values[i]) << name << ", element " << i;
    ASSERT_EQ(std::signbit(value), std::signbit(values[i])) << name << ", element " << i;
  }
}

std::vector<double> Values(const StoredTensor& tensor) {
  std::vector<double> values;
  const size_t n = tensor.bytes.size() / (tensor.dtype == "F32" ? 4 : 2);
  for (size_t i = 0; i < n; ++i) values.push_back(StoredValue(tensor, i));
  return values;
}

// Rows of each head from "first halves, second halves" to "pair by pair".
std::vector<double> Interleaved(const std::vector<double>& matrix, uint32_t cols, uint32_t head_dim) {
  std::vector<double> out(matrix.size());
  for (size_t row = 0; row < matrix.size() / cols; ++row) {
    const size_t head = row / head_dim;
    const size_t in_head = row % head_dim;
    const size_t half = head_dim / 2;
    const size_t to = head * head_dim + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
    for (size_t col = 0; col < cols; ++col) out[to * cols + col] = matrix[row * cols + col];
  }
  return out;
}

void ExpectEqualsModel(const GgufContent& gguf, const HfModel& model, const ModelShape& shape) {
  const uint64_t hidden = shape.hidden_size;
  const auto expect = [&](const std::string& name, const std::string& hf, std::vector<uint64_t> dims) {
    ExpectTensor(gguf, name, dims, Values(model.tensors.at(hf)));
  };
  expect("token_embd.weight", kEmbedding, {hidden, shape.vocab_size});
  expect("output.weight", kHead, {hidden, shape.vocab_size});
  expect("output_norm.weight", "model.norm.weight", {hidden});
  for (uint32_t i = 0; i < shape.num_hidden_layers; ++i) {
    const std::string hf = fmt::format("model.layers.{}.", i);
    const std::string blk = fmt::format("blk.{}.", i);
    expect(blk + "attn_norm.weight", hf + "input_layernorm.weight", {hidden});
    expect(blk + "ffn_norm.weight", hf + "post_attention_layernorm.weight", {hidden});
    expect(blk + "attn_v.weight", hf + "self_attn.v_proj.weight", {hidden, shape.kv_dim()});
    expect(blk + "attn_output.weight", hf + "self_attn.o_proj.weight", {shape.q_dim(), hidden});
    expect(blk + "ffn_gate.weight", hf + "mlp.gate_proj.weight", {hidden, shape.intermediate_size});
    expect(blk + "ffn_up.weight", hf + "mlp.up_proj.weight", {hidden, shape.intermediate_size});
    expect(blk + "ffn_down.weight", hf + "mlp.down_proj.weight", {shape.intermediate_size, hidden});
    ExpectTensor(
        gguf, blk + "attn_q.weight", {hidden, shape.q_dim()},
        Interleaved(Values(model.tensors.at(hf + "self_attn.q_proj.weight")), shape.hidden_size, shape.head_dim));
    ExpectTensor(
        gguf, blk + "attn_k.weight", {hidden, shape.kv_dim()},
        Interleaved(Values(model.tensors.at(hf + "self_attn.k_proj.weight")), shape.hidden_size, shape.head_dim));
  }
  EXPECT_EQ(gguf.tensors.size(), model.tensors.size());
}

TEST_F(Convert, EveryTensorOfEveryTypeKeepsItsValues) {
  for (const char* dtype : {"F32", "F16", "BF16"}) {
    SCOPED_TRACE(dtype);
    const HfModel model = HfModel::Make(SmallShape(), dtype, 7);
    const GgufContent gguf = Converted(model);
    ASSERT_FALSE(HasFailure());
    ExpectEqualsModel(gguf, model, SmallShape());
    EXPECT_EQ(gguf.file_bytes % 4096, 0u);
    EXPECT_THAT(OutNames(), ElementsAre("model.gguf"));
  }
}

TEST_F(Convert, MatricesOfMoreThanOneBufferKeepTheirValues) {
  ModelShape shape = SmallShape();
  shape.hidden_size = 1000;
  shape.num_attention_heads = 10;
  shape.num_key_value_heads = 1;
  shape.head_dim = 90;
  shape.num_hidden_layers = 1;
  const HfModel model = HfModel::Make(shape, "F32", 8);
  const GgufContent gguf = Converted(model);
  ASSERT_FALSE(HasFailure());
  ExpectEqualsModel(gguf, model, shape);
}

TEST_F(Convert, WritesTheKeysThatLlamaCppReads) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 1);
  model.files["tokenizer.model"] = SentencePieceProto::Make(300).Serialize();
  const GgufContent gguf = Converted(model);
  ASSERT_FALSE(HasFailure());
  EXPECT_EQ(gguf.version, 3u);
  const std::map<std::string, nlohmann::json> wanted = {{"general.architecture", "llama"},
                                                        {"general.name", "model"},
                                                        {"general.alignment", 4096},
                                                        {"general.file_type", 0},
                                                        {"llama.vocab_size", 300},
                                                        {"llama.context_length", 40},
                                                        {"llama.embedding_length", 20},
                                                        {"llama.block_count", 2},
                                                        {"llama.feed_forward_length", 28},
                                                        {"llama.attention.head_count", 4},
                                                        {"llama.attention.head_count_kv", 2},
                                                        {"llama.attention.key_length", 6},
                                                        {"llama.attention.value_length", 6},
                                                        {"llama.attention.layer_norm_rms_epsilon", 1e-5f},
                                                        {"llama.rope.dimension_count", 6},
                                                        {"llama.rope.freq_base", 500000.0f},
                                                        {"tokenizer.ggml.model", "llama"},
                                                        {"tokenizer.ggml.pre", "default"},
                                                        {"tokenizer.ggml.bos_token_id", 1},
                                                        {"tokenizer.ggml.eos_token_id", 2},
                                                        {"tokenizer.ggml.unknown_token_id", 0},
                                                        {"tokenizer.ggml.add_bos_token", true},
                                                        {"tokenizer.ggml.add_eos_token", false},
                                                        {"tokenizer.ggml.add_space_prefix", true}};
  for (const auto& [key, value] : wanted) {
    ASSERT_TRUE(gguf.keys.contains(key)) << key;
    EXPECT_EQ(gguf.keys.at(key), value) << key;
  }
  const SentencePieceProto proto = SentencePieceProto::Make(300);
  ASSERT_EQ(gguf.keys.at("tokenizer.ggml.tokens").size(), 300u);
  for (size_t i = 0; i < 300; ++i) {
    EXPECT_EQ(gguf.keys.at("tokenizer.ggml.tokens")[i], proto.pieces[i].piece);
    EXPECT_EQ(gguf.keys.at("tokenizer.ggml.scores")[i], proto.pieces[i].score);
    EXPECT_EQ(gguf.keys.at("tokenizer.ggml.token_type")[i], proto.pieces[i].type);
  }
  EXPECT_THAT(notes_, IsEmpty());
}

TEST_F(Convert, TensorsStandInTheOrderOfUse) {
  const GgufContent gguf = Converted(HfModel::Make(SmallShape(), "BF16", 1));
  EXPECT_THAT(gguf.tensor_order, ElementsAre("blk.0.attn_norm.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight",
                                             "blk.0.attn_v.weight", "blk.0.attn_output.weight", "blk.0.ffn_norm.weight",
                                             "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight",
                                             "blk.1.attn_norm.weight", "blk.1.attn_q.weight", "blk.1.attn_k.weight",
                                             "blk.1.attn_v.weight", "blk.1.attn_output.weight", "blk.1.ffn_norm.weight",
                                             "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight", "blk.1.ffn_down.weight",
                                             "output_norm.weight", "output.weight", "token_embd.weight"));
  uint64_t end = 0;
  for (const std::string& name : gguf.tensor_order) {
    EXPECT_GE(gguf.tensors.at(name).file_offset, end) << name;
    end = gguf.tensors.at(name).file_offset + gguf.tensors.at(name).bytes.size();
  }
}

TEST_F(Convert, DefaultsAreThoseOfTransformers) {
  ModelShape shape = SmallShape();
  shape.head_dim = 4;
  shape.num_attention_heads = 5;
  shape.num_key_value_heads = 5;
  HfModel model = HfModel::Make(shape, "F32", 1);
  for (const char* key : {"num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta",
                          "rope_scaling", "tie_word_embeddings", "hidden_act", "attention_bias", "architectures"}) {
    model.config.erase(key);
  }
  const GgufContent gguf = Converted(model);
  ASSERT_FALSE(HasFailure());
  EXPECT_EQ(gguf.keys.at("llama.attention.head_count_kv"), 5);
  EXPECT_EQ(gguf.keys.at("llama.attention.key_length"), 4);
  EXPECT_EQ(gguf.keys.at("llama.context_length"), 2048);
  EXPECT_EQ(gguf.keys.at("llama.attention.layer_norm_rms_epsilon"), 1e-6f);
  EXPECT_EQ(gguf.keys.at("llama.rope.freq_base"), 10000.0f);
  EXPECT_TRUE(gguf.tensors.contains("output.weight"));
}

TEST_F(Convert, RopeParametersOfTransformers5AreRead) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 1);
  model.config.erase("rope_theta");
  model.config["rope_parameters"] = {{"rope_theta", 250000.0}, {"rope_type", "default"}};
  EXPECT_EQ(Converted(model).keys.at("llama.rope.freq_base"), 250000.0f);
}

TEST_F(Convert, TiedHeads) {
  const HfModel both = HfModel::Make(SmallShape(), "F32", 3);
  const std::vector<uint64_t> dims = {20, 300};
  for (const char* kept : {kEmbedding, kHead}) {
    for (const bool says_tied : {true, false}) {
      SCOPED_TRACE(fmt::format("only {}, tie_word_embeddings {}", kept, says_tied));
      HfModel one = both;
      one.tensors.erase(kept == kEmbedding ? kHead : kEmbedding);
      one.config["tie_word_embeddings"] = says_tied;
      const GgufContent gguf = Converted(one);
      ASSERT_FALSE(HasFailure());
      EXPECT_FALSE(gguf.tensors.contains("output.weight"));
      ExpectTensor(gguf, "token_embd.weight", dims, Values(both.tensors.at(kept)));
      EXPECT_EQ(notes_.size(), says_tied ? 1u : 2u);  // one is of the tokenizer that is not there
    }
  }
  HfModel differ = both;
  differ.config["tie_word_embeddings"] = true;
  GgufContent gguf = Converted(differ);
  ExpectTensor(gguf, "token_embd.weight", dims, Values(both.tensors.at(kEmbedding)));
  ExpectTensor(gguf, "output.weight", dims, Values(both.tensors.at(kHead)));
  EXPECT_THAT(notes_, Contains(HasSubstr("differ")));

  HfModel equal = differ;
  equal.tensors[kHead] = equal.tensors[kEmbedding];
  gguf = Converted(equal);
  EXPECT_FALSE(gguf.tensors.contains("output.weight"));
  ExpectTensor(gguf, "token_embd.weight", dims, Values(both.tensors.at(kEmbedding)));

  HfModel none = both;
  none.tensors.erase(kHead);
  none.tensors.erase(kEmbedding);
  EXPECT_THAT(Refusal(none), HasSubstr(kEmbedding));
}

TEST_F(Convert, EveryTensorMustBeThereInItsShape) {
  const HfModel good = HfModel::Make(SmallShape(), "F16", 3);
  for (const auto& [name, tensor] : good.tensors) {
    HfModel model = good;
    if (name != kEmbedding && name != kHead) {
      model.tensors.erase(name);
      EXPECT_THAT(Refusal(model), AllOf(HasSubstr("model.safetensors"), HasSubstr(name)));
    }
    model = good;
    ++model.tensors[name].shape[0];
    model.tensors[name].bytes += std::string(2 * (tensor.bytes.size() / 2 / tensor.shape[0]), '\0');
    EXPECT_THAT(Refusal(model), AllOf(HasSubstr(name), HasSubstr("shape")));
    model = good;
    model.tensors[name].shape.push_back(1);
    EXPECT_THAT(Refusal(model), AllOf(HasSubstr(name), HasSubstr("shape")));
    model = good;
    model.tensors[name].dtype = "I16";
    EXPECT_THAT(Refusal(model), AllOf(HasSubstr(name), HasSubstr("I16")));
  }
}

TEST_F(Convert, TensorsThatHaveNoPlaceAreRefusedByName) {
  const HfModel good = HfModel::Make(SmallShape(), "F32", 3);
  for (const char* name : {"model.layers.0.self_attn.q_proj.bias", "model.layers.0.mlp.down_proj.bias",
                           "model.layers.2.mlp.up_proj.weight", "model.layers.01.mlp.up_proj.weight",
                           "model.layers.0.self_attn.q_norm.weight", "lm_head.bias", "extra"}) {
    HfModel model = good;
    model.tensors[name] = {"F32", {1}, std::string(4, '\0')};
    EXPECT_THAT(Refusal(model), HasSubstr(name));
  }
}

TEST_F(Convert, RotaryTablesOfOldCheckpointsAreSkipped) {
  HfModel model = HfModel::Make(SmallShape(), "F16", 3);
  const HfModel plain = model;
  model.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {"F32", {3}, std::string(12, '\0')};
  ExpectEqualsModel(Converted(model), plain, SmallShape());
}

TEST_F(Convert, WeightsThatAreNoNumbersAreNamed) {
  const HfModel good = HfModel::Make(SmallShape(), "F32", 3);
  const std::map<std::string, std::vector<uint32_t>> bad_bits = {
      {"F32", {0x7f800000, 0xff800000, 0x7fc00000, 0xff800001}},
      {"F16", {0x7c00, 0xfc00, 0x7e00, 0xfc01}},
      {"BF16", {0x7f80, 0xff80, 0x7fc0, 0xff81}}};
  for (const auto& [dtype, patterns] : bad_bits) {
    const HfModel model = HfModel::Make(SmallShape(), dtype, 3);
    uint64_t seed = 1;
    for (const auto& [name, tensor] : model.tensors) {
      const uint32_t pattern = patterns[seed % patterns.size()];
      const uint64_t n = tensor.bytes.size() / (dtype == "F32" ? 4 : 2);
      const uint64_t element = seed * 7919 % n;
      HfModel bad = model;
      StoreElement(bad.tensors[name], element, pattern);
      EXPECT_THAT(Refusal(bad), AllOf(HasSubstr(name), HasSubstr(fmt::format("element {} ", element))));
      ++seed;
    }
  }
}

TEST_F(Convert, BadConfigurationsAreRefusedByKey) {
  using nlohmann::json;
  const HfModel good = HfModel::Make(SmallShape(), "F32", 3);
  const json huge = 18446744073709551615u;
  std::vector<std::pair<std::string, json>> cases = {
      {"architectures", {"MistralForCausalLM"}},
      {"architectures", {"LlamaForCausalLM", "X"}},
      {"architectures", "LlamaForCausalLM"},
      {"architectures", json::array()},
      {"model_type", "mistral"},
      {"model_type", 1},
      {"hidden_act", "gelu"},
      {"hidden_act", 1},
      {"attention_bias", true},
      {"attention_bias", 0},
      {"mlp_bias", true},
      {"quantization_config", {{"bits", 4}}},
      {"rope_scaling", {{"type", "linear"}}},
      {"rope_scaling", {{"type", "linear"}, {"factor", 0.5}}},
      {"rope_scaling", {{"type", "linear"}, {"factor", "2"}}},
      {"rope_scaling", {{"type", "linear"}, {"rope_type", "yarn"}, {"factor", 2}}},
      {"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}},
      {"rope_scaling", {{"rope_type", "longrope"}, {"factor", 2.0}}},
      {"rope_scaling", {{"rope_type", "llama3"}}},
      {"rope_scaling", "linear"},
      {"rope_scaling", {{"type", 1}}},
      {"rope_parameters", {{"rope_type", "yarn"}}},
      {"rope_parameters", 3},
      {"rope_theta", 10000.1},
      {"rope_theta", -1},
      {"rope_theta", 0},
      {"rope_theta", 1e39},
      {"rope_theta", "10000"},
      {"rms_norm_eps", 0},
      {"rms_norm_eps", -1e-5},
      {"rms_norm_eps", 1e-60},
      {"rms_norm_eps", "1e-5"},
      {"partial_rotary_factor", 0.5},
      {"tie_word_embeddings", 1},
      {"tie_word_embeddings", "true"},
      {"num_key_value_heads", 3},
      {"num_attention_heads", 3},
      {"head_dim", 5},
      {"bos_token_id", 300},
      {"bos_token_id", -1},
      {"bos_token_id", "1"},
      {"eos_token_id", 300},
      {"eos_token_id", json::array()},
      {"eos_token_id", {2.5}},
      {"max_position_embeddings", 2147483648u},
  };
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    for (const json& value : {json(0), json(-4), json(2.5), json(4.0), json("4"), json(true), json::array({4}),
                              json::object(), huge, json(4294967300u)}) {
      cases.emplace_back(key, value);
    }
  }
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}) {
    HfModel model = good;
    model.config.erase(key);
    EXPECT_THAT(Refusal(model), AllOf(HasSubstr("config.json"), HasSubstr(key)));
  }
  for (const auto& [key, value] : cases) {
    SCOPED_TRACE(fmt::format("{}: {}", key, value.dump()));
    HfModel model = good;
    model.config[key] = value;
    EXPECT_THAT(Refusal(model), AllOf(HasSubstr("config.json"), HasSubstr(key)));
  }
  HfModel model = good;
  model.config["rope_parameters"] = {{"rope_theta", 1000.0}};
  EXPECT_THAT(Refusal(model), HasSubstr("rope_theta"));
  model = good;
  model.config.erase("model_type");
  model.config.erase("architectures");
  EXPECT_THAT(Refusal(model), HasSubstr("model_type"));
}

// A Mistral model is a Llama whose attention slides, from a window's end on.
TEST_F(Convert, AMistralWithinItsWindowIsALlama) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 3);
  model.config["max_position_embeddings"] = 128;
  const GgufContent llama = Converted(model);
  const size_t notes = notes_.size();
  model.config["model_type"] = "mistral";
  model.config["architectures"] = {"MistralForCausalLM"};
  const auto converted = [&](const nlohmann::json& window) {
    std::filesystem::remove(out());
    model.config["sliding_window"] = window;
    return Converted(model);
  };
  for (const nlohmann::json& window : {nlohmann::json(nullptr), nlohmann::json(128), nlohmann::json(4096)}) {
    SCOPED_TRACE(window.dump());
    const GgufContent mistral = converted(window);
    EXPECT_EQ(mistral.keys, llama.keys);
    EXPECT_EQ(notes_.size(), notes);
    ASSERT_EQ(mistral.tensors.size(), llama.tensors.size());
    for (const auto& [name, tensor] : llama.tensors) EXPECT_EQ(mistral.tensors.at(name).bytes, tensor.bytes) << name;
  }
  EXPECT_EQ(converted(100).keys.at("llama.context_length"), 100);
  EXPECT_THAT(notes_, Contains(HasSubstr("attention slides over 100 of 128 positions: the context ends at 100")));
  for (const nlohmann::json& window : {nlohmann::json(0), nlohmann::json(-1), nlohmann::json("none")}) {
    model.config["sliding_window"] = window;
    std::filesystem::remove(out());
    EXPECT_THAT(Refusal(model), HasSubstr("sliding_window"));
  }
  // transformers looks back over 4096 positions where nothing is said.
  model.config.erase("sliding_window");
  model.config["max_position_embeddings"] = 8192;
  EXPECT_EQ(Converted(model).keys.at("llama.context_length"), 4096);
  model.config.erase("num_key_value_heads");
  std::filesystem::remove(out());
  EXPECT_THAT(Refusal(model), HasSubstr("num_key_value_heads"));
}

ModelShape Qwen(Architecture architecture) {
  ModelShape shape = SmallShape();
  shape.architecture = architecture;
  return shape;
}

TEST_F(Convert, QwenKeepsTheOrderOfRowsAndWhatItAdds) {
  for (const auto& [architecture, name, more] :
       {std::tuple{Architecture::kQwen2, "qwen2",
                   std::map<std::string, std::string>{{"attn_q.bias", "self_attn.q_proj.bias"},
                                                      {"attn_k.bias", "self_attn.k_proj.bias"},
                                                      {"attn_v.bias", "self_attn.v_proj.bias"}}},
        std::tuple{Architecture::kQwen3, "qwen3",
                   std::map<std::string, std::string>{{"attn_q_norm.weight", "self_attn.q_norm.weight"},
                                                      {"attn_k_norm.weight", "self_attn.k_norm.weight"}}}}) {
    SCOPED_TRACE(name);
    const ModelShape shape = Qwen(architecture);
    const HfModel model = HfModel::Make(shape, "F32", 5);
    std::filesystem::remove(out());
    const GgufContent gguf = Converted(model);
    ASSERT_FALSE(HasFailure());
    EXPECT_EQ(gguf.keys.at("general.architecture"), name);
    EXPECT_EQ(gguf.keys.at(std::string(name) + ".attention.key_length"), 6);
    EXPECT_EQ(gguf.keys.at(std::string(name) + ".rope.freq_base"), 500000.0f);
    for (const auto& [key, value] : gguf.keys) EXPECT_FALSE(key.starts_with("llama.")) << key;
    EXPECT_EQ(gguf.tensors.size(), TensorCount(shape));
    for (const std::string layer : {"0", "1"}) {
      const std::string ours = "blk." + layer + ".", theirs = "model.layers." + layer + ".";
      for (const auto& [to, from] : more) {
        EXPECT_EQ(gguf.tensors.at(ours + to).bytes, model.tensors.at(theirs + from).bytes) << to;
        EXPECT_EQ(gguf.tensors.at(ours + to).dims.size(), 1u);
      }
      EXPECT_EQ(gguf.tensors.at(ours + "attn_q.weight").bytes,
                model.tensors.at(theirs + "self_attn.q_proj.weight").bytes);
      EXPECT_EQ(gguf.tensors.at(ours + "attn_k.weight").bytes,
                model.tensors.at(theirs + "self_attn.k_proj.weight").bytes);
    }
    // And again from the file, rounded: vectors stay float32.
    const auto again = host::Convert(
        {.source = out(), .out = folder_ / "out/again.gguf", .types = {.quant = host::Quant::kNone, .rules = {}}});
    ASSERT_TRUE(again) << again.error();
    const GgufContent copy = ReadGguf(folder_ / "out/again.gguf");
    for (const auto& [key, tensor] : gguf.tensors) {
      if (tensor.dims.size() == 1) EXPECT_EQ(copy.tensors.at(key).bytes, tensor.bytes) << key;
    }
    std::filesystem::remove(folder_ / "out/again.gguf");

    const auto folder = host::Convert({.source = source(), .out = folder_ / "out/folder", .to_folder = true});
    ASSERT_FALSE(folder);
    EXPECT_THAT(folder.error(), HasSubstr(std::string("is a model of the architecture ") + name));
    EXPECT_THAT(OutNames(), ElementsAre("model.gguf"));
    std::filesystem::remove(out());
    HfModel without = model;
    without.tensors.erase("model.layers.1." + more.begin()->second);
    EXPECT_THAT(Refusal(without), HasSubstr("has no tensor model.layers.1." + more.begin()->second));
    HfModel llama = model;
    llama.config["model_type"] = "llama";
    llama.config["architectures"] = {"LlamaForCausalLM"};
    EXPECT_THAT(Refusal(llama), HasSubstr("has no place in a llama model"));
  }
}

TEST_F(Convert, WhatQwenDoesOtherwiseIsRefused) {
  const HfModel good = HfModel::Make(Qwen(Architecture::kQwen3), "F32", 5);
  const std::vector<std::pair<const char*, nlohmann::json>> cases = {
      {"use_sliding_window", 1},
      {"layer_types", {"full_attention", "sliding_attention"}},
      {"layer_types", "full_attention"},
      {"attention_bias", true},
      {"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}},
      {"model_type", "qwen3_moe"},
      {"architectures", {"Qwen2ForCausalLM"}},
      {"head_dim", nullptr},
      {"num_key_value_heads", nullptr},
      {"max_position_embeddings", nullptr}};
  for (const auto& [key, value] : cases) {
    SCOPED_TRACE(fmt::format("{}: {}", key, value.dump()));
    HfModel model = good;
    model.config[key] = value;
    EXPECT_THAT(Refusal(model), AllOf(HasSubstr("config.json"), HasSubstr(key)));
  }
  HfModel model = good;
  model.config["use_sliding_window"] = true;
  model.config["sliding_window"] = 39;
  EXPECT_THAT(Refusal(model), HasSubstr("use_sliding_window"));
  model.config["rope_scaling"] = {{"rope_type", "llama3"},
                                  {"factor", 8},
                                  {"low_freq_factor", 1},
                                  {"high_freq_factor", 4},
                                  {"original_max_position_embeddings", 20}};
  model.config["sliding_window"] = 40;
  model.config["layer_types"] = {"full_attention", "full_attention"};
  EXPECT_THAT(Refusal(model), HasSubstr("\"llama3\", which is read of Llama and Mistral only"));
  model.config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 8}};
  EXPECT_EQ(Converted(model).keys.at("qwen3.rope.scaling.factor"), 8.0f);
  for (const nlohmann::json& window : {nlohmann::json(nullptr), nlohmann::json(41)}) {
    model.config["sliding_window"] = window;
    Converted(model);
  }
}

TEST_F(Convert, ScaledRotaryPositions) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 5);
  const auto folder_refused = [&] {
    const auto folder = host::Convert({.source = source(), .out = folder_ / "out/folder", .to_folder = true});
    return folder ? std::string() : folder.error();
  };
  model.config["rope_scaling"] = {{"type", "linear"}, {"factor", 2.5}};
  GgufContent gguf = Converted(model);
  EXPECT_EQ(gguf.keys.at("llama.rope.scaling.type"), "linear");
  EXPECT_EQ(gguf.keys.at("llama.rope.scaling.factor"), 2.5f);
  EXPECT_FALSE(gguf.tensors.contains("rope_freqs.weight"));
  EXPECT_THAT(folder_refused(), HasSubstr("scales its rotary positions"));

  // Waves of 6, 498 and 39 487 positions, of which 300 / 0.5 and 300 / 2 are the bounds.
  const nlohmann::json llama3 = {{"rope_type", "llama3"},
                                 {"factor", 8.0},
                                 {"low_freq_factor", 0.5},
                                 {"high_freq_factor", 2.0},
                                 {"original_max_position_embeddings", 300}};
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    model = HfModel::Make(SmallShape(), "F32", 5);
    model.config[key] = llama3;
    std::filesystem::remove(out());
    gguf = Converted(model);
    EXPECT_EQ(gguf.tensor_order[0], "rope_freqs.weight");
    EXPECT_EQ(gguf.tensors.at("rope_freqs.weight").dims, std::vector<uint64_t>{3});
    std::array<float, 3> factors;
    ASSERT_EQ(gguf.tensors.at("rope_freqs.weight").bytes.size(), sizeof(factors));
    std::memcpy(factors.data(), gguf.tensors.at("rope_freqs.weight").bytes.data(), sizeof(factors));
    const double smooth = (300 / (2 * 3.14159265358979 * std::cbrt(500000)) - 0.5) / 1.5;
    EXPECT_EQ(factors[0], 1);
    EXPECT_NEAR(factors[1], 1 / ((1 - smooth) / 8 + smooth), 1e-5);
    EXPECT_EQ(factors[2], 8);
    EXPECT_THAT(folder_refused(), HasSubstr("scales its rotary positions"));
  }
  // Both in one file, and what is missing or contradicts itself.
  std::filesystem::remove(out());
  model.config["rope_scaling"] = {{"type", "linear"}, {"factor", 2.5}};
  EXPECT_THAT(Refusal(model), HasSubstr("rope_parameters"));
  model.config.erase("rope_scaling");
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, nlohmann::json>>{{"factor", nullptr},
                                                           {"factor", 0.9},
                                                           {"low_freq_factor", 2.0},
                                                           {"low_freq_factor", nullptr},
                                                           {"high_freq_factor", -1},
                                                           {"original_max_position_embeddings", nullptr},
                                                           {"original_max_position_embeddings", 0.5}}) {
    SCOPED_TRACE(fmt::format("{}: {}", key, value.dump()));
    model.config["rope_parameters"] = llama3;
    model.config["rope_parameters"][key] = value;
    const std::string blamed = key == std::string("low_freq_factor") && value == 2.0 ? "high_freq_factor" : key;
    EXPECT_THAT(Refusal(model), AllOf(HasSubstr("config.json: rope_parameters"), HasSubstr(blamed)));
  }
}

TEST_F(Convert, ConfigurationsThatAreNoJsonObjectAreRefused) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 3);
  const std::string text = model.config.dump();
  std::vector<std::string> bad = {"",
                                  "[]",
                                  "1",
                                  "null",
                                  text + "x",
                                  "{\"a\":NaN}",
                                  "{\"a\":1e999}",
                                  "{\"a\":\"\xff\"}",
                                  "{,}",
                                  "{\"vocab_size\":1,\"vocab_size\":1}",
                                  "{\"a\":{\"b\":1,\"b\":2}}"};
  bad.push_back("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}");
  for (size_t n = 1; n < text.size(); n += 7) bad.push_back(text.substr(0, n));
  for (const std::string& config : bad) {
    model.files["config.json"] = config;
    EXPECT_THAT(Refusal(model), HasSubstr("config.json")) << config.substr(0, 100);
  }
}

TEST_F(Convert, TruncatedSafetensorsFilesAreRefused) {
  HfModel model = HfModel::Make(SmallShape(), "BF16", 3);
  model.Write(source());
  const std::string path = source() + "/model.safetensors";
  const std::string whole = ReadFile(path);
  for (size_t n = whole.size() - 1; n > 0; n -= std::min<size_t>(n, n < 3000 ? 11 : 1499)) {
    ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(n)), 0);
    EXPECT_THAT(Refusal(source()), HasSubstr("model.safetensors"));
  }
  WriteFile(path, whole + "x");
  EXPECT_THAT(Refusal(source()), HasSubstr("model.safetensors"));
}

TEST_F(Convert, MissingFilesAreNamed) {
  EXPECT_THAT(Refusal(folder_ / "nowhere"), HasSubstr("nowhere"));
  const HfModel good = HfModel::Make(SmallShape(), "F32", 3);
  good.Write(source());
  unlink((source() + "/model.safetensors").c_str());
  EXPECT_THAT(Refusal(source()), HasSubstr("has no model.safetensors"));
  WriteFile(source() + "/pytorch_model.bin", "x");
  EXPECT_THAT(Refusal(source()), HasSubstr("pytorch_model.bin"));
  WriteFile(source() + "/model.safetensors.index.json", "{}");
  EXPECT_THAT(Refusal(source()), HasSubstr("weight_map"));
  unlink((source() + "/config.json").c_str());
  EXPECT_THAT(Refusal(source()), HasSubstr("config.json"));
}

TEST_F(Convert, WithoutATokenizerTheModelRunsOnIds) {
  const GgufContent gguf = Converted(HfModel::Make(SmallShape(), "F32", 3));
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.model"), "no_vocab");
  EXPECT_FALSE(gguf.keys.contains("tokenizer.ggml.tokens"));
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.eos_token_id"), 2);
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("ids only")));
}

TEST_F(Convert, AddedTokensAndPadding) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 3);
  model.files["tokenizer.model"] = SentencePieceProto::Make(290).Serialize();
  model.files["added_tokens.json"] = R"({"<user>": 291, "later": 293})";
  model.files["tokenizer_config.json"] = R"({"add_bos_token": false, "add_prefix_space": false,
    "added_tokens_decoder": {"0": {"content": "<unk>", "special": true}, "260": {"content": "a", "special": false},
      "261": {"content": "b", "special": true}, "290": {"content": "<pad>", "special": true},
      "293": {"content": "two▁words", "special": false}},
    "bos_token": "<pad>", "eos_token": {"content": "<s>"}, "unk_token": null})";
  model.config["eos_token_id"] = {261, 2};
  const GgufContent gguf = Converted(model);
  ASSERT_FALSE(HasFailure());
  const auto& tokens = gguf.keys.at("tokenizer.ggml.tokens");
  const auto& types = gguf.keys.at("tokenizer.ggml.token_type");
  ASSERT_EQ(tokens.size(), 300u);
  EXPECT_EQ(types[0], 2);
  EXPECT_EQ(types[259], 1);
  EXPECT_EQ(types[260], 4);
  EXPECT_EQ(types[261], 3);
  EXPECT_EQ(tokens[290], "<pad>");
  EXPECT_EQ(types[290], 3);
  EXPECT_EQ(tokens[291], "<user>");
  EXPECT_EQ(types[291], 4);
  EXPECT_EQ(tokens[292], "[PAD292]");
  EXPECT_EQ(types[292], 5);
  EXPECT_EQ(tokens[293], "two words");
  EXPECT_EQ(types[293], 4);
  EXPECT_EQ(tokens[299], "[PAD299]");
  EXPECT_EQ(types[299], 5);
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.bos_token_id"), 290);  // the tokenizer's
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.eos_token_id"), 261);  // the configuration's
  EXPECT_EQ(gguf.keys.at("tokenizer.thimble.end_token_ids"), nlohmann::json::array({2}));
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.add_bos_token"), false);
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.add_space_prefix"), false);
  for (const char* about : {"bos_token_id 1", "eos_token_id 261", "filled up", "add_prefix_space"}) {
    EXPECT_THAT(notes_, Contains(HasSubstr(about)));
  }
}

// What a conversation wants of a folder: all tokens that end a turn, and the template.
TEST_F(Convert, EndsOfTurnsAndTheChatTemplateAreKept) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 3);
  model.files["tokenizer.model"] = SentencePieceProto::Make(290).Serialize();
  const GgufContent plain = Converted(model);
  EXPECT_FALSE(plain.keys.contains("tokenizer.thimble.end_token_ids"));
  EXPECT_FALSE(plain.keys.contains("tokenizer.chat_template"));

  model.files["tokenizer_config.json"] = R"({"added_tokens_decoder": {
      "290": {"content": "<|im_end|>", "special": true}, "291": {"content": "<|eot_id|>", "special": false}},
    "chat_template": [{"name": "rag", "template": "no"}, {"name": "default", "template": "{{ yes }}"}]})";
  model.files["generation_config.json"] = R"({"eos_token_id": [2, 270], "temperature": 0.6})";
  const GgufContent gguf = Converted(model);
  ASSERT_FALSE(HasFailure());
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.eos_token_id"), 2);
  EXPECT_EQ(gguf.keys.at("tokenizer.thimble.end_token_ids"), nlohmann::json::array({270, 290}));
  EXPECT_EQ(gguf.keys.at("tokenizer.chat_template"), "{{ yes }}");
  const std::vector<std::string> notes = notes_;

  model.files["chat_template.jinja"] = "{{ file }}";
  model.files["generation_config.json"] = R"({"eos_token_id": 300})";
  const GgufContent filed = Converted(model);
  EXPECT_EQ(filed.keys.at("tokenizer.chat_template"), "{{ file }}");
  EXPECT_EQ(filed.keys.at("tokenizer.thimble.end_token_ids"), nlohmann::json::array({290}));
  EXPECT_THAT(notes, Not(Contains(HasSubstr("generation_config.json"))));
  EXPECT_THAT(notes_, Contains(AllOf(HasSubstr("generation_config.json"), HasSubstr("eos_token_id"))));
}

// The model is written without its tokenizer, and the note says why.
TEST_F(Convert, TokenizersThatContradictTheModelAreLeftOut) {
  HfModel good = HfModel::Make(SmallShape(), "F32", 3);
  good.files["tokenizer.model"] = SentencePieceProto::Make(290).Serialize();
  HfModel model = good;
  model.files["tokenizer.model"] = SentencePieceProto::Make(301).Serialize();
  EXPECT_THAT(NoteOf(model), AllOf(HasSubstr("301"), HasSubstr("300")));
  EXPECT_THAT(Refusal(source(), source() + "/tokenizer.model"), AllOf(HasSubstr("301"), HasSubstr("300")));
  const auto with = [&](const char* file, const std::string& text) {
    model = good;
    model.files[file] = text;
    const std::string sentence = NoteOf(model);
    EXPECT_THAT(sentence, HasSubstr(source()));
    unlink((source() + "/" + file).c_str());
    return sentence;
  };
  EXPECT_THAT(with("tokenizer.model", "nothing"), HasSubstr("tokenizer.model"));
  EXPECT_THAT(with("added_tokens.json", R"({"<x>": 300})"), HasSubstr("300"));
  EXPECT_THAT(with("added_tokens.json", R"({"<x>": 5})"), HasSubstr("<0x02>"));
  EXPECT_THAT(with("added_tokens.json", R"({"<x>": -1})"), HasSubstr("-1"));
  EXPECT_THAT(with("added_tokens.json", R"({"<x>": 295, "<y>": 295})"), HasSubstr("295"));
  EXPECT_THAT(with("added_tokens.json", R"([])"), HasSubstr("added_tokens.json"));
  EXPECT_THAT(with("added_tokens.json", ""), HasSubstr("empty"));
  EXPECT_THAT(with("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {}}})"), HasSubstr("\"x\""));
  EXPECT_THAT(with("tokenizer_config.json", R"({"added_tokens_decoder": {"-1": {}}})"), HasSubstr("\"-1\""));
  EXPECT_THAT(with("tokenizer_config.json", R"({"added_tokens_decoder": {"99999999999": {}}})"),
              HasSubstr("99999999999"));
  EXPECT_THAT(with("tokenizer_config.json", R"({"added_tokens_decoder": {"295": 1}})"), HasSubstr("295"));
  EXPECT_THAT(with("tokenizer_config.json", R"({"added_tokens_decoder": {"295": {"content": ""}}})"), HasSubstr("295"));
  EXPECT_THAT(with("tokenizer_config.json", R"({"added_tokens_decoder": {"295": {"content": "y", "special": 1}}})"),
              HasSubstr("special"));
  EXPECT_THAT(with("tokenizer_config.json", R"({"added_tokens_decoder": []})"), HasSubstr("added_tokens_decoder"));
  EXPECT_THAT(with("tokenizer_config.json", R"({"bos_token": "<nowhere>"})"), HasSubstr("<nowhere>"));
  EXPECT_THAT(with("tokenizer_config.json", R"({"eos_token": 2})"), HasSubstr("eos_token"));
  EXPECT_THAT(with("tokenizer_config.json", R"({"add_bos_token": "yes"})"), HasSubstr("add_bos_token"));
}

TEST_F(Convert, NeverWritesOverItsInput) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 3);
  model.files["tokenizer.model"] = SentencePieceProto::Make(300).Serialize();
  model.Write(source());
  ASSERT_EQ(symlink((source() + "/config.json").c_str(), (folder_ / "in-link").c_str()), 0);
  for (const char* name : {"model/model.safetensors", "model/config.json", "model/tokenizer.model", "in-link"}) {
    const std::string before = ReadFile(folder_ / name);
    const auto result = host::Convert({.source = source(), .out = folder_ / name});
    ASSERT_FALSE(result) << name;
    EXPECT_THAT(result.error(), HasSubstr(name));
    EXPECT_EQ(ReadFile(folder_ / name), before);
  }
  const std::string checkpoint = folder_ / "in-stories.bin";
  ModelShape shape = SmallShape();
  shape.hidden_size = 24;
  WriteFile(checkpoint, Llama2cModel::Make(shape, true, 1).File());
  const std::string before = ReadFile(checkpoint);
  EXPECT_FALSE(host::Convert({.source = checkpoint, .out = checkpoint}));
  EXPECT_EQ(ReadFile(checkpoint), before);
}

TEST_F(Convert, AFailureLeavesWhatStoodThereBefore) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 3);
  StoreElement(model.tensors[kEmbedding], 5999, 0x7fc00000);  // the last element that is read
  model.Write(source());
  WriteFile(out(), "before");
  EXPECT_FALSE(host::Convert({.source = source(), .out = out()}));
  EXPECT_EQ(ReadFile(out()), "before");
  EXPECT_THAT(OutNames(), ElementsAre("model.gguf"));
  StoreElement(model.tensors[kEmbedding], 5999, 0);
  model.Write(source());
  EXPECT_TRUE(host::Convert({.source = source(), .out = out()}));
  EXPECT_EQ(ReadGguf(out()).version, 3u);
}

TEST_F(Convert, PlacesThatCannotBeWrittenAreNamed) {
  HfModel::Make(SmallShape(), "F32", 3).Write(source());
  for (const std::string& place : {folder_ / "out", folder_ / "no/such/place.gguf", std::string("/dev/null")}) {
    const auto result = host::Convert({.source = source(), .out = place});
    ASSERT_FALSE(result) << place;
    EXPECT_THAT(result.error(), HasSubstr(place));
  }
  struct stat info;
  ASSERT_EQ(stat("/dev/null", &info), 0);
  EXPECT_TRUE(S_ISCHR(info.st_mode));
}

TEST_F(Convert, OtherFilesAreRefusedByWhatTheyAre) {
  const auto refusal = [&](const char* name, const std::string& bytes) {
    WriteFile(folder_ / name, bytes);
    return Refusal(folder_ / name);
  };
  EXPECT_THAT(refusal("in-x.gguf", "GGUF" + std::string(100, '\0')), HasSubstr("version"));
  EXPECT_THAT(refusal("in-x.pth", "PK\x03\x04" + std::string(100, '\0')), HasSubstr("PyTorch"));
  EXPECT_THAT(refusal("in-model.safetensors", std::string(100, '\0')), HasSubstr("folder"));
  EXPECT_THAT(refusal("in-empty", ""), HasSubstr("is empty"));
  EXPECT_THAT(refusal("in-short", "x"), HasSubstr("neither"));
  EXPECT_THAT(refusal("in-noise", std::string(1000, 'x')), HasSubstr("llama2.c"));
  ASSERT_EQ(mkfifo((folder_ / "in-pipe").c_str(), 0600), 0);
  EXPECT_THAT(Refusal(folder_ / "in-pipe"), HasSubstr("regular"));
}

TEST_F(Convert, ShardsGiveTheFileThatOneFileGives) {
  HfModel model = HfModel::Make(SmallShape(), "BF16", 7);
  for (const WrittenType dtype : {WrittenType::kF32, WrittenType::kKeep}) {
    dtype_ = dtype;
    Converted(model);
    const std::string whole = ReadFile(out());
    for (const size_t num_shards : {1u, 2u, 5u}) {
      std::filesystem::remove_all(source());
      model.WriteSharded(source(), num_shards);
      Expect(source(), "");
      EXPECT_EQ(ReadFile(out()), whole) << num_shards;
    }
  }
  // As in transformers, a file that is there goes before an index.
  model.Write(source());
  WriteFile(source() + "/model.safetensors.index.json", "{}");
  Expect(source(), "");
}

TEST_F(Convert, ShardsMustHoldWhatTheIndexSays) {
  HfModel model = HfModel::Make(SmallShape(), "F16", 7);
  model.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {"F32", {3}, std::string(12, '\0')};
  model.WriteSharded(source(), 3);
  const std::string index_path = source() + "/model.safetensors.index.json";
  const std::string shard_path = source() + "/" + ShardName(1, 3);
  const nlohmann::json index = nlohmann::json::parse(ReadFile(index_path));
  const auto refused = [&](const nlohmann::json& changed) {
    WriteFile(index_path, changed.dump());
    return Refusal(source());
  };
  nlohmann::json changed = index;
  changed["weight_map"].erase("model.layers.0.self_attn.rotary_emb.inv_freq");
  WriteFile(index_path, changed.dump());
  Expect(source(), "");  // skipped, named or not
  std::filesystem::remove(out());
  for (const char* name : {kHead, "model.norm.weight"}) {
    changed = index;
    const std::string shard = changed["weight_map"][name];
    changed["weight_map"].erase(name);
    EXPECT_THAT(refused(changed), AllOf(HasSubstr(shard), HasSubstr(name), HasSubstr("does not name")));
    changed["weight_map"][name] = shard == ShardName(0, 3) ? ShardName(1, 3) : ShardName(0, 3);
    EXPECT_THAT(refused(changed), AllOf(HasSubstr(shard), HasSubstr(name), HasSubstr("puts in")));
  }
  changed = index;
  changed["weight_map"]["extra"] = ShardName(0, 3);
  EXPECT_THAT(refused(changed), AllOf(HasSubstr("extra"), HasSubstr(ShardName(0, 3))));
  changed["weight_map"]["extra"] = "elsewhere.safetensors";
  EXPECT_THAT(refused(changed), AllOf(HasSubstr("elsewhere.safetensors"), HasSubstr("not there")));
  WriteFile(index_path, index.dump());
  const std::string shard = ReadFile(shard_path);
  WriteFile(shard_path, shard.substr(0, shard.size() - 1));
  EXPECT_THAT(Refusal(source()), HasSubstr(shard_path));
  std::filesystem::remove(shard_path);
  EXPECT_THAT(Refusal(source()), AllOf(HasSubstr(shard_path), HasSubstr("not there")));
  WriteFile(shard_path, shard);
  const auto result = host::Convert({.source = source(), .out = shard_path});
  EXPECT_FALSE(result);
  EXPECT_EQ(ReadFile(shard_path), shard);
}

std::string Interleaved(const std::string& rows, size_t row_bytes, size_t head_dim) {
  std::string out;
  const size_t num_rows = rows.size() / row_bytes;
  for (size_t row = 0; row < num_rows; ++row) {
    const size_t in_head = row % head_dim;
    const size_t from = row - in_head + (in_head % 2 == 0 ? in_head / 2 : head_dim / 2 + in_head / 2);
    out += rows.substr(from * row_bytes, row_bytes);
  }
  return out;
}

TEST_F(Convert, KeepWritesTheStoredBits) {
  dtype_ = WrittenType::kKeep;
  const std::map<std::string, std::pair<uint32_t, int>> numbers = {
      {"F32", {0, 0}}, {"F16", {1, 1}}, {"BF16", {30, 32}}};
  for (const auto& [dtype, types] : numbers) {
    SCOPED_TRACE(dtype);
    const HfModel model = HfModel::Make(SmallShape(), dtype, 7);
    const GgufContent gguf = Converted(model);
    ASSERT_FALSE(HasFailure());
    EXPECT_EQ(gguf.keys.at("general.file_type"), types.second);
    for (const auto& [name, tensor] : gguf.tensors) {
      EXPECT_EQ(tensor.type, tensor.dims.size() == 1 ? 0u : types.first) << name;
      EXPECT_EQ(tensor.file_offset % 4096, 0u) << name;
    }
    const std::string layer = "model.layers.1.";
    EXPECT_EQ(gguf.tensors.at("token_embd.weight").bytes, model.tensors.at(kEmbedding).bytes);
    EXPECT_EQ(gguf.tensors.at("blk.1.ffn_down.weight").bytes, model.tensors.at(layer + "mlp.down_proj.weight").bytes);
    const std::string& k = model.tensors.at(layer + "self_attn.k_proj.weight").bytes;
    EXPECT_EQ(gguf.tensors.at("blk.1.attn_k.weight").bytes,
              Interleaved(k, k.size() / SmallShape().kv_dim(), SmallShape().head_dim));
    const GgufContent::Tensor& norm = gguf.tensors.at("output_norm.weight");
    EXPECT_EQ(norm.bytes.size(), 4u * SmallShape().hidden_size);
  }
}

TEST_F(Convert, KeepMixesTypes) {
  dtype_ = WrittenType::kKeep;
  HfModel model = HfModel::Make(SmallShape(), "F32", 7);
  const HfModel other = HfModel::Make(SmallShape(), "BF16", 8);
  for (const auto& [name, tensor] : other.tensors) {
    if (name.find("mlp") == name.npos && name != kHead) model.tensors[name] = tensor;
  }
  model.tensors.erase(kHead);
  model.config["tie_word_embeddings"] = true;
  const GgufContent gguf = Converted(model);
  ASSERT_FALSE(HasFailure());
  EXPECT_EQ(gguf.keys.at("general.file_type"), 32);  // most elements
  EXPECT_EQ(gguf.tensors.at("token_embd.weight").type, 30u);
  EXPECT_EQ(gguf.tensors.at("blk.0.ffn_up.weight").type, 0u);
  EXPECT_EQ(gguf.tensors.at("blk.0.attn_q.weight").type, 30u);
  EXPECT_FALSE(gguf.tensors.contains("output.weight"));
}

// Of two files with the same name; a converted model is called after its source.
void ExpectSameModel(const std::string& a, const std::string& b) {
  GgufContent x = ReadGguf(a);
  GgufContent y = ReadGguf(b);
  x.keys.erase("general.name");
  y.keys.erase("general.name");
  EXPECT_EQ(x.keys, y.keys);
  EXPECT_EQ(x.tensor_order, y.tensor_order);
  for (const auto& [name, tensor] : x.tensors) {
    ASSERT_TRUE(y.tensors.contains(name)) << name;
    EXPECT_EQ(y.tensors.at(name).type, tensor.type) << name;
    EXPECT_EQ(y.tensors.at(name).dims, tensor.dims) << name;
    EXPECT_EQ(y.tensors.at(name).bytes, tensor.bytes) << name;
  }
}

// Rows of whole blocks but for those of attn_output. The layers' matrices have 3291 elements on average.
ModelShape BlockShape() {
  ModelShape shape = SmallShape();
  shape.hidden_size = 64;
  shape.intermediate_size = 96;
  shape.num_hidden_layers = 2;
  return shape;
}

// Which matrices are in which type; a rule counts more than --quant, a later one more than an earlier.
TEST_F(Convert, QuantisesWhatItIsToldTo) {
  const HfModel model = HfModel::Make(BlockShape(), "F16", 9);
  model.Write(source());
  struct {
    Quant quant;
    std::vector<TypeRule> rules;
    std::map<std::string, uint32_t> types;  // by a part of the name; F16 where none is in it
    int file_type;
  } cases[] = {
      {Quant::kNone, {}, {}, 1},
      {Quant::kAll,
       {},
       {{".attn_q", 8}, {".attn_k", 8}, {".attn_v", 8}, {".ffn_", 8}, {".token_embd", 8}, {".output.w", 8}},
       7},
      {Quant::kHybrid, {}, {{".ffn_", 8}, {".token_embd", 8}, {".output.w", 8}}, 7},
      {Quant::kHybrid,
       {{"blk.1.*", WrittenType::kExact}},
       {{".blk.0.ffn", 8}, {".token_embd", 8}, {".output.w", 8}},
       7},
      {Quant::kNone,
       {{"blk.*.ffn_*", WrittenType::kQ8_0}, {"*up*", WrittenType::kF32}},
       {{".ffn_gate", 8}, {".ffn_down", 8}, {".ffn_up", 0}},
       1},
      {Quant::kAll, {{"*", WrittenType::kExact}, {"output.weigh?", WrittenType::kQ8_0}}, {{".output.w", 8}}, 1},
  };
  for (const auto& c : cases) {
    const auto converted =
        host::Convert({.source = source(), .out = out(), .types = {.quant = c.quant, .rules = c.rules}});
    ASSERT_TRUE(converted) << converted.error();
    const GgufContent gguf = ReadGguf(out());
    for (const auto& [name, tensor] : gguf.tensors) {
      uint32_t want = tensor.dims.size() == 1 ? 0 : 1;
      for (const auto& [part, type] : c.types) {
        if (tensor.dims.size() == 2 && ("." + name).find(part) != std::string::npos) want = type;
      }
      EXPECT_EQ(tensor.type, want) << name;
      EXPECT_EQ(tensor.file_offset % 4096, 0u) << name;
    }
    EXPECT_EQ(gguf.keys.at("general.file_type"), c.file_type);
    for (const ChosenType& chosen : converted->types) {
      const bool has_no_blocks = chosen.id.kind == TensorKind::kAttnO && c.quant == Quant::kAll && c.rules.empty();
      EXPECT_EQ(chosen.why.find("rows of 24 are no whole blocks") != chosen.why.npos, has_no_blocks) << chosen.why;
    }
  }
}

TEST_F(Convert, RulesThatMatchNothingAndNumbersTooLargeAreRefused) {
  HfModel::Make(BlockShape(), "F32", 9).Write(source());
  const auto refusal = [&](const TypeRecipe& recipe) {
    const auto converted = host::Convert({.source = source(), .out = out(), .types = recipe});
    EXPECT_FALSE(converted);
    EXPECT_THAT(OutNames(), IsEmpty());
    return converted ? "" : converted.error();
  };
  EXPECT_THAT(refusal({.rules = {{"blk.2.*", WrittenType::kQ8_0}}}), HasSubstr("blk.2.* is the name of no matrix"));
  EXPECT_THAT(refusal({.rules = {{"output_norm.weight", WrittenType::kQ8_0}}}), HasSubstr("of no matrix"));
  // Numbers of any exponent.
  EXPECT_THAT(refusal({.quant = Quant::kAll}), AllOf(HasSubstr("blk.0.attn_q.weight"), HasSubstr("cannot hold")));
}

// Blocks stay as they are, though nobody could make them again from their numbers.
TEST_F(Convert, BlocksOfOthersAreKept) {
  HfModel::Make(BlockShape(), "F16", 9).Write(source());
  ASSERT_TRUE(host::Convert({.source = source(), .out = out(), .types = {.quant = Quant::kAll}}));
  const std::string theirs = folder_ / "in-theirs.gguf";
  std::string file = ReadFile(out());
  const GgufContent::Tensor tensor = ReadGguf(out()).tensors.at("blk.1.attn_k.weight");
  for (size_t block = 0; block < tensor.bytes.size(); block += 34)
    file[tensor.file_offset + block + 2 + block % 31] = 0;
  WriteFile(theirs, file);
  std::filesystem::remove(out());
  for (const Quant quant : {Quant::kNone, Quant::kAll}) {
    ASSERT_TRUE(host::Convert({.source = theirs, .out = out(), .types = {.quant = quant}}));
    ExpectSameModel(theirs, out());
  }
  ASSERT_TRUE(host::Convert({.source = theirs, .out = out(), .types = {.dtype = WrittenType::kF32}}));
  const GgufContent wide = ReadGguf(out());
  for (const auto& [name, narrow] : ReadGguf(theirs).tensors) {
    if (narrow.type != 8) continue;
    std::vector<float> values(narrow.bytes.size() / 34 * 32);
    ExpandElements(std::as_bytes(std::span(narrow.bytes)), DType::kQ8_0, values);
    ASSERT_EQ(wide.tensors.at(name).bytes.size(), values.size() * sizeof(float));
    EXPECT_EQ(std::memcmp(wide.tensors.at(name).bytes.data(), values.data(), values.size() * sizeof(float)), 0) << name;
  }
  // A scale that is no number.
  file[tensor.file_offset + 1] = '\x7e';
  WriteFile(theirs, file);
  std::filesystem::remove(out());
  EXPECT_THAT(Refusal(theirs), AllOf(HasSubstr("element 0 of blk.1.attn_k.weight"), HasSubstr("not a number")));
}

// Every type of blocks in one file: as they are, whatever --quant says, or the numbers they stand for.
TEST_F(Convert, BlocksOfEveryTypePassThrough) {
  ModelShape shape = SmallShape();
  shape.hidden_size = 256;
  shape.intermediate_size = 512;
  const std::vector<std::byte> mixed = MakeGguf({.shape = shape, .alignment = 32, .mixed = true});
  const std::string theirs = folder_ / "in-theirs.gguf";
  WriteFile(theirs, {reinterpret_cast<const char*>(mixed.data()), mixed.size()});
  const GgufContent want = ReadGguf(theirs);
  std::set<uint32_t> types;
  for (const Quant quant : {Quant::kNone, Quant::kHybrid, Quant::kAll}) {
    ASSERT_TRUE(host::Convert({.source = theirs, .out = out(), .types = {.quant = quant}}));
    const GgufContent got = ReadGguf(out());
    for (const auto& [name, tensor] : want.tensors) {
      if (tensor.type < 2) continue;
      types.insert(tensor.type);
      EXPECT_EQ(got.tensors.at(name).type, tensor.type) << name;
      EXPECT_EQ(got.tensors.at(name).bytes, tensor.bytes) << name;
    }
  }
  EXPECT_EQ(types, (std::set<uint32_t>{2, 3, 6, 7, 12, 13, 14, 20}));
  ASSERT_TRUE(host::Convert({.source = theirs, .out = out(), .types = {.dtype = WrittenType::kF32}}));
  const GgufContent wide = ReadGguf(out());
  ASSERT_TRUE(host::Convert({.source = theirs, .out = folder_ / "out/folder", .to_folder = true}));
  for (const auto& [name, tensor] : want.tensors) {
    const std::optional<DType> type = formats::TypeOfGgml(tensor.type);
    ASSERT_TRUE(type);
    std::vector<float> values(tensor.bytes.size() / BlockBytes(*type) * BlockElements(*type));
    ExpandElements(std::as_bytes(std::span(tensor.bytes)), *type, values);
    const std::string& bytes = wide.tensors.at(name).bytes;
    ASSERT_EQ(bytes.size(), values.size() * sizeof(float)) << name;
    EXPECT_EQ(std::memcmp(bytes.data(), values.data(), bytes.size()), 0) << name;
    if (name == "output.weight") EXPECT_EQ(ReadFile(folder_ / "out/folder/lm_head.bin"), bytes);
  }
}

TEST_F(Convert, AGgufFileIsASource) {
  for (const bool tied : {false, true}) {
    for (const bool with_tokenizer : {false, true}) {
      HfModel model = HfModel::Make(SmallShape(), "F16", 7);
      if (tied) model.tensors.erase(kHead);
      if (with_tokenizer) model.files["tokenizer.model"] = SentencePieceProto::Make(290).Serialize();
      model.files["tokenizer_config.json"] = R"({"add_bos_token": false, "add_prefix_space": false})";
      dtype_ = WrittenType::kF32;
      Converted(model);
      const std::string wide = folder_ / "in-wide.gguf";
      std::filesystem::rename(out(), wide);
      dtype_ = WrittenType::kKeep;
      Expect(source(), "");
      const std::string kept = folder_ / "in-kept.gguf";
      std::filesystem::rename(out(), kept);
      // What fits 16 bits exactly comes back to them.
      for (const auto& [from, dtype, same] :
           {std::tuple(wide, WrittenType::kExact, kept), std::tuple(kept, WrittenType::kExact, kept),
            std::tuple(wide, WrittenType::kF32, wide), std::tuple(wide, WrittenType::kKeep, wide),
            std::tuple(kept, WrittenType::kF32, wide), std::tuple(kept, WrittenType::kKeep, kept)}) {
        dtype_ = dtype;
        Expect(from, "");
        ExpectSameModel(out(), same);
      }
      std::filesystem::remove_all(source());
    }
  }
}

// One number decides about its matrix, and about no other.
TEST_F(Convert, SixteenBitsOnlyWhereEveryNumberSurvives) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 7);
  const std::map<std::string, float> odd_ones = {{"model.layers.0.self_attn.q_proj.weight", 1.0f + 0x1p-20f},
                                                 {"model.layers.0.mlp.up_proj.weight", 65536.0f},
                                                 {"model.layers.0.mlp.gate_proj.weight", 0x1.8p-24f},
                                                 {"model.layers.0.mlp.down_proj.weight", 0x1p-24f}};
  for (auto& [name, tensor] : model.tensors) {
    for (size_t i = 0; i + 4 <= tensor.bytes.size(); i += 4) {
      const float value = (i / 4 % 3 == 0 ? -0.0f : 1.5f) * static_cast<float>(i / 4 % 5);
      std::memcpy(tensor.bytes.data() + i, &value, 4);
    }
    if (const auto odd = odd_ones.find(name); odd != odd_ones.end()) {
      std::memcpy(tensor.bytes.data() + tensor.bytes.size() - 4, &odd->second, 4);
    }
  }
  model.Write(source());
  const auto converted = host::Convert({.source = source(), .out = out()});
  ASSERT_TRUE(converted) << converted.error();
  for (const ChosenType& chosen : converted->types) {
    DType want = DType::kF16;
    if (chosen.id == TensorId{TensorKind::kAttnQ, 0}) want = DType::kF32;
    if (chosen.id == TensorId{TensorKind::kFfnUp, 0}) want = DType::kBF16;    // beyond binary16's 65 504
    if (chosen.id == TensorId{TensorKind::kFfnGate, 0}) want = DType::kBF16;  // between two of its subnormals
    EXPECT_EQ(chosen.type, want) << TensorName(chosen.id);
  }
  // Back in float32, every bit is there.
  const std::string narrow = folder_ / "in-narrow.gguf";
  std::filesystem::rename(out(), narrow);
  dtype_ = WrittenType::kF32;
  Expect(narrow, "");
  const std::string wide = folder_ / "in-wide.gguf";
  std::filesystem::rename(out(), wide);
  Expect(source(), "");
  ExpectSameModel(out(), wide);
}

TEST_F(Convert, ATokenThatIsNotThereStaysAway) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 7);
  model.config.erase("eos_token_id");
  SentencePieceProto proto = SentencePieceProto::Make(300);
  proto.pieces[2] = {"</x>", 0, 3};
  model.files["tokenizer.model"] = proto.Serialize();
  const GgufContent gguf = Converted(model);
  ASSERT_FALSE(HasFailure());
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.eos_token_id"), 0xffffffffu);
  const std::string first = folder_ / "in-first.gguf";
  std::filesystem::rename(out(), first);
  Expect(first, "");
  ExpectSameModel(out(), first);
}

TEST_F(Convert, AGgufFileThatDoesNotRunIsNoSource) {
  dtype_ = WrittenType::kKeep;
  HfModel model = HfModel::Make(SmallShape(), "F16", 7);
  model.files["tokenizer.model"] = SentencePieceProto::Make(300).Serialize();
  Converted(model);
  const std::string path = folder_ / "in-x.gguf";
  std::filesystem::rename(out(), path);
  const std::string good = ReadFile(path);
  const std::string name = "blk.0.attn_q.weight";
  const size_t type_at = good.find(name) + name.size() + 4 + 2 * 8;
  ASSERT_EQ(good[type_at], 1);
  for (const auto& [type, type_name] : {std::pair(11, "Q3_K"), std::pair(10, "Q2_K"), std::pair(23, "IQ4_XS")}) {
    std::string bad = good;
    bad[type_at] = static_cast<char>(type);
    WriteFile(path, bad);
    EXPECT_THAT(Refusal(path), AllOf(HasSubstr(path), HasSubstr(name), HasSubstr(type_name), HasSubstr("original")));
  }
  for (size_t n = 4; n < good.size(); n += 4001) {
    WriteFile(path, good.substr(0, n));
    EXPECT_THAT(Refusal(path), HasSubstr(path));
  }
  std::string nan = good;
  WriteFile(path, good);
  const uint64_t offset = ReadGguf(path).tensors.at(name).file_offset;
  nan[offset + 11] = '\x7e';
  WriteFile(path, nan);
  EXPECT_THAT(Refusal(path), AllOf(HasSubstr("element 5 of " + name), HasSubstr("not a number")));
  std::string token_type = good;
  const size_t types = good.find("tokenizer.ggml.token_type") + 25 + 4 + 4 + 8;
  token_type[types + 4 * 270] = 9;
  WriteFile(path, token_type);
  EXPECT_THAT(NoteOf(path), HasSubstr("270"));
}

TEST_F(Convert, TokenizersInEveryForm) {
  HfModel model = HfModel::Make(SmallShape(), "F32", 7);
  const SentencePieceProto proto = SentencePieceProto::Make(300);
  model.files["tokenizer.model"] = proto.Serialize();
  nlohmann::json other = TokenizerJson(proto);
  other["model"] = "not looked at beside a tokenizer.model";
  model.files["tokenizer.json"] = other.dump();
  const GgufContent from_model = Converted(model);
  std::filesystem::remove(source() + "/tokenizer.model");
  model.files.erase("tokenizer.model");
  model.files["tokenizer.json"] = TokenizerJson(proto).dump();
  const GgufContent from_json = Converted(model);
  ASSERT_FALSE(HasFailure());
  EXPECT_THAT(notes_, IsEmpty());
  for (const auto& [key, value] : from_model.keys) {
    if (key == "tokenizer.ggml.scores") continue;
    EXPECT_EQ(from_json.keys.at(key), value) << key;
  }
  // Pieces of two letters in the order of their scores.
  const auto& scores = from_json.keys.at("tokenizer.ggml.scores");
  for (size_t id = 286; id + 1 < 300; ++id) EXPECT_GT(scores[id], scores[id + 1]) << id;

  model.files["tokenizer_config.json"] = R"({"add_bos_token": false})";
  EXPECT_EQ(Converted(model).keys.at("tokenizer.ggml.add_bos_token"), false);

  // For sources that bring none, or another one.
  const std::string json = folder_ / "in-tokenizer.json";
  WriteFile(json, TokenizerJson(proto).dump());
  ModelShape shape = SmallShape();
  shape.hidden_size = shape.num_attention_heads * shape.head_dim;
  WriteFile(folder_ / "in-stories.bin", Llama2cModel::Make(shape, true, 5).File());
  Expect(folder_ / "in-stories.bin", json);
  EXPECT_EQ(ReadGguf(out()).keys.at("tokenizer.ggml.scores"), scores);
  std::filesystem::rename(out(), folder_ / "in-a.gguf");
  WriteFile(folder_ / "in-sp.model", proto.Serialize());
  Expect(folder_ / "in-a.gguf", folder_ / "in-sp.model");
  EXPECT_EQ(ReadGguf(out()).keys.at("tokenizer.ggml.scores"), from_model.keys.at("tokenizer.ggml.scores"));
  std::filesystem::remove(out());
  WriteFile(json, TokenizerJson(SentencePieceProto::Make(299)).dump());
  EXPECT_THAT(Refusal(folder_ / "in-a.gguf", json), AllOf(HasSubstr("299"), HasSubstr("300")));
  EXPECT_THAT(Refusal(folder_ / "in-stories.bin", json), AllOf(HasSubstr("299"), HasSubstr("300")));
}

// Without a head_dim of its own, which llama2.c does not know.
ModelShape Llama2cShape() {
  ModelShape shape = SmallShape();
  shape.hidden_size = shape.num_attention_heads * shape.head_dim;
  return shape;
}

TEST_F(Convert, Llama2cKeepsEveryBit) {
  for (const bool tied : {true, false}) {
    SCOPED_TRACE(tied);
    const Llama2cModel model = Llama2cModel::Make(Llama2cShape(), tied, 5);
    const std::string path = folder_ / "in-stories.bin";
    WriteFile(path, model.File());
    WriteFile(folder_ / "in-tok.bin", Llama2cTokenizerFile(300));
    EXPECT_THAT(Expect(path, folder_ / "in-tok.bin"), ElementsAre(HasSubstr("extra spaces")));
    const GgufContent gguf = ReadGguf(out());
    ASSERT_FALSE(HasFailure());
    ASSERT_EQ(gguf.tensors.size(), model.tensors.size());
    for (const auto& [name, bytes] : model.tensors) {
      ASSERT_TRUE(gguf.tensors.contains(name)) << name;
      EXPECT_EQ(gguf.tensors.at(name).bytes, bytes) << name;
    }
    EXPECT_EQ(gguf.keys.at("general.name"), "in-stories");
    EXPECT_EQ(gguf.keys.at("llama.attention.layer_norm_rms_epsilon"), 1e-5f);
    EXPECT_EQ(gguf.keys.at("llama.rope.freq_base"), 10000.0f);
    EXPECT_EQ(gguf.keys.at("llama.context_length"), 40);
    const SentencePieceProto proto = SentencePieceProto::Make(300);
    for (size_t i = 0; i < 300; ++i) {
      EXPECT_EQ(gguf.keys.at("tokenizer.ggml.tokens")[i], proto.pieces[i].piece);
      EXPECT_EQ(gguf.keys.at("tokenizer.ggml.scores")[i], proto.pieces[i].score);
      EXPECT_EQ(gguf.keys.at("tokenizer.ggml.token_type")[i], proto.pieces[i].type);
    }
  }
}

TEST_F(Convert, LaterVersionsOfLlama2cKeepEveryBit) {
  const std::string path = folder_ / "in-stories.bin";
  const std::string tokenizer = folder_ / "in-tok.bin";
  WriteFile(tokenizer, Llama2cTokenizerFile(300));
  for (const bool tied : {true, false}) {
    SCOPED_TRACE(tied);
    const Llama2cModel model = Llama2cModel::Make(Llama2cShape(), tied, 5);
    const auto expect_tensors = [&](uint32_t group_size) {
      const GgufContent gguf = ReadGguf(out());
      ASSERT_EQ(gguf.tensors.size(), model.tensors.size());
      for (const auto& [name, bytes] : model.tensors) {
        const bool grouped = group_size != 0 && !name.ends_with("norm.weight");
        ASSERT_TRUE(gguf.tensors.contains(name)) << name;
        EXPECT_EQ(gguf.tensors.at(name).bytes, grouped ? Llama2cGroups(bytes, group_size).values : bytes) << name;
      }
    };
    WriteFile(path, model.FileOfVersion1());
    EXPECT_THAT(Expect(path, tokenizer), ElementsAre(HasSubstr("extra spaces")));
    expect_tensors(0);
    for (const uint32_t group_size : {1u, 4u, Llama2cShape().hidden_size}) {
      SCOPED_TRACE(group_size);
      WriteFile(path, model.FileOfVersion2(group_size));
      EXPECT_THAT(Expect(path, tokenizer), ElementsAre(HasSubstr("int8"), HasSubstr("extra spaces")));
      expect_tensors(group_size);
    }
  }
}

TEST_F(Convert, EveryFieldOfALaterLlama2cHeaderIsChecked) {
  const Llama2cModel model = Llama2cModel::Make(Llama2cShape(), true, 5);
  const std::string path = folder_ / "in-stories.bin";
  const auto refused = [&](std::string file, size_t offset, const std::string& bytes) {
    file.replace(offset, bytes.size(), bytes);
    WriteFile(path, file);
    return Refusal(path);
  };
  for (const std::string& file : {model.FileOfVersion1(), model.FileOfVersion2(4)}) {
    for (const int32_t version : {-1, 0, 3}) {
      EXPECT_THAT(refused(file, 4, Bytes(version)), HasSubstr(fmt::format("version {}", version)));
    }
    for (size_t field = 0; field < 7; ++field) {
      for (const int32_t value : {0, -1, 1 << 24, std::numeric_limits<int32_t>::min()}) {
        if (field == 6 && value > 0) continue;  // positions take no room in these versions
        SCOPED_TRACE(fmt::format("field {} = {}", field, value));
        EXPECT_THAT(refused(file, 8 + 4 * field, Bytes(value)), HasSubstr(path));
      }
    }
    EXPECT_THAT(refused(file, 36, "\x02"), HasSubstr("shared_classifier"));
    EXPECT_THAT(refused(file, 36, std::string(1, '\0')), HasSubstr("bytes"));  // a head that is not there
    for (size_t n = 0; n < file.size(); n += n < 300 ? 1 : 1013) {
      WriteFile(path, file.substr(0, n));
      EXPECT_THAT(Refusal(path), HasSubstr(path));
    }
    WriteFile(path, file + "x");
    EXPECT_THAT(Refusal(path), HasSubstr("bytes"));
  }
  const std::string grouped = model.FileOfVersion2(4);
  for (const int32_t group_size : {0, -1, 5, 1 << 20}) {
    EXPECT_THAT(refused(grouped, 37, Bytes(group_size)), HasSubstr("group_size"));
  }
  // The embedding's first scale, where the first files of version 2 had other int8.
  const ModelShape shape = Llama2cShape();
  const size_t norms = (2 * shape.num_hidden_layers + 1) * shape.hidden_size * sizeof(float);
  EXPECT_THAT(refused(grouped, 256 + norms + shape.vocab_size * shape.hidden_size, Bytes(-1.0f)),
              AllOf(HasSubstr("group 0 of token_embd.weight"), HasSubstr("export")));
}

TEST_F(Convert, Llama2cFindsItsTokenizer) {
  const std::string path = folder_ / "in-stories.bin";
  WriteFile(path, Llama2cModel::Make(Llama2cShape(), true, 5).File());
  EXPECT_THAT(Expect(path, ""), ElementsAre(HasSubstr("ids only")));
  EXPECT_EQ(ReadGguf(out()).keys.at("tokenizer.ggml.model"), "no_vocab");
  EXPECT_EQ(ReadGguf(out()).keys.at("tokenizer.ggml.bos_token_id"), 1);
  WriteFile(folder_ / "tokenizer.bin", Llama2cTokenizerFile(301));
  EXPECT_THAT(NoteOf(path), AllOf(HasSubstr("tokenizer.bin"), HasSubstr("goes on")));
  WriteFile(folder_ / "tokenizer.bin", Llama2cTokenizerFile(300));
  EXPECT_THAT(Expect(path, ""), ElementsAre(HasSubstr("extra spaces")));
  const GgufContent from_bin = ReadGguf(out());
  EXPECT_EQ(from_bin.keys.at("tokenizer.ggml.model"), "llama");
  WriteFile(folder_ / "in-sp", SentencePieceProto::Make(300).Serialize());
  EXPECT_THAT(Expect(path, folder_ / "in-sp"), IsEmpty());
  EXPECT_EQ(ReadGguf(out()).keys, from_bin.keys);
}

TEST_F(Convert, EveryFieldOfALlama2cHeaderIsChecked) {
  const Llama2cModel good = Llama2cModel::Make(Llama2cShape(), true, 5);
  const std::string file = good.File();
  const std::string path = folder_ / "in-stories.bin";
  for (size_t field = 0; field < 7; ++field) {
    for (const int32_t value : {0, 1, -1, 7, 1 << 24, std::numeric_limits<int32_t>::max(),
                                std::numeric_limits<int32_t>::min(), good.header[field] + 1, -good.header[field]}) {
      SCOPED_TRACE(fmt::format("field {} = {}", field, value));
      std::string changed = file;
      std::memcpy(changed.data() + 4 * field, &value, 4);
      WriteFile(path, changed);
      EXPECT_THAT(Refusal(path), HasSubstr(path));
    }
  }
  for (size_t n = 0; n < file.size(); n += n < 64 ? 1 : 1013) {
    WriteFile(path, file.substr(0, n));
    EXPECT_THAT(Refusal(path), HasSubstr(path));
  }
  WriteFile(path, file + "x");
  EXPECT_THAT(Refusal(path), HasSubstr("bytes"));
  std::string bad = file;
  bad.replace(28 + 4 * 100, 4, Bytes(std::numeric_limits<float>::quiet_NaN()));
  WriteFile(path, bad);
  EXPECT_THAT(Refusal(path), AllOf(HasSubstr("element 100 of token_embd.weight"), HasSubstr("not a number")));
}

TEST_F(Convert, EveryTruncationOfALlama2cTokenizerIsRefused) {
  const std::string path = folder_ / "in-stories.bin";
  WriteFile(path, Llama2cModel::Make(Llama2cShape(), true, 5).File());
  const std::string tokenizer = folder_ / "in-tok.bin";
  const std::string good = Llama2cTokenizerFile(300);
  const auto refusal = [&](const std::string& bytes) {
    WriteFile(tokenizer, bytes);
    const std::string sentence = Refusal(path, tokenizer);
    EXPECT_THAT(sentence, HasSubstr(tokenizer));
    return sentence;
  };
  for (size_t n = 0; n < good.size(); ++n) {
    const auto vocabulary = ParseLlama2cTokenizer(std::string_view(good).substr(0, n), 300, "FILE");
    ASSERT_FALSE(vocabulary);
    EXPECT_THAT(vocabulary.error(), AllOf(HasSubstr("FILE"), Not(EndsWith("."))));
  }
  for (size_t n : {size_t{0}, size_t{3}, size_t{4}, size_t{12}, good.size() - 1}) refusal(good.substr(0, n));
  EXPECT_THAT(refusal(Llama2cTokenizerFile(301)), HasSubstr("goes on"));
  std::string bad = good;
  bad.replace(4, 4, Bytes(std::numeric_limits<float>::infinity()));
  EXPECT_THAT(refusal(bad), HasSubstr("score"));
  bad = good;
  bad.replace(8, 4, Bytes(uint32_t{0}));
  EXPECT_THAT(refusal(bad), HasSubstr("length"));
  bad = good;
  bad.replace(8, 4, Bytes(0xffffffffu));
  EXPECT_THAT(refusal(bad), HasSubstr("length"));
  bad = good;
  bad[12] = '\xff';
  EXPECT_THAT(refusal(bad), HasSubstr("UTF-8"));
}

// What is not ours to publish is found through the environment.
std::optional<std::string> RealModels() {
  const char* folder = std::getenv("THIMBLE_REAL_MODELS");
  if (folder == nullptr) return std::nullopt;
  return folder;
}

TEST_F(Convert, Stories260KEqualsItsPublishedGguf) {
  const auto real = RealModels();
  if (!real) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  Expect(*real + "/stories260K/stories260K.bin", *real + "/stories260K/tok512.bin");
  const GgufContent ours = ReadGguf(out());
  const GgufContent theirs = ReadGguf(*real + "/stories260K-gguf/stories260K.gguf");
  ASSERT_FALSE(HasFailure());
  ASSERT_EQ(theirs.tensors.size(), 48u);
  EXPECT_EQ(ours.tensors.size(), 47u);  // the head is tied, and stored once
  for (const auto& [name, tensor] : theirs.tensors) {
    const auto& same = ours.tensors.at(name == "output.weight" ? "token_embd.weight" : name);
    EXPECT_EQ(same.dims, tensor.dims) << name;
    EXPECT_EQ(same.bytes, tensor.bytes) << name;
  }
  for (const char* key : {"tokens", "scores", "token_type", "bos_token_id", "eos_token_id", "unknown_token_id"}) {
    EXPECT_EQ(ours.keys.at(fmt::format("tokenizer.ggml.{}", key)),
              theirs.keys.at(fmt::format("tokenizer.ggml.{}", key)));
  }
}

TEST_F(Convert, TokenizersOfLlama2AgreeInBothForms) {
  const auto real = RealModels();
  if (!real) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  ModelShape shape = Llama2cShape();
  shape.vocab_size = 32000;
  const std::string path = folder_ / "in-model.bin";
  WriteFile(path, Llama2cModel::Make(shape, true, 5).File());
  Expect(path, *real + "/tokenizer-llama2-32000/tokenizer.model");
  const GgufContent from_model = ReadGguf(out());
  Expect(path, *real + "/tokenizer-llama2-32000/tokenizer.llama2c.bin");
  EXPECT_EQ(ReadGguf(out()).keys, from_model.keys);
}

TEST_F(Convert, TheRealHuggingFaceFolderConverts) {
  const auto real = RealModels();
  if (!real) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  EXPECT_THAT(Expect(*real + "/tiny-llama-hf-random", ""), ElementsAre(HasSubstr("ids only")));
  const GgufContent gguf = ReadGguf(out());
  EXPECT_EQ(gguf.tensors.size(), 21u);
  EXPECT_EQ(gguf.keys.at("llama.embedding_length"), 64);
}

TEST_F(Convert, TheRealShardsGiveTheFileThatTheRealFileGives) {
  const auto real = RealModels();
  if (!real) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  const std::string folder = *real + "/tiny-llama-hf-random";
  std::filesystem::create_directory(source());
  std::filesystem::create_symlink(folder + "/config.json", source() + "/config.json");
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/sharded")) {
    std::filesystem::create_symlink(entry.path(), source() + "/" + entry.path().filename().string());
  }
  for (const WrittenType dtype : {WrittenType::kF32, WrittenType::kKeep}) {
    dtype_ = dtype;
    Expect(source(), "");
    const std::string sharded = folder_ / "in-sharded.gguf";
    std::filesystem::rename(out(), sharded);
    Expect(folder, "");
    ExpectSameModel(out(), sharded);
  }
}

TEST_F(Convert, ARealGgufFileIsASource) {
  const auto real = RealModels();
  if (!real) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  const std::string theirs = *real + "/stories260K-gguf/stories260K.gguf";
  Expect(theirs, "");
  const GgufContent ours = ReadGguf(out());
  const GgufContent original = ReadGguf(theirs);
  ASSERT_FALSE(HasFailure());
  EXPECT_EQ(ours.tensors.size(), original.tensors.size());
  for (const auto& [name, tensor] : original.tensors) EXPECT_EQ(ours.tensors.at(name).bytes, tensor.bytes) << name;
  for (const char* key : {"tokens", "scores", "token_type", "bos_token_id", "eos_token_id", "unknown_token_id"}) {
    const std::string full = fmt::format("tokenizer.ggml.{}", key);
    EXPECT_EQ(ours.keys.at(full), original.keys.at(full)) << key;
  }
}

}  // namespace
}  // namespace thimble::host
