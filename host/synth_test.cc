#include "host/synth.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "host/atomic_file.h"
#include "host/gguf_writer.h"
#include "tests/support/checkpoints.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::HasSubstr;

SynthPreset Shape(std::string_view name, std::string_view changes = "") {
  const auto preset = SynthShape(name, changes);
  EXPECT_TRUE(preset) << preset.error();
  return preset.value_or(SynthPresets().front());
}

GgufContent Written(const SynthPreset& preset, uint64_t seed, const TemporaryFolder& folder) {
  auto file = AtomicFile::Create(folder / "x.gguf", {});
  EXPECT_TRUE(file && WriteGguf(MakeSynth(preset, seed), WrittenType::kF32, "synth", file->sink()) && file->Commit());
  return ReadGguf(folder / "x.gguf");
}

std::vector<float> Row(WeightSource& weights, TensorId id, uint32_t row, uint32_t cols) {
  std::vector<float> values(cols);
  EXPECT_TRUE(weights.ReadRows(id, row, values));
  return values;
}

TEST(Synth, TinyLlmHasTheParametersOfTinyLlm) {
  const TemporaryFolder folder;
  const SynthPreset preset = Shape("tiny-llm");
  EXPECT_EQ(CountParameters(preset.shape, preset.tied), 12'988'992u);
  const GgufContent gguf = Written(preset, 1, folder);
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : gguf.tensors) bytes += tensor.bytes.size();
  EXPECT_EQ(bytes, 51'955'968u);
  EXPECT_EQ(gguf.tensors.size(), 12u);
  EXPECT_EQ(gguf.tensors.at("token_embd.weight").dims, (std::vector<uint64_t>{192, 32000}));
  EXPECT_EQ(gguf.tensors.at("output.weight").dims, (std::vector<uint64_t>{192, 32000}));
  EXPECT_EQ(gguf.tensors.at("blk.0.attn_q.weight").dims, (std::vector<uint64_t>{192, 192}));
  EXPECT_EQ(gguf.tensors.at("blk.0.attn_k.weight").dims, (std::vector<uint64_t>{192, 96}));
  EXPECT_EQ(gguf.tensors.at("blk.0.ffn_down.weight").dims, (std::vector<uint64_t>{1024, 192}));
  EXPECT_EQ(gguf.keys.at("llama.context_length"), 1024);
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.tokens").size(), 32000u);
}

TEST(Synth, TheDescriptionsTellTheTruth) {
  for (const SynthPreset& preset : SynthPresets()) {
    const uint64_t n = CountParameters(preset.shape, preset.tied);
    if (n > 1'000'000) {
      EXPECT_THAT(preset.description, HasSubstr(fmt::format("{} {:03} {:03} parameters, {:.2f} MB", n / 1'000'000,
                                                            n / 1000 % 1000, n % 1000, static_cast<double>(n) * 4e-6)));
    } else {
      EXPECT_THAT(preset.description, HasSubstr(fmt::format("{:.1f} MB", static_cast<double>(n) * 4e-6)));
    }
  }
}

// FNV-1a over all weights: these bits are what every computer must make.
TEST(Synth, TheSameSeedGivesTheSameBits) {
  const SynthPreset preset = Shape("small");
  const auto hash = [&](uint64_t seed) {
    const Checkpoint checkpoint = MakeSynth(preset, seed);
    uint64_t h = 0xcbf29ce484222325;
    for (TensorId id : GgufTensorOrder(preset.shape, preset.tied)) {
      const TensorDims dims = DimsOf(id.kind, preset.shape);
      for (uint32_t row = 0; row < dims.rows; ++row) {
        for (float value : Row(*checkpoint.weights, id, row, dims.cols)) {
          uint32_t bits;
          std::memcpy(&bits, &value, 4);
          h = (h ^ bits) * 0x100000001b3;
        }
      }
    }
    return h;
  };
  EXPECT_EQ(hash(1), hash(1));
  EXPECT_NE(hash(1), hash(2));
  EXPECT_EQ(hash(1), 0xd97daf9941ad68e9u);
}

TEST(Synth, RowsDoNotDependOnHowTheyAreRead) {
  const SynthPreset preset = Shape("small");
  const Checkpoint checkpoint = MakeSynth(preset, 3);
  const TensorId id = {TensorKind::kFfnDown, 1};
  std::vector<float> all(size_t{64} * 172);
  ASSERT_TRUE(checkpoint.weights->ReadRows(id, 0, all));
  for (uint32_t row = 0; row < 64; ++row) {
    const std::vector<float> one = Row(*checkpoint.weights, id, row, 172);
    EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + row * 172));
  }
}

TEST(Synth, WeightsHaveTheScaleThatKeepsActivationsNearOne) {
  const SynthPreset preset = Shape("tiny-llm");
  const Checkpoint checkpoint = MakeSynth(preset, 1);
  const auto deviation = [&](TensorKind kind, double& mean) {
    const TensorDims dims = DimsOf(kind, preset.shape);
    double sum = 0;
    double squares = 0;
    double n = 0;
    for (uint32_t row = 0; row < std::min(dims.rows, 200u); ++row) {
      for (float value : Row(*checkpoint.weights, {kind, 0}, row, dims.cols)) {
        sum += value;
        squares += double{value} * value;
        ++n;
      }
    }
    mean = sum / n;
    return std::sqrt(squares / n - mean * mean);
  };
  double mean;
  EXPECT_NEAR(deviation(TensorKind::kTokenEmbd, mean), 1, 0.03);
  EXPECT_NEAR(mean, 0, 0.03);
  EXPECT_NEAR(deviation(TensorKind::kLmHead, mean) * std::sqrt(192), 3, 0.1);
  EXPECT_NEAR(deviation(TensorKind::kAttnQ, mean) * std::sqrt(192), 1.5, 0.05);
  EXPECT_NEAR(deviation(TensorKind::kFfnDown, mean) * 32, 1, 0.03);
  EXPECT_LT(deviation(TensorKind::kAttnNorm, mean), 0.25);
  EXPECT_NEAR(mean, 1, 0.05);
  for (float value : Row(*checkpoint.weights, {TensorKind::kFinalNorm, 0}, 0, 192)) {
    EXPECT_GE(value, 0.75f);
    EXPECT_LE(value, 1.25f);
  }
}

TEST(Synth, TensorsAreNotCopiesOfEachOther) {
  const SynthPreset preset = Shape("small");
  const Checkpoint checkpoint = MakeSynth(preset, 1);
  std::set<std::vector<float>> rows;
  size_t n = 0;
  for (TensorId id : GgufTensorOrder(preset.shape, preset.tied)) {
    const TensorDims dims = DimsOf(id.kind, preset.shape);
    for (uint32_t row = 0; row < dims.rows; ++row, ++n) {
      std::vector<float> values = Row(*checkpoint.weights, id, row, dims.cols);
      const float scale = values[0];
      for (float& value : values) value /= scale;
      rows.insert(values);
    }
  }
  EXPECT_EQ(rows.size(), n);
}

TEST(Synth, EveryWordIsTheSumOfTwoEarlierPieces) {
  for (const char* changes : {"vocab_size=512", "vocab_size=700", "vocab_size=32000", "vocab_size=200000"}) {
    const Checkpoint checkpoint = MakeSynth(Shape("small", changes), 1);
    const Vocabulary& vocabulary = checkpoint.vocabulary;
    EXPECT_EQ(vocabulary.tokens.size(), checkpoint.shape.vocab_size);
    std::set<std::string> seen;
    float last_score = 1;
    for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
      const std::string& token = vocabulary.tokens[id];
      if (vocabulary.types[id] == TokenType::kNormal) {
        const size_t first = token.starts_with("\u2581") ? 3 : 1;
        bool is_sum = token.size() == first;
        for (size_t cut = first; cut < token.size(); ++cut) {
          is_sum |= seen.contains(token.substr(0, cut)) && seen.contains(token.substr(cut));
        }
        EXPECT_TRUE(is_sum) << token;
        EXPECT_LT(vocabulary.scores[id], last_score);
        last_score = vocabulary.scores[id];
      }
      EXPECT_TRUE(seen.insert(token).second) << token;
    }
  }
}

TEST(Synth, ShapesAreChangedByName) {
  const SynthPreset preset = Shape("tiny-llm",
                                   "vocab_size=300,hidden_size=8,intermediate_size=9,num_hidden_layers=3,"
                                   "num_attention_heads=4,num_key_value_heads=2,head_dim=6,"
                                   "max_position_embeddings=17,tie_word_embeddings=true");
  EXPECT_EQ(preset.shape.vocab_size, 300u);
  EXPECT_EQ(preset.shape.hidden_size, 8u);
  EXPECT_EQ(preset.shape.intermediate_size, 9u);
  EXPECT_EQ(preset.shape.num_hidden_layers, 3u);
  EXPECT_EQ(preset.shape.num_attention_heads, 4u);
  EXPECT_EQ(preset.shape.num_key_value_heads, 2u);
  EXPECT_EQ(preset.shape.head_dim, 6u);
  EXPECT_EQ(preset.shape.max_position_embeddings, 17u);
  EXPECT_TRUE(preset.tied);
  const TemporaryFolder folder;
  const GgufContent gguf = Written(preset, 1, folder);
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.model"), "no_vocab");
  EXPECT_FALSE(gguf.tensors.contains("output.weight"));
}

TEST(Synth, ShapesThatMakeNoSenseAreRefused) {
  EXPECT_FALSE(SynthShape("", ""));
  EXPECT_THAT(SynthShape("huge", "").error(), HasSubstr("tiny-llm"));
  for (const char* changes :
       {"hidden_size", "hidden_size=", "hidden_size=0", "hidden_size=-1", "hidden_size=1x", "hidden_size=1.5", "=1",
        "hidden_size=2000000", "vocab_size=99999999999", "x=1", ",", "hidden_size=8,,head_dim=2", "head_dim=3",
        "num_key_value_heads=3", "tie_word_embeddings=1", "num_attention_heads=131072", " hidden_size=8"}) {
    const auto preset = SynthShape("small", changes);
    ASSERT_FALSE(preset) << changes;
    EXPECT_THAT(preset.error(), HasSubstr("--shape"));
  }
}

}  // namespace
}  // namespace thimble::host
