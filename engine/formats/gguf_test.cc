#include "engine/formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "host/devices/ram_device.h"
#include "tests/support/gguf_builder.h"

namespace thimble::formats {
namespace {

using testing::HasSubstr;

// The bytes of a file, opened.
class Opened {
 public:
  explicit Opened(const std::string& bytes, uint64_t size_bytes = 0, size_t buffer_bytes = 1024)
      : device_(std::as_bytes(std::span(bytes))),
        extent_{0, 0, size_bytes != 0 ? size_bytes : bytes.size()},
        reader_(device_, {{&extent_, 1}, extent_.size_bytes}, ledger_),
        bytes_(reader_, std::span(buffer_).first(buffer_bytes)),
        model_(OpenGguf(bytes_, arena_)) {}

  const Result<ModelFile>& model() const { return model_; }
  const ModelFile* operator->() const { return &*model_; }
  Arena& arena() { return arena_; }
  storage::ByteReader& reader() { return bytes_; }
  const host::RamDevice& device() const { return device_; }

  // The sentence of the error; empty if there is none.
  std::string Sentence() const { return model_ ? "" : Words(model_.error()); }
  static std::string Words(const Error& error) {
    char text[300];
    return std::string(text, FormatError(error, text));
  }

  // What every model that passes must hold to, so that nothing later has to look again.
  void CheckInvariants() const {
    const ModelShape& shape = model_->shape;
    ASSERT_GT(shape.vocab_size, 0u);
    ASSERT_GT(shape.hidden_size, 0u);
    ASSERT_GT(shape.intermediate_size, 0u);
    ASSERT_GT(shape.num_key_value_heads, 0u);
    ASSERT_EQ(shape.num_attention_heads % shape.num_key_value_heads, 0u);
    ASSERT_GT(shape.head_dim, 0u);
    ASSERT_EQ(shape.head_dim % 2, 0u);
    ASSERT_GT(shape.max_position_embeddings, 0u);
    ASSERT_GT(shape.rms_norm_eps, 0);
    ASSERT_GT(shape.rope_theta, 0);
    ASSERT_LE(shape.rms_norm_eps, std::numeric_limits<float>::max());
    ASSERT_LE(shape.rope_theta, std::numeric_limits<float>::max());
    ASSERT_EQ(model_->tensors.size(), TensorCount(shape));
    for (uint32_t i = 0; i < model_->tensors.size(); ++i) {
      const TensorRef& tensor = model_->tensors[i];
      ASSERT_EQ(tensor.id, TensorIdAt(i, shape));
      ASSERT_EQ(tensor.rows, DimsOf(tensor.id.kind, shape).rows);
      ASSERT_EQ(tensor.cols, DimsOf(tensor.id.kind, shape).cols);
      ASSERT_EQ(tensor.offset % 4, 0u);
      ASSERT_LE(tensor.offset, extent_.size_bytes);
      ASSERT_LE(tensor.size_bytes(), extent_.size_bytes - tensor.offset);
    }
    const TokenizerRef& tokenizer = model_->tokenizer;
    for (const TokenId id : {tokenizer.bos, tokenizer.eos, tokenizer.unk}) {
      ASSERT_TRUE(id == kNoToken || id < shape.vocab_size);
    }
    if (!tokenizer.present) return;
    ASSERT_EQ(tokenizer.num_tokens, shape.vocab_size);
    ASSERT_LE(tokenizer.tokens_offset + 8 * uint64_t{tokenizer.num_tokens} + tokenizer.tokens_bytes,
              extent_.size_bytes);
    ASSERT_LE(tokenizer.scores_offset + 4 * uint64_t{tokenizer.num_tokens}, extent_.size_bytes);
    ASSERT_LE(tokenizer.types_offset + 4 * uint64_t{tokenizer.num_tokens}, extent_.size_bytes);
    ASSERT_LE(tokenizer.longest_token_bytes, tokenizer.tokens_bytes);
  }

 private:
  alignas(64) std::byte buffer_[4096];
  alignas(kArenaAlign) std::byte memory_[16384];
  Arena arena_{Region::kPsram, memory_};
  Ledger ledger_;
  host::RamDevice device_;
  storage::Extent extent_;
  storage::FileReader reader_;
  storage::ByteReader bytes_;
  Result<ModelFile> model_;
};

// A sentence, with no placeholder left in it.
MATCHER(IsWhole, "") {
  for (const char* placeholder : {"{name}", "{tensor}", "{offset}", "{have}", "{need}"}) {
    if (arg.find(placeholder) != std::string::npos) return false;
  }
  return !arg.empty();
}

// Every refusal must name what is wrong, give back the arena and leave no placeholder unfilled.
void ExpectRefused(const GgufBuilder& file, Code code, const std::string& says) {
  Opened opened(file.Build());
  ASSERT_FALSE(opened.model()) << "not refused: " << says;
  EXPECT_EQ(opened.model().error().code, code) << opened.Sentence();
  EXPECT_THAT(opened.Sentence(), testing::AllOf(HasSubstr(says), IsWhole()));
  EXPECT_EQ(opened.arena().used_bytes(), 0u);
}

// The model is whole, but for its tokenizer.
void ExpectNoTexts(const GgufBuilder& file, Code code, const std::string& says) {
  Opened opened(file.Build());
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  opened.CheckInvariants();
  EXPECT_EQ(opened->shape.vocab_size, 8u);
  EXPECT_FALSE(opened->tokenizer.present);
  EXPECT_EQ(opened->tokenizer.num_tokens, 0u);
  ASSERT_TRUE(opened->tokenizer_fault) << "not refused: " << says;
  EXPECT_EQ(opened->tokenizer_fault->code, code);
  EXPECT_THAT(Opened::Words(*opened->tokenizer_fault), testing::AllOf(HasSubstr(says), IsWhole()));
}

TEST(Gguf, ReadsAPlainModel) {
  const GgufBuilder file = GgufBuilder::Llama();
  Opened opened(file.Build());
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  opened.CheckInvariants();
  const ModelShape expected = {.vocab_size = 8,
                               .hidden_size = 4,
                               .intermediate_size = 6,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 2,
                               .num_key_value_heads = 1,
                               .head_dim = 2,
                               .max_position_embeddings = 16,
                               .rms_norm_eps = 1e-5f,
                               .rope_theta = 10000.0f};
  EXPECT_EQ(opened->shape, expected);
  EXPECT_FALSE(opened->tied);
  EXPECT_EQ(opened.arena().used_bytes(), ArenaBytes(21 * sizeof(TensorRef)));

  const TokenizerRef& tokenizer = opened->tokenizer;
  EXPECT_TRUE(tokenizer.present);
  EXPECT_EQ(tokenizer.bos, 1u);
  EXPECT_EQ(tokenizer.eos, 2u);
  EXPECT_EQ(tokenizer.unk, 0u);
  EXPECT_TRUE(tokenizer.add_bos);
  EXPECT_TRUE(tokenizer.add_space_prefix);
  EXPECT_EQ(tokenizer.tokens_bytes, 5u + 3 + 4 + 1 + 2 + 3 + 4 + 5);
  EXPECT_EQ(tokenizer.longest_token_bytes, 5u);
  for (const TensorRef& tensor : opened->tensors) {
    const bool rotated = tensor.id.kind == TensorKind::kAttnQ || tensor.id.kind == TensorKind::kAttnK;
    EXPECT_EQ(tensor.order, rotated ? RowOrder::kInterleaved : RowOrder::kHalfSplit);
  }
}

TEST(Gguf, TheOrderOfKeysAndTensorsAndTheVersionAndTheBufferDoNotMatter) {
  const GgufBuilder file = GgufBuilder::Llama();
  Opened reference(file.Build());
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    GgufBuilder shuffled = file;
    std::shuffle(shuffled.keys.begin(), shuffled.keys.end(), random);
    std::shuffle(shuffled.tensors.begin(), shuffled.tensors.end(), random);
    shuffled.version = 2 + random() % 2;
    shuffled.alignment = 8u << random() % 8;
    shuffled.Set("general.alignment", GgufValue::Of(static_cast<uint32_t>(shuffled.alignment)));
    Opened opened(shuffled.Build(), 0, 1024 + 16 * (random() % 100));
    ASSERT_TRUE(opened.model()) << opened.Sentence();
    opened.CheckInvariants();
    EXPECT_EQ(opened->shape, reference->shape);
    for (const TensorRef& tensor : opened->tensors) EXPECT_EQ(tensor.offset % shuffled.alignment, 0u);
  }
}

TEST(Gguf, ReadsWhatThePythonPackageWrote) {
  std::ifstream stream("engine/formats/testdata/tiny.gguf", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  ASSERT_FALSE(bytes.empty()) << "run from the root of the tree";
  Opened opened(bytes);
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  opened.CheckInvariants();
  const ModelShape expected = {.vocab_size = 9,
                               .hidden_size = 12,
                               .intermediate_size = 20,
                               .num_hidden_layers = 1,
                               .num_attention_heads = 2,
                               .num_key_value_heads = 1,
                               .head_dim = 4,
                               .max_position_embeddings = 32,
                               .rms_norm_eps = 1e-6f,
                               .rope_theta = 500.0f};
  EXPECT_EQ(opened->shape, expected);
  EXPECT_TRUE(opened->tied);
  // make_gguf.py counts through all tensors in the order in which it wrote them.
  float count = 0;
  for (const TensorKind kind : {TensorKind::kTokenEmbd, TensorKind::kAttnNorm, TensorKind::kFfnDown,
                                TensorKind::kFfnGate, TensorKind::kFfnUp, TensorKind::kFfnNorm, TensorKind::kAttnK,
                                TensorKind::kAttnO, TensorKind::kAttnQ, TensorKind::kAttnV, TensorKind::kFinalNorm}) {
    const TensorRef& tensor = opened->tensor({kind, 0});
    EXPECT_EQ(tensor.offset % 64, 0u);
    ASSERT_TRUE(opened.reader().Seek(tensor.offset));
    for (uint64_t i = 0; i < tensor.size_bytes() / 4; ++i) {
      ASSERT_EQ(opened.reader().ReadLittleEndian<float>().value(), count);
      count += 1;
    }
  }
  EXPECT_EQ(opened->tensor({TensorKind::kLmHead, 0}).offset, opened->tensor({TensorKind::kTokenEmbd, 0}).offset);

  const TokenizerRef& tokenizer = opened->tokenizer;
  EXPECT_FALSE(tokenizer.add_space_prefix);
  EXPECT_TRUE(tokenizer.add_bos);
  const std::vector<std::string> tokens = {"<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "\u2581ab", "\u00e9"};
  const std::vector<float> scores = {0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -0.5, -0.25, -4.0};
  const std::vector<int32_t> types = {2, 3, 3, 1, 1, 1, 1, 1, 1};
  storage::ByteReader& reader = opened.reader();
  ASSERT_TRUE(reader.Seek(tokenizer.tokens_offset));
  for (const std::string& token : tokens) {
    ASSERT_EQ(reader.ReadLittleEndian<uint64_t>().value(), token.size());
    std::string got(token.size(), '\0');
    ASSERT_TRUE(reader.Read(std::as_writable_bytes(std::span(got))));
    EXPECT_EQ(got, token);
  }
  ASSERT_TRUE(reader.Seek(tokenizer.scores_offset));
  for (const float score : scores) EXPECT_EQ(reader.ReadLittleEndian<float>().value(), score);
  ASSERT_TRUE(reader.Seek(tokenizer.types_offset));
  for (const int32_t type : types) EXPECT_EQ(reader.ReadLittleEndian<int32_t>().value(), type);
}

TEST(Gguf, ReadsARealModel) {
  const char* models = std::getenv("THIMBLE_REAL_MODELS");
  if (models == nullptr) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  std::ifstream stream(std::string(models) + "/stories260K-gguf/stories260K.gguf", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  Opened opened(bytes);
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  opened.CheckInvariants();
  const ModelShape expected = {.vocab_size = 512,
                               .hidden_size = 64,
                               .intermediate_size = 172,
                               .num_hidden_layers = 5,
                               .num_attention_heads = 8,
                               .num_key_value_heads = 4,
                               .head_dim = 8,
                               .max_position_embeddings = 2048,
                               .rms_norm_eps = 1e-5f,
                               .rope_theta = 10000.0f};
  EXPECT_EQ(opened->shape, expected);
  EXPECT_EQ(opened->tensor({TensorKind::kTokenEmbd, 0}).offset, 14176u);
  EXPECT_EQ(opened->tensor({TensorKind::kAttnV, 0}).offset, 301152u);
  EXPECT_EQ(opened->tokenizer.num_tokens, 512u);
}

TEST(Gguf, ATiedModelHasItsHeadWhereItsEmbeddingIs) {
  Opened opened(GgufBuilder::Llama(1, 8, 4, 6, 2, 1, 2, true).Build());
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  opened.CheckInvariants();
  EXPECT_TRUE(opened->tied);
  EXPECT_EQ(opened->tensor({TensorKind::kLmHead, 0}).offset, opened->tensor({TensorKind::kTokenEmbd, 0}).offset);
}

TEST(Gguf, HeadDimMayDifferFromHiddenSizeOverHeads) {
  Opened opened(GgufBuilder::Llama(1, 8, 10, 6, 4, 2, 6).Build());
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  opened.CheckInvariants();
  EXPECT_EQ(opened->shape.head_dim, 6u);
  EXPECT_EQ(opened->shape.q_dim(), 24u);
}

TEST(Gguf, TakesNumbersOfAnyTypeAndKeysThatMayBeAbsent) {
  GgufBuilder file = GgufBuilder::Llama();
  file.Set("llama.context_length", GgufValue::Of(int64_t{16}));
  file.Set("llama.embedding_length", GgufValue::Of(uint64_t{4}));
  file.Set("llama.block_count", GgufValue::Of(uint8_t{2}));
  file.Set("llama.feed_forward_length", GgufValue::ArrayOf(std::vector<uint32_t>{6, 6}));
  file.Set("llama.attention.head_count", GgufValue::Of(int16_t{2}));
  file.Set("llama.attention.head_count_kv", GgufValue::ArrayOf(std::vector<int32_t>{1, 1}));
  file.Set("llama.attention.layer_norm_rms_epsilon", GgufValue::Of(double{1e-5}));
  file.Set("llama.rope.freq_base", GgufValue::Of(int32_t{500}));
  file.Set("tokenizer.ggml.token_type", GgufValue::ArrayOf(std::vector<uint32_t>{2, 3, 3, 1, 1, 1, 1, 1}));
  file.Set("tokenizer.ggml.bos_token_id", GgufValue::Of(int32_t{-1}));
  file.Set("tokenizer.ggml.eos_token_id", GgufValue::Of(uint32_t{7}));
  file.Set("tokenizer.ggml.unknown_token_id", GgufValue::Of(uint32_t{0xffffffff}));
  file.Set("tokenizer.ggml.add_bos_token", GgufValue::Of(false));
  file.Remove("llama.rope.dimension_count");
  Opened opened(file.Build());
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  opened.CheckInvariants();
  EXPECT_EQ(opened->shape.rope_theta, 500.0f);
  EXPECT_EQ(opened->shape.num_key_value_heads, 1u);
  EXPECT_EQ(opened->tokenizer.bos, kNoToken);
  EXPECT_EQ(opened->tokenizer.eos, 7u);
  EXPECT_EQ(opened->tokenizer.unk, kNoToken);
  EXPECT_FALSE(opened->tokenizer.add_bos);

  file.Remove("llama.attention.head_count_kv");
  for (int i = 0; i < 2; ++i) {
    const std::string blk = "blk." + std::to_string(i) + ".";
    file.Tensor(blk + "attn_k.weight").dimensions = {4, 4};
    file.Tensor(blk + "attn_v.weight").dimensions = {4, 4};
  }
  Opened multi_head(file.Build());
  ASSERT_TRUE(multi_head.model()) << multi_head.Sentence();
  EXPECT_EQ(multi_head->shape.num_key_value_heads, 2u);
}

TEST(Gguf, SkipsKeysOfEveryTypeThatItDoesNotKnow) {
  GgufBuilder file = GgufBuilder::Llama();
  std::vector<std::pair<std::string, GgufValue>> keys = {
      {"a", GgufValue::Of(uint8_t{1})},
      {"b", GgufValue::Of(int8_t{-1})},
      {"c", GgufValue::Of(uint16_t{1})},
      {"d", GgufValue::Of(int16_t{-1})},
      {"e", GgufValue::Of(uint32_t{1})},
      {"f", GgufValue::Of(int32_t{-1})},
      {"g", GgufValue::Of(1.5f)},
      {"h", GgufValue::Of(true)},
      {"i", GgufValue::Of("text")},
      {"j", GgufValue::Of(uint64_t{1})},
      {"k", GgufValue::Of(int64_t{-1})},
      {"l", GgufValue::Of(2.5)},
      {"m", GgufValue::ArrayOf(std::vector<double>(300))},
      {"n", GgufValue::ArrayOf(std::vector<std::string>{"", "one", "two"})},
      {"o", GgufValue::ArrayOf(std::vector<uint8_t>{})},
      {std::string(5000, 'p'), GgufValue::Of(std::string(3000, 'p'))},
  };
  keys.emplace_back("q", GgufValue::ArrayOfArrays(keys[13].second, 3));
  keys.emplace_back("r", GgufValue::ArrayOfArrays(keys.back().second, 2));
  keys.insert(keys.end(), file.keys.begin(), file.keys.end());
  file.keys = keys;
  // Known to change nothing, or switched off.
  file.Set("llama.tensor_data_layout", GgufValue::Of("Meta AI original pth"));
  file.Set("llama.rope.scaling.original_context_length", GgufValue::Of(uint32_t{4096}));
  file.Set("llama.expert_count", GgufValue::Of(uint32_t{0}));
  file.Set("llama.attention.sliding_window", GgufValue::Of(uint32_t{0}));
  file.Set("llama.use_parallel_residual", GgufValue::Of(false));
  file.Set("llama.attention.causal", GgufValue::Of(true));
  file.Set("llama.rope.scaling.type", GgufValue::Of("linear"));
  file.Set("llama.rope.scaling.factor", GgufValue::Of(1.0f));
  file.Set("llama.rope.scaling.attn_factor", GgufValue::Of(1.0f));
  file.Set("general.type", GgufValue::Of("model"));
  file.Set("split.count", GgufValue::Of(uint16_t{0}));
  Opened opened(file.Build());
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  opened.CheckInvariants();

  file.Set("llama.rope.scaling.type", GgufValue::Of("none"));
  file.Set("llama.rope.scaling.factor", GgufValue::Of(4.0f));
  Opened unscaled(file.Build());
  EXPECT_TRUE(unscaled.model()) << unscaled.Sentence();
}

TEST(Gguf, ReadsTheFamily) {
  for (const auto& [name, architecture, more] :
       {std::tuple{"qwen2", Architecture::kQwen2, 3u}, std::tuple{"qwen3", Architecture::kQwen3, 2u}}) {
    GgufBuilder file = GgufBuilder::Llama().Become(name);
    Opened opened(file.Build());
    ASSERT_TRUE(opened.model()) << opened.Sentence();
    opened.CheckInvariants();
    EXPECT_EQ(opened->shape.architecture, architecture);
    EXPECT_EQ(opened->tensors.size(), 3 + 2 * (9 + more));
    EXPECT_EQ(opened->tensor({TensorKind::kAttnQ, 1}).order, RowOrder::kHalfSplit);
    EXPECT_EQ(opened.arena().used_bytes(), ArenaBytes(opened->tensors.size_bytes()));
    // The architecture's name may come last.
    std::rotate(file.keys.begin(), file.keys.begin() + 1, file.keys.end());
    Opened late(file.Build());
    ASSERT_TRUE(late.model()) << late.Sentence();
    EXPECT_EQ(late->shape, opened->shape);

    file.Remove(std::string(name) + ".embedding_length");
    ExpectRefused(file, Code::kNotFound, std::string(name) + ".embedding_length is missing");
    file = GgufBuilder::Llama().Become(name);
    file.tensors.pop_back();
    ExpectRefused(file, Code::kNotFound, name == std::string("qwen2") ? "blk.1.attn_v.bias is" : "blk.1.attn_k_norm");
    file = GgufBuilder::Llama().Become(name);
    file.tensors.push_back({"rope_freqs.weight", {1}});
    ExpectRefused(file, Code::kUnsupported, "rope_freqs.weight) in a way that is not supported");
    file = GgufBuilder::Llama().Become(name);
    file.Set(std::string(name) + ".expert_count", GgufValue::Of(uint32_t{8}));
    ExpectRefused(file, Code::kUnsupported, std::string("sets ") + name + ".expert_count");
    file = GgufBuilder::Llama().Become(name);
    file.Tensor("blk.0.attn_k.weight").name = "blk.0.attn_k_norm.bias";
    ExpectRefused(file, Code::kUnsupported, "has a bias (tensor blk.0.attn_k_norm.bias)");
  }
  GgufBuilder file = GgufBuilder::Llama().Become("qwen2");
  file.Tensor("blk.1.attn_q.bias").dimensions = {3};
  ExpectRefused(file, Code::kCorrupt, "blk.1.attn_q.bias has 3 columns; the metadata asks for 4");
}

TEST(Gguf, ReadsScaledRotaryPositions) {
  for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    GgufBuilder file = GgufBuilder::Llama();
    file.Set(key, GgufValue::Of(2.5f));
    Opened opened(file.Build());
    ASSERT_TRUE(opened.model()) << opened.Sentence();
    opened.CheckInvariants();
    EXPECT_EQ(opened->shape.rope_linear_factor, 2.5f);
    EXPECT_FALSE(opened->shape.has_rope_factors);
    file.tensors.push_back({"rope_freqs.weight", {1}});
    ExpectRefused(file, Code::kUnsupported, "scales its rotary positions twice, by rope_freqs.weight");
  }
  GgufBuilder file = GgufBuilder::Llama();
  file.tensors.insert(file.tensors.begin(), {"rope_freqs.weight", {1}});
  Opened opened(file.Build());
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  opened.CheckInvariants();
  EXPECT_TRUE(opened->shape.has_rope_factors);
  EXPECT_EQ(opened->tensors.back().id.kind, TensorKind::kRopeFactors);
  EXPECT_EQ(opened.arena().used_bytes(), ArenaBytes(opened->tensors.size_bytes()));
  file.Tensor("rope_freqs.weight").dimensions = {2};
  ExpectRefused(file, Code::kCorrupt, "rope_freqs.weight has 2 columns; the metadata asks for 1");
  // The entry behind the last layer is no layer's.
  file = GgufBuilder::Llama();
  file.tensors.push_back({"blk.2.attn_norm.weight", {4}});
  ExpectRefused(file, Code::kCorrupt, "blk.2.attn_norm.weight belongs to a layer beyond the 2 layers");
}

TEST(Gguf, RefusesKeysThatWouldChangeTheNumbers) {
  struct {
    const char* key;
    GgufValue value;
    Code code;
    const char* says;
  } cases[] = {
      {"general.architecture", GgufValue::Of("qwen2moe"), Code::kUnsupported, "architecture is qwen2moe"},
      {"general.architecture", GgufValue::Of("qwen2"), Code::kCorrupt,
       "architecture is qwen2, but it has keys of another one"},
      {"qwen3.block_count", GgufValue::Of(uint32_t{2}), Code::kCorrupt, "block_count is there twice"},
      {"qwen3.vocab_size", GgufValue::Of(uint32_t{8}), Code::kCorrupt,
       "architecture is llama, but it has keys of another one"},
      {"general.architecture", GgufValue::Of("llama4"), Code::kUnsupported, "architecture is llama4"},
      {"general.architecture", GgufValue::Of(std::string(100, 'x')), Code::kUnsupported, "architecture is xxx"},
      {"general.type", GgufValue::Of("adapter"), Code::kUnsupported, "general.type is adapter"},
      {"split.count", GgufValue::Of(uint16_t{3}), Code::kUnsupported, "one of 3 parts"},
      {"llama.rope.scaling.type", GgufValue::Of("yarn"), Code::kUnsupported, "type yarn"},
      {"llama.rope.scaling.factor", GgufValue::Of(0.5f), Code::kUnsupported,
       "llama.rope.scaling.factor must lie between 1 and 1048576"},
      {"llama.rope.scale_linear", GgufValue::Of(2e6f), Code::kUnsupported, "llama.rope.scale_linear must lie between"},
      {"llama.rope.scaling.factor", GgufValue::Of(std::numeric_limits<float>::quiet_NaN()), Code::kUnsupported,
       "llama.rope.scaling.factor must lie between"},
      {"llama.rope.scaling.attn_factor", GgufValue::Of(2.0f), Code::kUnsupported, "llama.rope.scaling.attn_factor"},
      {"llama.rope.dimension_count", GgufValue::Of(uint32_t{1}), Code::kUnsupported, "llama.rope.dimension_count is 1"},
      {"llama.expert_count", GgufValue::Of(uint32_t{8}), Code::kUnsupported, "llama.expert_count"},
      {"llama.attention.sliding_window", GgufValue::Of(uint32_t{512}), Code::kUnsupported,
       "llama.attention.sliding_window"},
      {"llama.attention.causal", GgufValue::Of(false), Code::kUnsupported, "llama.attention.causal"},
      {"llama.attention.scale", GgufValue::Of(0.5f), Code::kUnsupported, "llama.attention.scale"},
      {"llama.logit_scale", GgufValue::Of(-0.5f), Code::kUnsupported, "llama.logit_scale"},
      {"llama.something.new", GgufValue::Of("text"), Code::kUnsupported, "llama.something.new"},
      {"llama.something.new", GgufValue::ArrayOf(std::vector<float>{0}), Code::kUnsupported, "llama.something.new"},
      {"llama.attention.value_length", GgufValue::Of(uint32_t{4}), Code::kUnsupported, "value_length is 4"},
      {"llama.attention.head_count_kv", GgufValue::ArrayOf(std::vector<uint32_t>{1, 2}), Code::kUnsupported,
       "differs from layer to layer"},
  };
  for (const auto& c : cases) {
    GgufBuilder file = GgufBuilder::Llama();
    file.Set(c.key, c.value);
    ExpectRefused(file, c.code, c.says);
  }
}

TEST(Gguf, RefusesWrongAndMissingKeys) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  struct {
    const char* key;
    GgufValue value;
    const char* says;
  } cases[] = {
      {"general.architecture", GgufValue::Of(uint32_t{1}), "general.architecture is not a string"},
      {"general.alignment", GgufValue::Of(uint32_t{24}), "general.alignment is 24"},
      {"general.alignment", GgufValue::Of(uint32_t{4}), "general.alignment is 4"},
      {"general.alignment", GgufValue::Of(uint32_t{0}), "general.alignment is 0"},
      {"general.alignment", GgufValue::Of(uint64_t{1} << 40), "general.alignment is 1099511627776"},
      {"llama.context_length", GgufValue::Of(uint32_t{0}), "llama.context_length is 0"},
      {"llama.context_length", GgufValue::Of(uint64_t{1} << 32), "llama.context_length is 4294967296"},
      {"llama.context_length", GgufValue::Of(int32_t{-5}), "llama.context_length is negative"},
      {"llama.context_length", GgufValue::Of(16.0f), "llama.context_length is not a whole number"},
      {"llama.context_length", GgufValue::Of(true), "llama.context_length is not a whole number"},
      {"llama.context_length", GgufValue::Of("16"), "llama.context_length is not a whole number"},
      {"llama.context_length", GgufValue::ArrayOf(std::vector<uint32_t>{}),
       "llama.context_length is not a whole number"},
      {"llama.embedding_length", GgufValue::Of(uint32_t{0}), "llama.embedding_length is 0"},
      {"llama.embedding_length", GgufValue::Of(uint32_t{5}), "llama.embedding_length is 5"},
      {"llama.embedding_length", GgufValue::Of(uint32_t{8}), "heads have 4 elements, columns"},
      {"llama.block_count", GgufValue::Of(uint32_t{0}), "llama.block_count is 0"},
      {"llama.block_count", GgufValue::Of(uint32_t{1} << 31), "llama.block_count is 2147483648"},
      {"llama.block_count", GgufValue::Of(uint32_t{1}), "blk.1.attn_norm.weight belongs to a layer beyond"},
      {"llama.block_count", GgufValue::Of(uint32_t{4}), "too few for the 4 layers of llama.block_count"},
      {"llama.feed_forward_length", GgufValue::Of(uint32_t{0}), "llama.feed_forward_length is 0"},
      {"llama.feed_forward_length", GgufValue::Of(uint32_t{7}),
       "blk.0.ffn_gate.weight has 6 rows; the metadata asks for 7"},
      {"llama.attention.head_count", GgufValue::Of(uint32_t{0}), "llama.attention.head_count is 0"},
      {"llama.attention.head_count", GgufValue::Of(uint32_t{4}), "heads have 1 elements"},
      {"llama.attention.head_count_kv", GgufValue::Of(uint32_t{0}), "llama.attention.head_count_kv is 0"},
      {"llama.attention.head_count_kv", GgufValue::Of(uint32_t{3}), "llama.attention.head_count_kv is 3"},
      {"llama.attention.key_length", GgufValue::Of(uint32_t{0}), "heads have 0 elements"},
      {"llama.attention.key_length", GgufValue::Of(uint32_t{3}), "heads have 3 elements"},
      {"llama.attention.key_length", GgufValue::Of(uint32_t{1} << 24), "heads have 16777216 elements"},
      {"llama.attention.layer_norm_rms_epsilon", GgufValue::Of(0.0f), "layer_norm_rms_epsilon must be a positive"},
      {"llama.attention.layer_norm_rms_epsilon", GgufValue::Of(nan), "layer_norm_rms_epsilon must be a positive"},
      {"llama.attention.layer_norm_rms_epsilon", GgufValue::Of(-1.0f), "layer_norm_rms_epsilon must be a positive"},
      {"llama.attention.layer_norm_rms_epsilon", GgufValue::Of("x"), "layer_norm_rms_epsilon is not a number"},
      {"llama.rope.freq_base", GgufValue::Of(inf), "llama.rope.freq_base must be a positive"},
      {"llama.rope.freq_base", GgufValue::Of(1e300), "llama.rope.freq_base must be a positive"},
      {"llama.rope.freq_base", GgufValue::Of(0.0f), "llama.rope.freq_base must be a positive"},
      {"llama.vocab_size", GgufValue::Of(uint32_t{9}), "token_embd.weight has 8 rows; the metadata asks for 9"},
      {"x", GgufValue::Raw({"\15\0\0\0", 4}), "type 13"},
      {"x", GgufValue::Raw({"\10\0\0\0\377\377\377\377\377\377\377\377", 12}), "longer than the file"},
      {"x", GgufValue::Raw({"\11\0\0\0\6\0\0\0\377\377\377\377\377\377\377\77", 16}), "longer than the file"},
      {"x", GgufValue::Raw({"\11\0\0\0\11\0\0\0\377\377\377\377\377\377\377\77", 16}), "longer than the file"},
  };
  for (const auto& c : cases) {
    GgufBuilder file = GgufBuilder::Llama();
    file.Set(c.key, c.value);
    if (std::string(c.says) == "heads have 4 elements, columns") {
      ExpectRefused(file, Code::kUnsupported, "llama.rope.dimension_count is 2");
    } else {
      ExpectRefused(file, Code::kCorrupt, c.says);
    }
  }
  for (const char* key :
       {"general.architecture", "llama.context_length", "llama.embedding_length", "llama.block_count",
        "llama.feed_forward_length", "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"}) {
    GgufBuilder file = GgufBuilder::Llama();
    file.Remove(key);
    ExpectRefused(file, Code::kNotFound, std::string("key ") + key + " is missing");
  }
  GgufBuilder file = GgufBuilder::Llama();
  file.Remove("tokenizer.ggml.tokens");
  ExpectRefused(file, Code::kNotFound, "llama.vocab_size is missing");

  const GgufBuilder plain = GgufBuilder::Llama();
  for (const auto& [key, value] : plain.keys) {
    GgufBuilder doubled = plain;
    doubled.keys.emplace_back(key, value);
    if (key.starts_with("tokenizer.")) {
      ExpectNoTexts(doubled, Code::kCorrupt, key + " is there twice");
      continue;
    }
    ExpectRefused(doubled, Code::kCorrupt, key + " is there twice");
  }

  GgufValue deep = GgufValue::ArrayOf(std::vector<uint8_t>{1});
  for (int i = 0; i < 4; ++i) deep = GgufValue::ArrayOfArrays(deep, 1);
  file = plain;
  file.Set("x", deep);
  ExpectRefused(file, Code::kUnsupported, "nested too deeply");
}

// Whatever is wrong with its tokenizer, a model runs with ids.
TEST(Gguf, ATokenizerThatCannotBeUsedIsLeftOut) {
  struct {
    const char* key;
    GgufValue value;
    Code code;
    const char* says;
  } cases[] = {
      {"tokenizer.ggml.model", GgufValue::Of("bert"), Code::kUnsupported, "type bert"},
      {"tokenizer.ggml.model", GgufValue::Of(uint32_t{1}), Code::kCorrupt, "tokenizer.ggml.model is not a string"},
      {"tokenizer.ggml.precompiled_charsmap", GgufValue::ArrayOf(std::vector<int32_t>(8)), Code::kCorrupt,
       "precompiled_charsmap is not an array of bytes"},
      {"tokenizer.ggml.remove_extra_whitespaces", GgufValue::Of(uint32_t{1}), Code::kCorrupt,
       "remove_extra_whitespaces is not true or false"},
      {"tokenizer.ggml.tokens", GgufValue::ArrayOf(std::vector<std::string>(7)), Code::kCorrupt,
       "tokenizer.ggml.tokens has 7 elements, but the vocabulary has 8"},
      {"tokenizer.ggml.tokens", GgufValue::ArrayOf(std::vector<float>(8)), Code::kCorrupt,
       "tokenizer.ggml.tokens is not an array of strings"},
      {"tokenizer.ggml.tokens", GgufValue::Of("x"), Code::kCorrupt, "tokenizer.ggml.tokens is not an array of strings"},
      {"tokenizer.ggml.scores", GgufValue::ArrayOf(std::vector<float>(7)), Code::kCorrupt,
       "tokenizer.ggml.scores has 7 elements"},
      {"tokenizer.ggml.scores", GgufValue::ArrayOf(std::vector<int32_t>(8)), Code::kCorrupt,
       "tokenizer.ggml.scores is not an array"},
      {"tokenizer.ggml.token_type", GgufValue::ArrayOf(std::vector<int32_t>(9)), Code::kCorrupt,
       "tokenizer.ggml.token_type has 9"},
      {"tokenizer.ggml.token_type", GgufValue::ArrayOf(std::vector<float>(8)), Code::kCorrupt,
       "token_type is not an array"},
      {"tokenizer.ggml.bos_token_id", GgufValue::Of(uint32_t{8}), Code::kCorrupt, "tokenizer.ggml.bos_token_id is 8"},
      {"tokenizer.ggml.eos_token_id", GgufValue::Of(uint32_t{99}), Code::kCorrupt, "tokenizer.ggml.eos_token_id is 99"},
      {"tokenizer.ggml.unknown_token_id", GgufValue::Of(uint64_t{1} << 40), Code::kCorrupt,
       "unknown_token_id is 1099511627776"},
      {"tokenizer.ggml.bos_token_id", GgufValue::Of("x"), Code::kCorrupt, "bos_token_id is not a whole number"},
      {"tokenizer.ggml.add_bos_token", GgufValue::Of(uint32_t{1}), Code::kCorrupt,
       "add_bos_token is not true or false"},
      {"tokenizer.ggml.add_bos_token", GgufValue::Raw({"\7\0\0\0\2", 5}), Code::kCorrupt, "neither"},
  };
  GgufBuilder plain = GgufBuilder::Llama();
  plain.Set("llama.vocab_size", GgufValue::Of(uint32_t{8}));
  for (const auto& c : cases) {
    GgufBuilder file = plain;
    file.Set(c.key, c.value);
    ExpectNoTexts(file, c.code, c.says);
  }
  GgufBuilder untold = plain;
  untold.Remove("tokenizer.ggml.tokens");
  ExpectNoTexts(untold, Code::kNotFound, "key tokenizer.ggml.tokens is missing");
  // What ends a text is known all the same, and the vocabulary's size.
  GgufBuilder file = GgufBuilder::Llama();
  file.Set("tokenizer.ggml.model", GgufValue::Of("bert"));
  file.Set("tokenizer.ggml.eos_token_id", GgufValue::Of(uint32_t{3}));
  file.Set("tokenizer.ggml.bos_token_id", GgufValue::Of(uint32_t{300}));
  Opened opened(file.Build());
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  EXPECT_EQ(opened->shape.vocab_size, 8u);
  EXPECT_EQ(opened->tokenizer.eos, 3u);
  EXPECT_EQ(opened->tokenizer.bos, kNoToken);
  EXPECT_EQ(opened->tokenizer.unk, kNoToken);
}

GgufBuilder ByteLevel(const char* pre) {
  GgufBuilder file = GgufBuilder::Llama();
  file.Remove("tokenizer.ggml.scores");
  file.Set("tokenizer.ggml.model", GgufValue::Of("gpt2"));
  file.Set("tokenizer.ggml.pre", GgufValue::Of(pre));
  file.Set("tokenizer.ggml.merges", GgufValue::ArrayOf(std::vector<std::string>{"a a", "a aa"}));
  return file;
}

TEST(Gguf, ByteLevelBpe) {
  for (size_t i = 1; i < kPreTokenizerNames.size(); ++i) {
    const std::string name(kPreTokenizerNames[i]);
    Opened opened(ByteLevel(name.c_str()).Build());
    ASSERT_TRUE(opened.model()) << opened.Sentence();
    EXPECT_FALSE(opened->tokenizer_fault);
    const TokenizerRef& ref = opened->tokenizer;
    EXPECT_TRUE(ref.present && ref.is_byte_level());
    EXPECT_EQ(PreTokenizerName(ref.pre), name);
    EXPECT_EQ(ref.num_merges, 2u);
    EXPECT_EQ(ref.num_tokens, 8u);
    EXPECT_EQ(ref.bos, kNoToken);
    EXPECT_EQ(ref.eos, kNoToken);
    EXPECT_EQ(ref.unk, kNoToken);
    EXPECT_EQ(ref.add_bos, name == "llama-bpe");
    EXPECT_FALSE(ref.add_space_prefix);
  }
  GgufBuilder file = ByteLevel("llama3");
  file.Set("tokenizer.ggml.bos_token_id", GgufValue::Of(uint32_t{1}));
  file.Set("tokenizer.ggml.eos_token_id", GgufValue::Of(uint32_t{2}));
  file.Set("tokenizer.ggml.add_bos_token", GgufValue::Of(false));
  Opened opened(file.Build());
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  EXPECT_EQ(opened->tokenizer.pre, PreTokenizer::kLlamaBpe);
  EXPECT_EQ(opened->tokenizer.bos, 1u);
  EXPECT_EQ(opened->tokenizer.eos, 2u);
  EXPECT_FALSE(opened->tokenizer.add_bos);
}

TEST(Gguf, ByteLevelBpeThatCannotBeUsed) {
  ExpectNoTexts(ByteLevel("tekken"), Code::kUnsupported, "divides texts into words as tekken does");
  ExpectNoTexts(ByteLevel(""), Code::kUnsupported, "which is not supported");
  const std::string long_name(60, 'x');
  ExpectNoTexts(ByteLevel(long_name.c_str()), Code::kUnsupported, "xxx does, which is not supported");
  for (const char* key : {"tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    GgufBuilder file = ByteLevel("gpt-2");
    file.Set("llama.vocab_size", GgufValue::Of(uint32_t{8}));
    file.Remove(key);
    ExpectNoTexts(file, Code::kNotFound, std::string("key ") + key + " is missing");
  }
  GgufBuilder file = ByteLevel("gpt-2");
  file.Set("tokenizer.ggml.merges", GgufValue::ArrayOf(std::vector<int32_t>(2)));
  ExpectNoTexts(file, Code::kCorrupt, "merges is not an array of strings");
}

TEST(Gguf, WhatATokenizerMayAskForAndLack) {
  GgufBuilder file = GgufBuilder::Llama();
  file.Remove("tokenizer.ggml.scores");
  file.Remove("tokenizer.ggml.token_type");
  file.Set("tokenizer.ggml.model", GgufValue::Of("t5"));
  file.Set("tokenizer.ggml.add_eos_token", GgufValue::Of(true));
  file.Set("tokenizer.ggml.remove_extra_whitespaces", GgufValue::Of(true));
  file.Set("tokenizer.ggml.precompiled_charsmap", GgufValue::ArrayOf(std::vector<uint8_t>(9)));
  file.Set("tokenizer.thimble.fuse_unk", GgufValue::Of(false));
  file.Set("tokenizer.thimble.escape_whitespaces", GgufValue::Of(false));
  for (const char* key : {"bos_token_id", "eos_token_id", "unknown_token_id", "add_bos_token", "add_space_prefix"}) {
    file.Remove(std::string("tokenizer.ggml.") + key);
  }
  Opened opened(file.Build());
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  EXPECT_FALSE(opened->tokenizer_fault);
  const TokenizerRef& ref = opened->tokenizer;
  EXPECT_TRUE(ref.is_unigram && ref.add_eos && ref.remove_extra_whitespaces);
  EXPECT_FALSE(ref.fuse_unknown || ref.escape_whitespaces || ref.add_bos || ref.add_space_prefix);
  EXPECT_EQ(ref.scores_offset, 0u);
  EXPECT_EQ(ref.types_offset, 0u);
  EXPECT_EQ(ref.charsmap_bytes, 9u);
  EXPECT_NE(ref.charsmap_offset, 0u);
  EXPECT_EQ(ref.bos, kNoToken);
  EXPECT_EQ(ref.eos, 1u);
  EXPECT_EQ(ref.unk, 2u);
}

TEST(Gguf, AVocabularyOfAnyArchitecture) {
  const auto open = [](const GgufBuilder& file) {
    const std::string bytes = file.Build();
    host::RamDevice device(std::as_bytes(std::span(bytes)));
    const storage::Extent extent{.size_bytes = bytes.size()};
    Ledger ledger;
    storage::FileReader reader(device, {.extents = {&extent, 1}, .size_bytes = bytes.size()}, ledger);
    alignas(64) std::byte buffer[1024];
    storage::ByteReader reading(reader, buffer);
    return OpenGgufVocabulary(reading);
  };
  GgufBuilder file = GgufBuilder::Llama();
  file.Set("general.architecture", GgufValue::Of("starcoder2"));
  file.Set("llama.attention.causal", GgufValue::Of("x"));
  file.Remove("llama.block_count");
  const Result<TokenizerRef> ref = open(file);
  ASSERT_TRUE(ref);
  EXPECT_TRUE(ref->present);
  EXPECT_EQ(ref->num_tokens, 8u);
  file.Set("tokenizer.ggml.model", GgufValue::Of("bert"));
  EXPECT_EQ(open(file).error().code, Code::kUnsupported);
  file.Remove("tokenizer.ggml.model");
  EXPECT_EQ(open(file).error().code, Code::kNotFound);
}

std::vector<TokenId> EndsOf(const GgufBuilder& file) {
  Opened opened(file.Build());
  EXPECT_TRUE(opened.model()) << opened.Sentence();
  if (!opened.model()) return {};
  opened.CheckInvariants();
  EXPECT_FALSE(opened->tokenizer_fault);
  const std::span<const TokenId> ends = opened->tokenizer.ends.ids();
  for (const TokenId id : ends) EXPECT_TRUE(opened->tokenizer.EndsText(id));
  EXPECT_TRUE(opened->tokenizer.EndsText(opened->tokenizer.eos));
  return {ends.begin(), ends.end()};
}

// Besides eos: what keys name, and control tokens that are called like one.
TEST(Gguf, TokensThatEndATurnEndAText) {
  GgufBuilder file = GgufBuilder::Llama(2, 16);
  EXPECT_THAT(EndsOf(file), testing::IsEmpty());  // </s> is eos
  file.Set("tokenizer.ggml.eot_token_id", GgufValue::Of(uint32_t{5}));
  file.Set("tokenizer.ggml.eom_token_id", GgufValue::Of(int32_t{-1}));
  EXPECT_THAT(EndsOf(file), testing::ElementsAre(5));
  file.Set("tokenizer.ggml.eom_token_id", GgufValue::Of(uint64_t{6}));
  file.Set("tokenizer.thimble.end_token_ids", GgufValue::ArrayOf(std::vector<uint32_t>{7, 5, 2, 1, 99, 8}));
  EXPECT_THAT(EndsOf(file), testing::ElementsAre(5, 6, 7, 8));
  file.Set("tokenizer.thimble.end_token_ids", GgufValue::ArrayOf(std::vector<int32_t>{7, 8, 9, 10, 11, 12, 13, 14}));
  EXPECT_THAT(EndsOf(file), testing::ElementsAre(5, 6, 7, 8, 9, 10, 11, 12));

  GgufBuilder named = GgufBuilder::Llama(2, 8);
  named.Set("tokenizer.ggml.tokens",
            GgufValue::ArrayOf(std::vector<std::string>{"<unk>", "<s>", "</s>", "<|im_end|>", "<|eot_id|>", "a",
                                                        "<end_of_turn>", "<|end_of_text|>"}));
  EXPECT_THAT(EndsOf(named), testing::IsEmpty());  // texts
  named.Set("tokenizer.ggml.token_type", GgufValue::ArrayOf(std::vector<int32_t>{2, 3, 3, 3, 4, 3, 3, 3}));
  EXPECT_THAT(EndsOf(named), testing::ElementsAre(3, 6, 7));
  named.Set("tokenizer.ggml.eos_token_id", GgufValue::Of(uint32_t{6}));
  EXPECT_THAT(EndsOf(named), testing::ElementsAre(2, 3, 7));

  ExpectNoTexts(
      [] {
        GgufBuilder wrong = GgufBuilder::Llama();
        wrong.Set("tokenizer.thimble.end_token_ids", GgufValue::Of(uint32_t{7}));
        return wrong;
      }(),
      Code::kCorrupt, "end_token_ids is not an array");
}

TEST(Gguf, SaysWhereTheChatTemplateIs) {
  GgufBuilder file = GgufBuilder::Llama();
  Opened without(file.Build());
  ASSERT_TRUE(without.model());
  EXPECT_EQ(without->tokenizer.chat_template.bytes, 0u);
  const std::string jinja = "{% for message in messages %}";
  file.Set("tokenizer.chat_template", GgufValue::Of(std::string_view(jinja)));
  const std::string bytes = file.Build();
  Opened opened(bytes);
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  const ByteRange& range = opened->tokenizer.chat_template;
  EXPECT_EQ(bytes.substr(static_cast<size_t>(range.offset), static_cast<size_t>(range.bytes)), jinja);
  // A list of them is nothing that is looked at.
  file.Set("tokenizer.chat_template", GgufValue::ArrayOf(std::vector<std::string>{jinja}));
  Opened list(file.Build());
  ASSERT_TRUE(list.model());
  EXPECT_FALSE(list->tokenizer_fault);
  EXPECT_EQ(list->tokenizer.chat_template.bytes, 0u);
}

TEST(Gguf, AModelMayHaveNoTokenizer) {
  for (const char* model : {"none", "no_vocab", ""}) {
    GgufBuilder file = GgufBuilder::Llama();
    for (const char* key : {"model", "tokens", "scores", "token_type"})
      file.Remove(std::string("tokenizer.ggml.") + key);
    if (*model != '\0') file.Set("tokenizer.ggml.model", GgufValue::Of(model));
    ExpectRefused(file, Code::kNotFound, "llama.vocab_size is missing");
    file.Set("llama.vocab_size", GgufValue::Of(uint32_t{8}));
    file.Set("tokenizer.ggml.eos_token_id", GgufValue::Of(uint32_t{3}));
    Opened opened(file.Build());
    ASSERT_TRUE(opened.model()) << opened.Sentence();
    opened.CheckInvariants();
    EXPECT_FALSE(opened->tokenizer.present);
    EXPECT_FALSE(opened->tokenizer_fault);
    EXPECT_EQ(opened->tokenizer.num_tokens, 0u);
    EXPECT_EQ(opened->tokenizer.eos, 3u);
    EXPECT_EQ(opened->tokenizer.bos, kNoToken);
  }
}

TEST(Gguf, RefusesWrongHeaders) {
  GgufBuilder file = GgufBuilder::Llama();
  file.magic = "ggjt";
  ExpectRefused(file, Code::kUnsupported, "not a GGUF file");
  file.magic = "GGUF";
  for (uint32_t version : {0u, 1u, 4u, 0x10003u}) {
    file.version = version;
    ExpectRefused(file, Code::kUnsupported, "version " + std::to_string(version));
  }
  file.version = 0x03000000;
  ExpectRefused(file, Code::kUnsupported, "big-endian");

  const std::string bytes = GgufBuilder::Llama().Build();
  for (size_t at : {8, 16}) {
    for (uint64_t count : {uint64_t{1} << 20, uint64_t{1} << 40, ~uint64_t{0}}) {
      std::string changed = bytes;
      std::memcpy(changed.data() + at, &count, 8);
      Opened opened(changed);
      ASSERT_FALSE(opened.model());
      EXPECT_EQ(opened.model().error().code, Code::kCorrupt);
      EXPECT_THAT(opened.Sentence(), HasSubstr("more than the file has room for"));
    }
  }
}

TEST(Gguf, RefusesWrongTensors) {
  const GgufBuilder plain = GgufBuilder::Llama();
  const auto with = [&](const char* name, auto change) {
    GgufBuilder file = plain;
    change(file.Tensor(name));
    return file;
  };
  for (const GgufTensor& tensor : plain.tensors) {
    GgufBuilder file = plain;
    file.RemoveTensor(tensor.name);
    if (tensor.name != "output.weight") ExpectRefused(file, Code::kNotFound, "tensor " + tensor.name + " is missing");
    file = plain;
    file.tensors.push_back(tensor);
    ExpectRefused(file, Code::kCorrupt, "tensor " + tensor.name + " is there twice");
    ExpectRefused(with(tensor.name.c_str(), [](GgufTensor& t) { t.dimensions[0] += 1; }), Code::kCorrupt,
                  "tensor " + tensor.name + " has ");
    ExpectRefused(with(tensor.name.c_str(), [](GgufTensor& t) { t.dimensions = {}; }), Code::kCorrupt,
                  "tensor " + tensor.name + " has 0 dimensions");
    ExpectRefused(with(tensor.name.c_str(), [](GgufTensor& t) { t.dimensions.resize(5, 1); }), Code::kCorrupt,
                  "tensor " + tensor.name + " has 5 dimensions");
    ExpectRefused(with(tensor.name.c_str(), [](GgufTensor& t) { t.dimensions.resize(3, 2); }), Code::kCorrupt,
                  "tensor " + tensor.name + " has ");
    ExpectRefused(with(tensor.name.c_str(), [](GgufTensor& t) { t.offset = 4; }), Code::kCorrupt,
                  "tensor " + tensor.name + " starts at byte 4");
    ExpectRefused(with(tensor.name.c_str(), [](GgufTensor& t) { t.offset = 4096; }), Code::kCorrupt,
                  "tensor " + tensor.name + " does not lie inside the file");
    ExpectRefused(with(tensor.name.c_str(), [](GgufTensor& t) { t.offset = std::numeric_limits<int64_t>::max() - 31; }),
                  Code::kCorrupt, "tensor " + tensor.name + " does not lie inside the file");
  }
  struct {
    uint32_t type;
    const char* name;
  } types[] = {{10, "Q2_K"},
               {9, "Q8_1"},
               {11, "Q3_K"},
               {23, "IQ4_XS"},
               {16, "IQ2_XXS"},
               {24, "I8"},
               {34, "TQ1_0"},
               {39, "MXFP4"},
               {28, "F64"},
               {31, "a type that is not known here"},
               {0xffffffff, "a type that is not known here"}};
  for (const auto& type : types) {
    ExpectRefused(with("blk.1.ffn_up.weight", [&](GgufTensor& t) { t.type = type.type; }), Code::kUnsupported,
                  std::string("tensor blk.1.ffn_up.weight is stored as ") + type.name + ", which is none of F32");
  }
  ExpectRefused(with("blk.1.ffn_up.weight", [](GgufTensor& t) { t.type = 8; }), Code::kCorrupt,
                "tensor blk.1.ffn_up.weight is stored in blocks of 32, and its rows of 4 are no whole blocks");
  for (const uint32_t type : {2u, 3u, 6u, 7u, 12u, 13u, 14u, 20u}) {
    const char* const size = type >= 12 && type <= 14 ? "256" : "32";
    ExpectRefused(with("blk.1.ffn_up.weight", [&](GgufTensor& t) { t.type = type; }), Code::kCorrupt,
                  std::string("stored in blocks of ") + size + ", and its rows of 4 are no whole blocks");
  }
  struct {
    const char* name;
    const char* says;
  } names[] = {{"rope_factors_long.weight", "scales its rotary positions (tensor rope_factors_long.weight)"},
               {"rope_factors_long.weight", "scales its rotary positions"},
               {"blk.0.attn_q.bias", "has a bias (tensor blk.0.attn_q.bias)"},
               {"output.bias", "has a bias"},
               {"blk.0.attn_q_norm.weight", "tensor blk.0.attn_q_norm.weight is not part of a plain model"},
               {"blk.0.ffn_gate_exps.weight", "not part of"},
               {"blk.00.attn_q.weight", "not part of"},
               {"blk.1.output.weight", "not part of"},
               {"blk.-1.attn_q.weight", "not part of"},
               {"blk.65536.attn_q.weight", "not part of"},
               {"blk..attn_q.weight", "not part of"},
               {"blk.4294967296.attn_q.weight", "not part of"},
               {"blk.1", "not part of"},
               {"", "not part of"}};
  for (const auto& name : names) {
    GgufBuilder file = plain;
    file.tensors.push_back({name.name, {4}});
    ExpectRefused(file, Code::kUnsupported, name.says);
  }
  GgufBuilder file = plain;
  file.tensors.push_back({std::string(1000, 'y'), {4}});
  ExpectRefused(file, Code::kUnsupported, "tensor yyyy");
}

TEST(Gguf, SaysWhichArenaIsTooSmall) {
  const std::string bytes = GgufBuilder::Llama(80).Build();
  Opened opened(bytes);
  ASSERT_FALSE(opened.model());
  EXPECT_EQ(opened.model().error().code, Code::kOutOfMemory);
  EXPECT_THAT(opened.Sentence(), HasSubstr("psram"));
}

TEST(Gguf, AFileCutOffAnywhereIsRefused) {
  GgufBuilder file = GgufBuilder::Llama(1);
  const std::string bytes = file.Build();
  for (size_t size = 1; size < bytes.size(); ++size) {
    Opened opened(bytes, size);
    ASSERT_FALSE(opened.model()) << size;
    ASSERT_THAT(opened.Sentence(), IsWhole());
    ASSERT_EQ(opened.arena().used_bytes(), 0u);
  }
}

TEST(Gguf, AnyChangedByteIsRefusedOrHarmless) {
  const std::string bytes = GgufBuilder::Llama(1, 8, 4, 6, 2, 1, 2).Build();
  const size_t data_bytes = 4 * (8 * 4 * 2 + 3 * 4 + 16 + 8 + 8 + 16 + 3 * 24);
  int refused = 0;
  for (size_t at = 0; at < bytes.size() - data_bytes; ++at) {
    for (int change : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string changed = bytes;
      changed[at] = static_cast<char>(changed[at] ^ change);
      Opened opened(changed);
      if (opened.model()) {
        opened.CheckInvariants();
      } else {
        ++refused;
        ASSERT_THAT(opened.Sentence(), IsWhole());
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace thimble::formats
