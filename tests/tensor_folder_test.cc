// Tensor folders, written by convert and read from this computer's disk and from a card: the same files, the same bits
// as a GGUF file of the same checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/storage/fat32.h"
#include "host/models/card_open.h"
#include "host/models/convert.h"
#include "host/support/paths.h"
#include "tests/support/checkpoints.h"
#include "tests/support/open_model.h"
#include "tests/support/test_gguf.h"
#include "tests/support/tool.h"

namespace thimble::tests {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr std::array<TokenId, 5> kPrompt = {1, 57, 4, 42, 0};

// With a tokenizer of the size of its vocabulary.
HfModel Checkpoint(const ModelShape& shape, const std::string& dtype, uint64_t seed) {
  HfModel model = HfModel::Make(shape, dtype, seed);
  model.files["tokenizer.model"] = SentencePieceProto::Make(shape.vocab_size).Serialize();
  return model;
}

class TensorFolder : public testing::Test {
 protected:
  bool Shell(const std::string& command) const {
    return std::system(("export LC_ALL=C.UTF-8 PATH=\"$PATH:/usr/sbin:/sbin\"; cd '" + folder_.path() + "' && { " +
                        command + "; } >log 2>&1")
                           .c_str()) == 0;
  }

  // Converts and returns the notes; `to` is a name in the test's folder.
  std::vector<std::string> Convert(const std::string& source, const std::string& to, bool to_folder,
                                   const std::string& tokenizer = "") const {
    const auto notes =
        host::Convert({.source = source, .out = folder_ / to, .tokenizer = tokenizer, .to_folder = to_folder});
    EXPECT_TRUE(notes) << notes.error();
    return notes ? notes->notes : std::vector<std::string>();
  }

  std::string Refusal(const std::string& source, const std::string& to) const {
    const auto notes = host::Convert({.source = source, .out = to, .to_folder = true});
    EXPECT_FALSE(notes);
    return notes ? "" : notes.error();
  }

  // A card with these files and folders of the test's folder in its root, copied one after the other by mtools.
  std::string Card(const std::vector<std::string>& names) const {
    std::string command = "rm -f card.img && truncate -s 80M card.img && mkfs.fat -F 32 card.img";
    for (const std::string& name : names) command += " && mcopy -s -i card.img '" + name + "' ::";
    EXPECT_TRUE(Shell(command)) << ReadFile(folder_ / "log");
    return folder_ / "card.img";
  }

  static std::optional<GreedyRun> Run(const std::string& path, int n = 12, const std::string& file_on_card = "",
                                      Board board = kEsp32Cam) {
    auto opened = host::OpenModelFile(path, file_on_card);
    EXPECT_TRUE(opened) << opened.error();
    if (!opened) return {};
    OpenModel model(*opened->device, {.board = board, .folder = &opened->folder}, opened->file.extents);
    EXPECT_NE(model.session(), nullptr) << model.error();
    if (model.session() == nullptr) return {};
    return RunGreedy(*model.session(), kPrompt, n);
  }

  // The sentence with which opening it fails.
  static std::string Failure(const std::string& path, const std::string& file_on_card = "") {
    auto opened = host::OpenModelFile(path, file_on_card);
    if (!opened) return opened.error();
    OpenModel model(*opened->device, {.folder = &opened->folder}, opened->file.extents);
    return model.error();
  }

  std::set<std::string> NamesIn(const std::string& name) const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / name)) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }

  const TemporaryFolder folder_;
};

TEST_F(TensorFolder, FilesAreTheCheckpointsTensors) {
  ModelShape shape = SmallShape();
  for (const uint32_t layers : {1u, 2u}) {
    shape.num_hidden_layers = layers;
    const HfModel hf = Checkpoint(shape, "F32", 7);
    hf.Write(folder_ / "hf");
    Convert(folder_ / "hf", "out", true);
    const std::pair<const char*, const char*> names[] = {
        {"norm1.bin", "input_layernorm"},   {"q_proj.bin", "self_attn.q_proj"},
        {"k_proj.bin", "self_attn.k_proj"}, {"v_proj.bin", "self_attn.v_proj"},
        {"o_proj.bin", "self_attn.o_proj"}, {"norm2.bin", "post_attention_layernorm"},
        {"gate_proj.bin", "mlp.gate_proj"}, {"up_proj.bin", "mlp.up_proj"},
        {"down_proj.bin", "mlp.down_proj"}};
    for (uint32_t layer = 0; layer < layers; ++layer) {
      const std::string prefix = layers == 1 ? "out/" : "out/layer_" + std::to_string(layer) + "_";
      for (const auto& [file, tensor] : names) {
        const std::string name = "model.layers." + std::to_string(layer) + "." + tensor + ".weight";
        EXPECT_TRUE(ReadFile(folder_ / (prefix + file)) == hf.tensors.at(name).bytes) << prefix << file;
      }
    }
    EXPECT_TRUE(ReadFile(folder_ / "out/embed_tokens.bin") == hf.tensors.at("model.embed_tokens.weight").bytes);
    EXPECT_TRUE(ReadFile(folder_ / "out/final_norm.bin") == hf.tensors.at("model.norm.weight").bytes);
    EXPECT_TRUE(ReadFile(folder_ / "out/lm_head.bin") == hf.tensors.at("lm_head.weight").bytes);
    size_t copied = 0;
    for (const char* name : {"tokenizer.model", "tokenizer.json"}) {
      if (!hf.files.contains(name)) continue;
      EXPECT_EQ(ReadFile(folder_ / ("out/" + std::string(name))), hf.files.at(name));
      ++copied;
    }
    const size_t count = NamesIn("out").size();
    EXPECT_EQ(count, 3 + 9 * layers + 2 + copied);
    std::filesystem::remove_all(folder_ / "hf");
  }
}

TEST_F(TensorFolder, ConfigHasTheKeysInTheirOrder) {
  Checkpoint(SmallShape(), "BF16", 1).Write(folder_ / "hf");
  Convert(folder_ / "hf", "out", true);
  const auto config = nlohmann::ordered_json::parse(ReadFile(folder_ / "out/model_config.json"), nullptr, false);
  ASSERT_TRUE(config.is_object());
  std::vector<std::string> keys;
  for (const auto& [key, value] : config.items()) keys.push_back(key);
  EXPECT_THAT(keys, testing::ElementsAre("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                                         "num_key_value_heads", "intermediate_size", "max_position_embeddings",
                                         "rms_norm_eps", "hidden_act", "bos_token_id", "eos_token_id",
                                         "use_quantization", "rope_theta", "head_dim", "tie_word_embeddings",
                                         "torch_dtype", "model_type", "add_bos_token", "add_prefix_space"));
  EXPECT_EQ(static_cast<float>(config["rms_norm_eps"].get<double>()), SmallShape().rms_norm_eps);
  EXPECT_EQ(config["rope_theta"].get<double>(), double{SmallShape().rope_theta});
  EXPECT_EQ(config["use_quantization"], false);
}

TEST_F(TensorFolder, GgufAndBackGivesTheSameTensorsAndTokenizer) {
  for (const char* dtype : {"F32", "BF16", "F16"}) {
    for (const bool tied : {false, true}) {
      SCOPED_TRACE(std::string(dtype) + (tied ? ", tied" : ""));
      HfModel hf = Checkpoint(SmallShape(), dtype, 3);
      if (tied) {
        hf.config["tie_word_embeddings"] = true;
        hf.tensors.erase("lm_head.weight");
      }
      hf.Write(folder_ / "hf");
      Convert(folder_ / "hf", "1.gguf", false);
      Convert(folder_ / "1.gguf", "out", true);
      EXPECT_EQ(ReadFile(folder_ / "out/lm_head.bin") == ReadFile(folder_ / "out/embed_tokens.bin"), tied);
      Convert(folder_ / "out", "2.gguf", false);
      const GgufContent first = ReadGguf(folder_ / "1.gguf");
      GgufContent second = ReadGguf(folder_ / "2.gguf");
      ASSERT_EQ(first.tensors.size(), second.tensors.size());
      EXPECT_EQ(first.tensor_order, second.tensor_order);
      for (const auto& [name, tensor] : first.tensors) {
        EXPECT_EQ(second.tensors.at(name).dims, tensor.dims) << name;
        EXPECT_TRUE(second.tensors.at(name).bytes == tensor.bytes) << name;
      }
      second.keys["general.name"] = first.keys.at("general.name");
      EXPECT_EQ(first.keys, second.keys);
      std::filesystem::remove_all(folder_ / "hf");
    }
  }
}

TEST_F(TensorFolder, GivesTheSameBitsFromEveryPlace) {
  for (const char* golden : {"gqa", "mha-f16", "odd-sizes", "one-layer-bf16", "tied-bf16"}) {
    SCOPED_TRACE(golden);
    const std::string source = std::string("tests/goldens/") + golden;
    Convert(source, "model.gguf", false);
    Convert(source, "esp32_float32_weights", true);
    const auto run = Run(folder_ / "model.gguf");
    ASSERT_TRUE(run);
    EXPECT_EQ(Run(folder_ / "esp32_float32_weights"), run);
    EXPECT_EQ(Run(folder_ / "esp32_float32_weights", 12, "", HostBoard(uint64_t{1} << 28)), run);
    EXPECT_EQ(Run(Card({"esp32_float32_weights"})), run);
    EXPECT_EQ(Run(folder_ / "card.img", 12, "ESP32_Float32_Weights"), run);
  }
}

TEST_F(TensorFolder, GivesTheSameBitsFromAFragmentedCard) {
  Convert("tests/goldens/gqa", "weights", true);
  const auto run = Run(folder_ / "weights");
  ASSERT_TRUE(run);
  // Small files first, of which every other one goes again; and the next free cluster that the card remembers is the
  // first, so that the folder fills the holes.
  const auto card = [&](int holes) {
    const std::string last = std::to_string(2 * holes);
    return Shell(
        "rm -rf card.img fill && mkdir fill && truncate -s 40M card.img && mkfs.fat -F 32 -s 1 card.img && "
        "for i in $(seq " +
        last +
        "); do head -c 512 /dev/zero > fill/f$i; done; mcopy -i card.img fill/* :: && "
        "mdel -i card.img $(seq -f '::f%g' 2 2 " +
        last +
        ") && printf '\\2\\0\\0\\0' | dd of=card.img bs=1 seek=1004 conv=notrunc && mcopy -s -i card.img weights ::");
  };
  ASSERT_TRUE(card(300)) << ReadFile(folder_ / "log");
  const auto opened = host::OpenModelFile(folder_ / "card.img", "");
  ASSERT_TRUE(opened) << opened.error();
  EXPECT_GT(opened->extents.size(), 100u);
  EXPECT_EQ(Run(folder_ / "card.img"), run);
  ASSERT_TRUE(card(700)) << ReadFile(folder_ / "log");
  EXPECT_THAT(
      Failure(folder_ / "card.img"),
      HasSubstr("the files of weights lie in more than 512 pieces on the card, which is the most that can be used; "
                "format the card and copy the folder again"));
}

TEST_F(TensorFolder, IsChosenOnACard) {
  Convert("tests/goldens/gqa", "a", true);
  Convert("tests/goldens/odd-sizes", "B model", true);
  Convert("tests/goldens/odd-sizes", "c.gguf", false);
  ASSERT_TRUE(Shell("mkdir other && echo x > other/x"));
  const auto a = Run(folder_ / "a"), b = Run(folder_ / "B model");
  ASSERT_TRUE(a && b);
  ASSERT_NE(a, b);

  Card({"other"});
  EXPECT_THAT(Failure(folder_ / "card.img"), HasSubstr("without a .gguf file"));
  EXPECT_THAT(Failure(folder_ / "card.img", "other"), HasSubstr("no file \"other\" in its root folder"));
  EXPECT_EQ(Run(Card({"other", "B model"})), b);
  Card({"other", "a", "B model"});
  EXPECT_THAT(Failure(folder_ / "card.img"),
              HasSubstr("holds several models: a, B model; choose one of them by its name"));
  EXPECT_EQ(Run(folder_ / "card.img", 12, "A"), a);
  EXPECT_EQ(Run(folder_ / "card.img", 12, "b MODEL"), b);
  Card({"a", "c.gguf"});
  EXPECT_EQ(Run(folder_ / "card.img"), b);
  EXPECT_EQ(Run(folder_ / "card.img", 12, "a"), a);

  ASSERT_TRUE(Shell("rm a/k_proj.bin a/layer_0_k_proj.bin; truncate -s -4 'B model/final_norm.bin'"));
  EXPECT_THAT(Failure(Card({"B model"})), HasSubstr("final_norm.bin has "));
  EXPECT_THAT(Failure(Card({"a"})), AllOf(HasSubstr("the folder has no "), HasSubstr("k_proj.bin")));
  EXPECT_THAT(Failure(folder_ / "B model"), HasSubstr("final_norm.bin has "));
  EXPECT_THAT(Failure(folder_ / "other"), HasSubstr("is no tensor folder: it has no model_config.json"));
}

TEST_F(TensorFolder, IsReplacedWholeOrNotAtAll) {
  HfModel::Make(SmallShape(), "F32", 1).Write(folder_ / "hf");
  Convert(folder_ / "hf", "out/", true);
  const std::string first = ReadFile(folder_ / "out/lm_head.bin");
  HfModel broken = HfModel::Make(SmallShape(), "F32", 2);
  StoreElement(broken.tensors.at("lm_head.weight"), 5, 0x7f800000);
  broken.Write(folder_ / "broken");
  EXPECT_THAT(Refusal(folder_ / "broken", folder_ / "out"), HasSubstr("lm_head.weight"));
  EXPECT_TRUE(ReadFile(folder_ / "out/lm_head.bin") == first);
  EXPECT_THAT(Refusal(folder_ / "broken", folder_ / "new"), HasSubstr("lm_head.weight"));
  EXPECT_EQ(folder_.Names(), (std::set<std::string>{"hf", "broken", "out"}));

  ModelShape one_layer = SmallShape();
  one_layer.num_hidden_layers = 1;
  HfModel::Make(one_layer, "F32", 3).Write(folder_ / "hf1");
  Convert(folder_ / "hf1", "out", true);
  EXPECT_TRUE(NamesIn("out").contains("q_proj.bin"));
  EXPECT_FALSE(NamesIn("out").contains("layer_0_q_proj.bin"));
  std::filesystem::create_directory(folder_ / "empty");
  Convert(folder_ / "hf1", "empty", true);
  EXPECT_EQ(folder_.Names(), (std::set<std::string>{"hf", "hf1", "broken", "out", "empty"}));

  EXPECT_THAT(Refusal(folder_ / "out", folder_ / "out"), HasSubstr("it is what is being read"));
  const auto into = host::Convert({.source = folder_ / "out", .out = folder_ / "out/lm_head.bin"});
  ASSERT_FALSE(into);
  EXPECT_THAT(into.error(), HasSubstr("it is what is being read"));
  EXPECT_THAT(Refusal(folder_ / "hf", folder_ / "hf"), HasSubstr("it is what is being read"));
  EXPECT_THAT(Refusal(folder_ / "hf", folder_ / "hf1"), HasSubstr("cannot replace the folder"));
  WriteFile(folder_ / "out/my notes.txt", "x");
  EXPECT_THAT(Refusal(folder_ / "hf", folder_ / "out"), HasSubstr("it holds \"my notes.txt\", which would be lost"));
  WriteFile(folder_ / "file", "x");
  EXPECT_THAT(Refusal(folder_ / "hf", folder_ / "file"), HasSubstr("it is not a folder"));
  EXPECT_THAT(Refusal(folder_ / "hf", folder_ / "no/such/place"), HasSubstr("cannot write"));
  const ToolRun keep = RunTool({"convert", folder_ / "hf", "--to", "folder", "--dtype", "keep", "-o", folder_ / "k"});
  EXPECT_EQ(keep.exit_code, 1);
  EXPECT_THAT(keep.error, HasSubstr("a tensor folder is float32"));
}

TEST_F(TensorFolder, SaysWhatTokenizerBinCannotKeep) {
  HfModel hf = Checkpoint(SmallShape(), "F32", 1);
  hf.Write(folder_ / "hf");
  EXPECT_THAT(Convert(folder_ / "hf", "out", true), Not(Contains(HasSubstr("tokenizer.bin"))));
  hf.files["tokenizer_config.json"] =
      R"({"add_bos_token":false,"add_prefix_space":false,"added_tokens_decoder":{"262":{"content":"<|x|>","special":true}}})";
  SentencePieceProto proto = SentencePieceProto::Make(262);
  hf.files["tokenizer.model"] = proto.Serialize();
  hf.Write(folder_ / "hf2");
  EXPECT_THAT(Convert(folder_ / "hf2", "out2", true),
              Contains(HasSubstr("tokenizer.bin cannot tell what is special about")));
  const auto config = json::parse(ReadFile(folder_ / "out2/model_config.json"), nullptr, false);
  EXPECT_EQ(config["add_bos_token"], false);
  EXPECT_EQ(config["add_prefix_space"], false);
  auto opened = host::OpenModelFile(folder_ / "out2", "");
  ASSERT_TRUE(opened) << opened.error();
  OpenModel model(*opened->device, {.folder = &opened->folder}, opened->file.extents);
  ASSERT_NE(model.session(), nullptr) << model.error();
  EXPECT_FALSE(model.session()->tokenizer().add_bos());
  EXPECT_FALSE(model.session()->tokenizer().add_space_prefix());
}

TEST_F(TensorFolder, CommandsWorkWithIt) {
  Convert("model/thimble-stories", "esp32_float32_weights", true);
  Convert("model/thimble-stories", "model.gguf", false);
  const std::string card = Card({"esp32_float32_weights"});
  const auto out = [](std::vector<std::string> arguments) {
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.error;
    return run.out;
  };
  const auto story = [&](const std::string& model) {
    return out({"run", "-m", model, "-p", "Once upon a time, Zo\u00eb", "-n", "24", "--temp", "0.8", "--seed", "5"});
  };
  const std::string text = story(folder_ / "model.gguf");
  EXPECT_GT(text.size(), 30u);
  EXPECT_EQ(story(folder_ / "esp32_float32_weights"), text);
  EXPECT_EQ(story(card), text);
  // `card` makes one file of it.
  EXPECT_THAT(out({"card", folder_ / "esp32_float32_weights", "-o", folder_ / "file.img"}),
              HasSubstr("esp32_float32_weights.gguf"));
  EXPECT_EQ(story(folder_ / "file.img"), text);
  EXPECT_THAT(out({"plan", folder_ / "esp32_float32_weights"}), HasSubstr("a token"));
  EXPECT_THAT(out({"inspect", folder_ / "esp32_float32_weights"}), HasSubstr("blk.0.attn_q.weight"));
  EXPECT_THAT(out({"inspect", card}), HasSubstr("blk.0.attn_q.weight"));
  // A folder without tokenizer.bin takes one.
  ASSERT_TRUE(Shell("rm esp32_float32_weights/tokenizer.*"));
  EXPECT_EQ(out({"run", "-m", folder_ / "esp32_float32_weights", "--tokenizer", "model/thimble-stories/tokenizer.model",
                 "-p", "Once upon a time, Zo\u00eb", "-n", "24", "--temp", "0.8", "--seed", "5"}),
            text);
}

// What is not ours to publish is found through the environment.
TEST_F(TensorFolder, TheRealTokenizerIsWrittenByteForByte) {
  const char* real = std::getenv("THIMBLE_REAL_MODELS");
  if (real == nullptr) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  const std::string tokenizer = std::string(real) + "/tokenizer-llama2-32000/";
  ModelShape shape = SmallShape();
  shape.vocab_size = 32000;
  HfModel hf = HfModel::Make(shape, "BF16", 4);
  hf.files.erase("tokenizer_config.json");
  hf.files["tokenizer.model"] = ReadFile(tokenizer + "tokenizer.model");
  hf.Write(folder_ / "hf");
  EXPECT_THAT(Convert(folder_ / "hf", "out", true), IsEmpty());
  EXPECT_TRUE(ReadFile(folder_ / "out/tokenizer.bin") == ReadFile(tokenizer + "tokenizer.llama2c.bin"));
  const std::string stories = std::string(real) + "/stories260K/";
  Convert(stories + "stories260K.bin", "stories", true, stories + "tok512.bin");
  EXPECT_TRUE(ReadFile(folder_ / "stories/tokenizer.bin") == ReadFile(stories + "tok512.bin"));
}

TEST_F(TensorFolder, TheRealTinyLlmRuns) {
  const char* real = std::getenv("THIMBLE_REAL_MODELS");
  if (real == nullptr) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  const std::string name = "esp32_float32_weights";
  std::filesystem::create_directory(folder_ / name);
  for (const auto& file : std::filesystem::directory_iterator(std::string(real) + "/tiny-llm-arnir0-partial")) {
    WriteFile(folder_ / (name + "/" + file.path().filename().string()), ReadFile(file.path().string()));
  }
  WriteFile(folder_ / (name + "/tokenizer.bin"),
            ReadFile(std::string(real) + "/tokenizer-llama2-32000/tokenizer.llama2c.bin"));
  EXPECT_THAT(Failure(folder_ / name), HasSubstr("the folder has no embed_tokens.bin, which must have 24576000 bytes"));
  std::mt19937 random(1);
  for (const char* file : {"/embed_tokens.bin", "/lm_head.bin"}) {
    std::string bytes;
    bytes.reserve(24576000);
    for (int i = 0; i < 32000 * 192; ++i) {
      bytes += Bytes(static_cast<float>(static_cast<int32_t>(random())) * 0x1p-34f);
    }
    WriteFile(folder_ / (name + file), bytes);
  }
  const auto run = Run(folder_ / name, 4);
  ASSERT_TRUE(run);
  EXPECT_EQ(Run(Card({name}), 4), run);
  Convert(folder_ / name, "model.gguf", false);
  EXPECT_EQ(Run(folder_ / "model.gguf", 4), run);
  // And the way back: the very files that were there.
  Convert(folder_ / "model.gguf", "again", true);
  for (const auto& file : std::filesystem::directory_iterator(folder_ / name)) {
    const std::string file_name = file.path().filename().string();
    if (file_name.ends_with(".bin")) {
      EXPECT_TRUE(ReadFile(folder_ / ("again/" + file_name)) == ReadFile(file.path().string())) << file_name;
    }
  }
  const ToolRun inspected = RunTool({"inspect", folder_ / name});
  EXPECT_EQ(inspected.exit_code, 0) << inspected.error;
  EXPECT_THAT(inspected.out, HasSubstr("12 988 992"));
}

}  // namespace
}  // namespace thimble::tests
