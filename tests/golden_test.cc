// The engine against other people's numbers: Hugging Face transformers in float32 and llama2.c's run.c.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/models/card_open.h"
#include "host/models/convert.h"
#include "tests/support/checkpoints.h"
#include "tests/support/open_model.h"
#include "tests/support/tool.h"

namespace thimble::tests {
namespace {

using nlohmann::json;
using Ids = std::vector<TokenId>;

// Largest difference of a logit, as a part of the logits' range.
constexpr double kShortTolerance = 1e-5;  // up to 128 positions
constexpr double kLongTolerance = 1e-4;   // beyond

constexpr char kGoldens[] = "tests/goldens";

json ReadJson(const std::string& path) { return json::parse(ReadFile(path), nullptr, false); }

std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), values.size() * 4);
  return values;
}

// A model file or card, opened inside an ESP32-CAM's memory.
class FileModel {
 public:
  explicit FileModel(const std::string& path) {
    host::Expected<host::OpenedModel> opened = host::OpenModelFile(path, "");
    if (!opened) {
      ADD_FAILURE() << opened.error();
      return;
    }
    file_ = std::move(*opened);
    model_ = std::make_unique<OpenModel>(*file_.device, OpenModel::Options{}, file_.file.extents);
    EXPECT_NE(model_->session(), nullptr) << model_->error();
  }
  Session* session() { return model_ ? model_->session() : nullptr; }

 private:
  host::OpenedModel file_;
  std::unique_ptr<OpenModel> model_;
};

class GoldenTest : public testing::Test {
 protected:
  // Converts `source` and returns the GGUF file's path.
  std::string Converted(const std::string& source, const std::string& tokenizer = "") {
    const std::string out = folder_ / ("model" + std::to_string(++converted_) + ".gguf");
    const auto notes = host::Convert({.source = source, .out = out, .tokenizer = tokenizer});
    EXPECT_TRUE(notes.has_value()) << notes.error();
    return out;
  }

  // A card image with `gguf` on it.
  std::string Card(const std::string& gguf) {
    const ToolRun run = RunTool({"card", gguf, "-o", gguf + ".img"});
    EXPECT_EQ(run.exit_code, 0) << run.error;
    return gguf + ".img";
  }

  // Compares the session's logits with `want`, [vocab_size].
  void ExpectLogits(const Session& session, const float* want, double range, size_t position) {
    ASSERT_FALSE(session.logits().empty());
    double worst = 0;
    for (float logit : session.logits()) worst = std::max(worst, std::abs(double{logit} - double{*want++}));
    EXPECT_LE(worst / range, position < 128 ? kShortTolerance : kLongTolerance) << "position " << position;
    worst_ = std::max(worst_, worst / range);
  }

  TemporaryFolder folder_;
  double worst_ = 0;

 private:
  int converted_ = 0;
};

std::vector<std::string> GoldenNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(THIMBLE_ROOT "/tests/goldens")) {
    if (entry.is_directory()) names.push_back(entry.path().filename());
  }
  std::ranges::sort(names);
  return names;
}

class Golden : public GoldenTest, public testing::WithParamInterface<std::string> {};

INSTANTIATE_TEST_SUITE_P(, Golden, testing::ValuesIn(GoldenNames()), [](const auto& name) {
  std::string text = name.param;
  std::ranges::replace(text, '-', '_');
  return text;
});

TEST_P(Golden, LogitsAndGreedyIds) {
  const std::string source = std::string(kGoldens) + "/" + GetParam();
  const json expected = ReadJson(source + "/expected.json");
  ASSERT_TRUE(expected.is_object());
  const auto prompt = expected["prompt_ids"].get<Ids>();
  const auto greedy = expected["greedy_ids"].get<Ids>();
  const auto positions = expected["logits_positions"].get<std::vector<size_t>>();
  const std::vector<float> logits = Floats(ReadFile(source + "/expected.bin"));
  const auto range = expected["logits_range"].get<double>();

  FileModel model(Converted(source));
  ASSERT_NE(model.session(), nullptr);
  Session& session = *model.session();
  const size_t vocab_size = session.shape().vocab_size;
  ASSERT_EQ(logits.size(), positions.size() * vocab_size);
  ASSERT_TRUE(session.Prefill(prompt));
  size_t compared = 0;
  for (size_t i = 0; i < greedy.size(); ++i) {
    const Result<TokenId> id = session.Next({.temperature = 0});
    ASSERT_TRUE(id) << id.error().what;
    const size_t position = prompt.size() - 1 + i;
    if (std::ranges::binary_search(positions, position)) {
      ExpectLogits(session, logits.data() + compared++ * vocab_size, range, position);
    }
    ASSERT_EQ(*id, greedy[i]) << "greedy id " << i;
  }
  EXPECT_EQ(compared, positions.size());
  RecordProperty("largest_difference", std::to_string(worst_));
}

// The cases that the tests are meant to cover are there, and their attention is sharp.
TEST(Goldens, CoverWhatTheyShould) {
  std::map<std::string, int> seen;
  for (const std::string& name : GoldenNames()) {
    const json config = ReadJson(std::string(kGoldens) + "/" + name + "/config.json");
    const json expected = ReadJson(std::string(kGoldens) + "/" + name + "/expected.json");
    const int heads = config["num_attention_heads"], kv_heads = config["num_key_value_heads"];
    const int hidden = config["hidden_size"];
    seen[kv_heads == heads ? "MHA" : kv_heads == 1 ? "MQA" : "GQA"]++;
    seen[config.value("tie_word_embeddings", false) ? "tied" : "untied"]++;
    seen[config.value("torch_dtype", config.value("dtype", ""))]++;
    if (config.contains("rope_parameters") || config["rope_theta"] != 10000.0) seen["other rope_theta"]++;
    if (config.value("head_dim", hidden / heads) * heads != hidden) seen["own head_dim"]++;
    if (hidden % 8 != 0) seen["not divisible by 8"]++;
    seen[config["model_type"]]++;
    const json rope = config.contains("rope_parameters") ? config["rope_parameters"] : config["rope_scaling"];
    if (rope.is_object()) seen["rope " + rope.value("rope_type", rope.value("type", ""))]++;
    const size_t length = expected["prompt_ids"].size() + expected["greedy_ids"].size();
    // The last greedy id is chosen at the last position there is.
    if (length == config["max_position_embeddings"].get<size_t>() + 1) seen["full context"]++;
    for (const json& deviation : expected["score_deviations"]) EXPECT_GE(deviation.get<double>(), 3) << name;
    for (const json& gap : expected["greedy_gaps"]) EXPECT_GE(gap.get<double>(), 1e-3) << name;
    EXPECT_LE(expected["float64_difference"].get<double>(), kShortTolerance / 2) << name;
  }
  for (const char* kind :
       {"MHA", "MQA", "GQA", "tied", "untied", "float32", "float16", "bfloat16", "other rope_theta", "own head_dim",
        "not divisible by 8", "full context", "llama", "qwen2", "qwen3", "rope llama3", "rope linear"}) {
    EXPECT_GE(seen[kind], 1) << kind;
  }
}

// ---- Same bits, whatever the weights came in ----

class SameBitsTest : public GoldenTest {
 protected:
  GreedyRun Greedy(const std::string& path, const Ids& prompt, int n) {
    FileModel model(path);
    return model.session() != nullptr ? RunGreedy(*model.session(), prompt, n) : GreedyRun{};
  }
  const Ids prompt_ = {1, 57, 133, 4, 128, 42, 42, 7, 196};
};

TEST_F(SameBitsTest, FromAFileAndFromACard) {
  const std::string gguf = Converted("tests/goldens/gqa");
  const GreedyRun run = Greedy(gguf, prompt_, 64);
  EXPECT_EQ(run.ids.size(), 64u);
  EXPECT_EQ(Greedy(Card(gguf), prompt_, 64), run);
}

// The rows of each head of [heads * head_dim, cols] from Hugging Face's order to llama2.c's: row i of a half beside its
// partner of the other half.
std::string Interleave(const std::string& rows, size_t heads, size_t head_dim) {
  std::string out(rows.size(), '\0');
  const size_t row_bytes = rows.size() / (heads * head_dim);
  for (size_t row = 0; row < heads * head_dim; ++row) {
    const size_t head = row / head_dim, i = row % head_dim;
    const size_t to = head * head_dim + (i < head_dim / 2 ? 2 * i : 2 * (i - head_dim / 2) + 1);
    std::memcpy(&out[to * row_bytes], &rows[row * row_bytes], row_bytes);
  }
  return out;
}

TEST_F(SameBitsTest, FromHuggingFaceAndFromLlama2c) {
  const std::string folder = "tests/goldens/gqa";
  const json config = ReadJson(folder + "/config.json");
  const std::string weights = ReadFile(folder + "/model.safetensors");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, weights.data(), 8);
  const json header = json::parse(weights.substr(8, header_bytes), nullptr, false);
  const auto tensor = [&](const std::string& name) {
    const json& offsets = header[name]["data_offsets"];
    const size_t begin = offsets[0], end = offsets[1];
    return weights.substr(8 + header_bytes + begin, end - begin);
  };

  Llama2cModel llama2c;
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "vocab_size", "max_position_embeddings"}) {
    llama2c.header.push_back(config[key]);
  }
  const size_t heads = config["num_attention_heads"], kv_heads = config["num_key_value_heads"];
  const size_t head_dim = config["hidden_size"].get<size_t>() / heads;
  llama2c.tied = false;
  llama2c.header[5] *= -1;  // vocab_size; negative where the LM head is a tensor of its own
  llama2c.tensors["token_embd.weight"] = tensor("model.embed_tokens.weight");
  llama2c.tensors["output_norm.weight"] = tensor("model.norm.weight");
  llama2c.tensors["output.weight"] = tensor("lm_head.weight");
  for (int i = 0; i < config["num_hidden_layers"]; ++i) {
    const std::string hf = "model.layers." + std::to_string(i) + ".", gguf = "blk." + std::to_string(i) + ".";
    llama2c.tensors[gguf + "attn_q.weight"] = Interleave(tensor(hf + "self_attn.q_proj.weight"), heads, head_dim);
    llama2c.tensors[gguf + "attn_k.weight"] = Interleave(tensor(hf + "self_attn.k_proj.weight"), kv_heads, head_dim);
    llama2c.tensors[gguf + "attn_v.weight"] = tensor(hf + "self_attn.v_proj.weight");
    llama2c.tensors[gguf + "attn_output.weight"] = tensor(hf + "self_attn.o_proj.weight");
    llama2c.tensors[gguf + "attn_norm.weight"] = tensor(hf + "input_layernorm.weight");
    llama2c.tensors[gguf + "ffn_norm.weight"] = tensor(hf + "post_attention_layernorm.weight");
    llama2c.tensors[gguf + "ffn_gate.weight"] = tensor(hf + "mlp.gate_proj.weight");
    llama2c.tensors[gguf + "ffn_up.weight"] = tensor(hf + "mlp.up_proj.weight");
    llama2c.tensors[gguf + "ffn_down.weight"] = tensor(hf + "mlp.down_proj.weight");
  }
  WriteFile(folder_ / "model.bin", llama2c.File());
  EXPECT_EQ(Greedy(Converted(folder_ / "model.bin"), prompt_, 64), Greedy(Converted(folder), prompt_, 64));
}

// ---- Models that are not part of this tree ----

class RealModels : public SameBitsTest {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("THIMBLE_REAL_MODELS");
    if (folder == nullptr) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
    root_ = folder;
  }
  std::string root_;
};

TEST_F(RealModels, TinyLlamaLogits) {
  const std::string folder = root_ + "/tiny-llama-hf-random";
  const json meta = ReadJson(folder + "/expected/meta.json");
  const auto ids = meta["input_ids"].get<Ids>();
  const std::string activations = ReadFile(folder + "/expected/activations.safetensors");
  uint64_t header_bytes = 0;
  ASSERT_GE(activations.size(), 8u);
  std::memcpy(&header_bytes, activations.data(), 8);
  const json header = json::parse(activations.substr(8, header_bytes), nullptr, false);
  const json& offsets = header["logits"]["data_offsets"];
  const size_t begin = offsets[0], end = offsets[1];
  const std::vector<float> logits = Floats(activations.substr(8 + header_bytes + begin, end - begin));
  const auto [low, high] = std::ranges::minmax(logits);

  FileModel model(Converted(folder));
  ASSERT_NE(model.session(), nullptr);
  Session& session = *model.session();
  ASSERT_EQ(logits.size(), ids.size() * session.shape().vocab_size);
  for (size_t i = 0; i < ids.size(); ++i) {
    ASSERT_TRUE(session.Prefill(std::span(ids).subspan(i, 1)));
    ExpectLogits(session, logits.data() + i * session.shape().vocab_size, double{high} - double{low}, i);
  }
}

TEST_F(RealModels, TinyLlamaGreedyIds) {
  const std::string folder = root_ + "/tiny-llama-hf-random";
  const std::string gguf = Converted(folder);
  const json expected = ReadJson(folder + "/expected/generate.json");
  ASSERT_EQ(expected["cases"].size(), 3u);
  for (const json& one : expected["cases"]) {
    const auto want = one["generated_ids"].get<Ids>();
    EXPECT_EQ(Greedy(gguf, one["prompt_ids"].get<Ids>(), static_cast<int>(want.size())).ids, want) << one["name"];
  }
}

// llama2.c's -n counts steps: the prompt's tokens after the first, then those that are made.
constexpr int kLlama2cSteps = 256;

TEST_F(RealModels, Stories260KTextsAreLlama2cs) {
  const std::string bin = root_ + "/stories260K/stories260K.bin", tokenizer = root_ + "/stories260K/tok512.bin";
  const std::string given = root_ + "/stories260K-gguf/stories260K.gguf";
  const std::string converted = Converted(bin, tokenizer);
  const std::vector<std::vector<std::string>> models = {
      {"-m", bin, "--tokenizer", tokenizer}, {"-m", given}, {"-m", converted}, {"-m", Card(converted)}};
  const std::vector<std::pair<std::string, std::string>> texts = {{"greedy_1.txt", "Once upon a time"},
                                                                  {"greedy_2.txt", "Lily and Tom went to the park"},
                                                                  {"greedy_3.txt", "The big dog"},
                                                                  {"greedy_4.txt", ""}};
  for (const auto& model : models) {
    for (const auto& [file, prompt] : texts) {
      const auto run = [&](const std::vector<std::string>& more) {
        std::vector<std::string> arguments = {"run", "-p", prompt, "--temp", "0"};
        arguments.insert(arguments.end(), model.begin(), model.end());
        arguments.insert(arguments.end(), more.begin(), more.end());
        const ToolRun result = RunTool(arguments);
        EXPECT_EQ(result.exit_code, 0) << result.error;
        return result.out;
      };
      const json first = json::parse(run({"-n", "1", "--json"}), nullptr, false);
      ASSERT_TRUE(first.is_object());
      const int n = kLlama2cSteps + 1 - static_cast<int>(first["prompt_ids"].size());
      EXPECT_EQ(run({"-n", std::to_string(n)}), ReadFile(root_ + "/stories260K/reference/" + file))
          << model[1] << ": " << prompt;
    }
  }
}

TEST_F(RealModels, Stories260KHasTheSameBitsFromEveryFormat) {
  const Ids prompt = {1, 403, 407, 261, 378};
  const std::string converted = Converted(root_ + "/stories260K/stories260K.bin", root_ + "/stories260K/tok512.bin");
  const GreedyRun run = Greedy(converted, prompt, 200);
  EXPECT_EQ(Greedy(root_ + "/stories260K-gguf/stories260K.gguf", prompt, 200), run);
  EXPECT_EQ(Greedy(Card(converted), prompt, 200), run);
}

}  // namespace
}  // namespace thimble::tests
