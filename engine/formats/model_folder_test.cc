#include "engine/formats/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/text/tokenizer.h"
#include "host/devices/ram_device.h"

namespace thimble::formats {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr ModelShape kShape = {.vocab_size = 270,
                               .hidden_size = 12,
                               .intermediate_size = 20,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 3,
                               .num_key_value_heads = 1,
                               .head_dim = 6,
                               .max_position_embeddings = 33,
                               .rms_norm_eps = 1e-5f,
                               .rope_theta = 500000.0f};

std::string Bytes(const auto& value) { return {reinterpret_cast<const char*>(&value), sizeof(value)}; }

std::string Tokenizer(uint32_t size) {
  std::string file = Bytes(uint32_t{6});
  for (uint32_t id = 0; id < size; ++id) {
    char byte[16];
    std::snprintf(byte, sizeof(byte), "<0x%02X>", (id - 3) & 0xFF);
    const std::string token = id == 0                 ? "<unk>"
                              : id == 1               ? "\n<s>\n"
                              : id == 2               ? "\n</s>\n"
                              : id < 259 && id != 100 ? byte
                                                      : " w" + std::to_string(id);
    file += Bytes(-static_cast<float>(id)) + Bytes(static_cast<uint32_t>(token.size())) + token;
  }
  return file;
}

// The files of a folder, by name.
struct Folder {
  std::map<std::string, std::string> config;  // values as they are spelt
  std::map<std::string, std::string> files;
  uint32_t unit_bytes = 512;
  uint32_t most_layers = 8;

  static Folder Make(const ModelShape& shape = kShape) {
    Folder folder;
    folder.config = {{"vocab_size", std::to_string(shape.vocab_size)},
                     {"hidden_size", std::to_string(shape.hidden_size)},
                     {"intermediate_size", std::to_string(shape.intermediate_size)},
                     {"num_hidden_layers", std::to_string(shape.num_hidden_layers)},
                     {"num_attention_heads", std::to_string(shape.num_attention_heads)},
                     {"num_key_value_heads", std::to_string(shape.num_key_value_heads)},
                     {"head_dim", std::to_string(shape.head_dim)},
                     {"max_position_embeddings", std::to_string(shape.max_position_embeddings)},
                     {"rms_norm_eps", "1e-05"},
                     {"rope_theta", "500000.0"},
                     {"use_quantization", "false"}};
    for (uint32_t i = 0; i < TensorCount(shape); ++i) {
      const TensorDims dims = DimsOf(TensorIdAt(i, shape).kind, shape);
      std::array<char, 40> name;
      const size_t size = FormatFolderFileName(kFolderTensors + i, shape.num_hidden_layers, name);
      folder.files[std::string(name.data(), size)] =
          std::string(size_t{dims.rows} * dims.cols * 4, static_cast<char>(i));
    }
    folder.files["tokenizer.bin"] = Tokenizer(shape.vocab_size);
    return folder;
  }

  std::string ConfigText() const {
    std::string text;
    for (const auto& [key, value] : config) text += (text.empty() ? "{\"" : ",\"") + key + "\":" + value;
    return text + "}";
  }
};

std::string Words(const Error& error) {
  char text[300];
  return std::string(text, FormatError(error, text));
}

// A folder as a virtual file on a device, opened.
class Opened {
 public:
  explicit Opened(Folder folder) : slots_(FolderFileCount(folder.most_layers)), files_(slots_) {
    if (!folder.files.contains("model_config.json")) folder.files["model_config.json"] = folder.ConfigText();
    std::string contents;
    Result<void> added;
    for (const auto& [name, bytes] : folder.files) {
      const auto number = FolderFileNumber(name);
      if (!number) continue;
      if (added) added = files_.Add(*number, bytes.size(), folder.unit_bytes);
      contents += bytes;
      contents.resize((contents.size() + folder.unit_bytes - 1) / folder.unit_bytes * folder.unit_bytes, '\xEE');
    }
    device_ = std::make_unique<host::RamDevice>(std::as_bytes(std::span(contents)));
    extent_ = {0, 0, contents.size()};
    reader_ =
        std::make_unique<storage::FileReader>(*device_, storage::FileMap{{&extent_, 1}, contents.size()}, ledger_);
    bytes_ = std::make_unique<storage::ByteReader>(*reader_, buffer_);
    model_ = added ? OpenFolder(*bytes_, files_, arena_) : std::unexpected(added.error());
  }

  const Result<ModelFile>& model() const { return model_; }
  const ModelFolder& files() const { return files_; }
  storage::ByteReader& bytes() { return *bytes_; }
  Arena& arena() { return arena_; }
  std::string Sentence() const { return model_ ? "" : Words(model_.error()); }

 private:
  std::vector<FolderFile> slots_;
  ModelFolder files_;
  alignas(64) std::byte buffer_[1024];
  alignas(kArenaAlign) std::byte memory_[65536];
  Arena arena_{Region::kPsram, memory_};
  Ledger ledger_;
  storage::Extent extent_;
  std::unique_ptr<host::RamDevice> device_;
  std::unique_ptr<storage::FileReader> reader_;
  std::unique_ptr<storage::ByteReader> bytes_;
  Result<ModelFile> model_;
};

void ExpectRefused(const Folder& folder, const std::string& says) {
  Opened opened(folder);
  ASSERT_FALSE(opened.model()) << "not refused: " << says;
  EXPECT_THAT(opened.Sentence(), AllOf(HasSubstr(says), Not(HasSubstr("{"))));
  EXPECT_EQ(opened.arena().used_bytes(), 0u);
}

// The model is whole, but for its tokenizer.
void ExpectNoTexts(const Folder& folder, const std::string& says) {
  Opened opened(folder);
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  const ModelFile& model = *opened.model();
  EXPECT_FALSE(model.tokenizer.present);
  EXPECT_EQ(model.tokenizer.num_tokens, 0u);
  EXPECT_EQ(model.tokenizer.tokens_bytes, 0u);
  EXPECT_EQ(model.tokenizer.bos, 1u);
  EXPECT_EQ(model.tokenizer.eos, 2u);
  ASSERT_TRUE(model.tokenizer_fault) << "not refused: " << says;
  EXPECT_THAT(Words(*model.tokenizer_fault), AllOf(HasSubstr(says), Not(HasSubstr("{"))));
  EXPECT_NE(model.metadata[1].bytes, 0u);
}

TEST(ModelFolder, NamesAndNumbersAreEachOthersInverse) {
  for (const uint32_t layers : {1u, 2u, 22u, 65535u}) {
    const uint32_t count = FolderFileCount(layers);
    for (uint32_t number = 0; number < count; number += number < 400 ? 1 : 997) {
      std::array<char, 40> name;
      const size_t size = FormatFolderFileName(number, layers, name);
      EXPECT_EQ(FolderFileNumber({name.data(), size}), number);
    }
  }
  EXPECT_EQ(FolderFileNumber("Q_PROJ.BIN"), FolderFileNumber("layer_0_q_proj.bin"));
  EXPECT_EQ(FolderFileNumber("MODEL_CONFIG.JSON"), kFolderConfig);
  for (const char* name :
       {"", "q_proj", "q_proj.bin ", "layer_", "layer_0", "layer_0_", "layer__q_proj.bin", "layer_00_q_proj.bin",
        "layer_01_q_proj.bin", "layer_x_q_proj.bin", "layer_65535_q_proj.bin", "layer_1000000_q_proj.bin",
        "layer_0_lm_head.bin", "layer_1_embed_tokens.bin", "tokenizer.json", "._q_proj.bin"}) {
    EXPECT_FALSE(FolderFileNumber(name)) << name;
  }
}

TEST(ModelFolder, ReadsEveryFileWhereItLies) {
  for (const uint32_t unit : {512u, 4096u}) {
    for (const uint32_t layers : {1u, 2u}) {
      ModelShape shape = kShape;
      shape.num_hidden_layers = layers;
      Folder folder = Folder::Make(shape);
      folder.unit_bytes = unit;
      folder.files["README.txt"] = "no part of it";
      Opened opened(folder);
      ASSERT_TRUE(opened.model()) << opened.Sentence();
      const ModelFile& model = *opened.model();
      EXPECT_EQ(model.shape, shape);
      EXPECT_FALSE(model.tied);
      ASSERT_EQ(model.tensors.size(), TensorCount(shape));
      for (uint32_t i = 0; i < model.tensors.size(); ++i) {
        const TensorRef& tensor = model.tensors[i];
        EXPECT_EQ(tensor.id, TensorIdAt(i, shape));
        EXPECT_EQ(tensor.type, DType::kF32);
        EXPECT_EQ(tensor.order, RowOrder::kHalfSplit);
        EXPECT_EQ(tensor.offset % unit, 0u);
        std::string bytes(static_cast<size_t>(tensor.size_bytes()), '\0');
        ASSERT_TRUE(opened.bytes().Seek(tensor.offset));
        ASSERT_TRUE(opened.bytes().Read(std::as_writable_bytes(std::span(bytes))));
        EXPECT_EQ(bytes, std::string(bytes.size(), static_cast<char>(i)));
      }
    }
  }
}

TEST(ModelFolder, AbsentKeysHaveHuggingFacesDefaults) {
  Folder folder = Folder::Make();
  ModelShape shape = kShape;
  shape.num_attention_heads = shape.num_key_value_heads = 2;
  folder = Folder::Make(shape);
  for (const char* key : {"num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta",
                          "use_quantization"}) {
    folder.config.erase(key);
  }
  folder.config["rope_scaling"] = "null";
  folder.config["head_dim"] = "null";
  folder.config["architectures"] = "[\"LlamaForCausalLM\"]";
  shape.max_position_embeddings = 2048;
  shape.rms_norm_eps = 1e-6f;
  shape.rope_theta = 10000;
  Opened opened(folder);
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  EXPECT_EQ(opened.model()->shape, shape);
  EXPECT_EQ(opened.model()->tokenizer.bos, 1u);
  EXPECT_EQ(opened.model()->tokenizer.eos, 2u);
}

TEST(ModelFolder, TiedModels) {
  Folder folder = Folder::Make();
  folder.config["tie_word_embeddings"] = "true";
  for (const bool has_head : {true, false}) {
    if (!has_head) folder.files.erase("lm_head.bin");
    Opened opened(folder);
    ASSERT_TRUE(opened.model()) << opened.Sentence();
    EXPECT_TRUE(opened.model()->tied);
    EXPECT_EQ(opened.model()->tensor({TensorKind::kLmHead, 0}).offset,
              opened.model()->tensor({TensorKind::kTokenEmbd, 0}).offset);
    EXPECT_EQ(opened.model()->tensor({TensorKind::kLmHead, 0}).id.kind, TensorKind::kLmHead);
  }
  folder.files["lm_head.bin"] = "short";
  ExpectRefused(folder, "lm_head.bin has 5 bytes, and the shape in model_config.json needs 12960");
  folder.config["tie_word_embeddings"] = "false";
  folder.files.erase("lm_head.bin");
  ExpectRefused(folder, "the folder has no lm_head.bin, which must have 12960 bytes");
}

TEST(ModelFolder, EveryFileMustBeThereWithItsSize) {
  const Folder whole = Folder::Make();
  for (const auto& [name, bytes] : whole.files) {
    if (name == "tokenizer.bin") continue;
    Folder folder = whole;
    folder.files.erase(name);
    ExpectRefused(folder, "the folder has no " + name + ", which must have " + std::to_string(bytes.size()) + " bytes");
    for (const size_t size : {size_t{0}, bytes.size() - 1, bytes.size() + 1, bytes.size() * 2}) {
      folder.files[name] = std::string(size, 'x');
      ExpectRefused(folder, name + " has " + std::to_string(size) +
                                " bytes, and the shape in model_config.json needs " + std::to_string(bytes.size()));
    }
  }
  Folder folder = whole;
  folder.files["layer_2_q_proj.bin"] = "";
  ExpectRefused(folder, "layer_2_q_proj.bin is of a layer beyond the 2 layers of model_config.json");
  folder = whole;
  folder.files["layer_8_q_proj.bin"] = "";
  ExpectRefused(folder, "layer_8_q_proj.bin is of a layer beyond the 8 that a folder can have here");
  folder = whole;
  folder.files["q_proj.bin"] = "";
  ExpectRefused(folder, "the folder has two files for q_proj.bin");
  folder = whole;
  folder.files["model_config.json"] = std::string(kMaxFolderConfigBytes + 1, ' ');
  ExpectRefused(folder, "model_config.json has 65537 bytes; at most 65536 are read");
}

TEST(ModelFolder, RefusesConfigsByName) {
  struct {
    const char* key;
    const char* value;  // null: the key is missing
    const char* says;
  } cases[] = {
      {"vocab_size", nullptr, "vocab_size is missing in model_config.json"},
      {"hidden_size", nullptr, "hidden_size is missing"},
      {"num_hidden_layers", "null", "num_hidden_layers is missing"},
      {"vocab_size", "0", "vocab_size in model_config.json must lie between 1 and 16777216"},
      {"vocab_size", "16777217", "vocab_size in model_config.json must lie between 1 and 16777216"},
      {"hidden_size", "18446744073709551615", "hidden_size in model_config.json must be a whole number"},
      {"hidden_size", "12.0", "hidden_size in model_config.json must be a whole number"},
      {"hidden_size", "-12", "hidden_size in model_config.json must be a whole number"},
      {"hidden_size", "\"12\"", "hidden_size in model_config.json must be a whole number"},
      {"hidden_size", "[12]", "hidden_size in model_config.json must be a whole number"},
      {"num_hidden_layers", "65536", "num_hidden_layers in model_config.json must lie between 1 and 65535"},
      {"num_key_value_heads", "2", "num_key_value_heads in model_config.json is 2, which does not divide the 3 heads"},
      {"num_attention_heads", "5592406", "head_dim in model_config.json must lie between 1 and 2"},
      {"head_dim", "7", "head_dim is 7; rotary positions need an even number"},
      {"head_dim", "16777216", "head_dim in model_config.json must lie between 1 and 5592405"},
      {"rms_norm_eps", "0", "rms_norm_eps in model_config.json must be a positive number"},
      {"rms_norm_eps", "-1e-5", "rms_norm_eps in model_config.json must be a positive number"},
      {"rms_norm_eps", "1e-39", "rms_norm_eps in model_config.json must be a positive number"},
      {"rms_norm_eps", "1e39", "rms_norm_eps in model_config.json must be a positive number"},
      {"rms_norm_eps", "1e999", "rms_norm_eps in model_config.json must be a number of at most 40 digits"},
      {"rms_norm_eps", "true", "rms_norm_eps in model_config.json must be a number"},
      {"rope_theta", "10000.1", "rope_theta in model_config.json is a number that float32 cannot hold exactly"},
      {"use_quantization", "true", "model_config.json sets use_quantization, which is not supported"},
      {"use_quantization", "0", "use_quantization in model_config.json must be true or false"},
      {"attention_bias", "true", "model_config.json sets attention_bias"},
      {"mlp_bias", "true", "model_config.json sets mlp_bias"},
      {"add_eos_token", "true", "model_config.json sets add_eos_token"},
      {"hidden_act", "\"gelu\"", "hidden_act in model_config.json is not \"silu\""},
      {"hidden_act", "1", "hidden_act in model_config.json is not \"silu\""},
      {"model_type", "\"qwen2\"", "model_type in model_config.json is not \"llama\""},
      {"rope_scaling", "{\"type\":\"linear\"}", "model_config.json sets rope_scaling"},
      {"rope_parameters", "{}", "model_config.json sets rope_parameters"},
      {"quantization_config", "{}", "model_config.json sets quantization_config"},
      {"partial_rotary_factor", "0.5", "partial_rotary_factor in model_config.json is not 1"},
      {"bos_token_id", "270", "bos_token_id in model_config.json is no token of the vocabulary of 270"},
      {"eos_token_id", "[2,3]", "eos_token_id in model_config.json must be a whole number"},
      {"tie_word_embeddings", "1", "tie_word_embeddings in model_config.json must be true or false"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(std::string(c.key) + " " + (c.value != nullptr ? c.value : "missing"));
    Folder folder = Folder::Make();
    folder.config.erase(c.key);
    if (c.value != nullptr) folder.config[c.key] = c.value;
    ExpectRefused(folder, c.says);
  }
  Folder folder = Folder::Make();
  std::string text = folder.ConfigText();
  text.back() = ',';
  folder.files["model_config.json"] = text + "\"hidden\\u005fsize\":12}";
  ExpectRefused(folder, "hidden_size stands twice in model_config.json");
  folder.files["model_config.json"] = "";
  ExpectRefused(folder, "model_config.json is no JSON object: byte 0 of 0");
  folder.files.erase("model_config.json");
  folder.config["hidden_size"] = "13";
  folder.config.erase("head_dim");
  ExpectRefused(folder, "hidden_size in model_config.json is 13, no multiple of the 3 heads, and there is no head_dim");
}

TEST(ModelFolder, TokenizerBinComesBackWithTypesAndSpaces) {
  Folder folder = Folder::Make();
  folder.config["eos_token_id"] = "260";
  folder.config["add_bos_token"] = "false";
  folder.config["add_prefix_space"] = "false";
  Opened opened(folder);
  ASSERT_TRUE(opened.model()) << opened.Sentence();
  const TokenizerRef& ref = opened.model()->tokenizer;
  EXPECT_TRUE(ref.present);
  EXPECT_EQ(ref.eos, 260u);
  EXPECT_FALSE(ref.add_bos);
  EXPECT_FALSE(ref.add_space_prefix);
  const auto tokenizer = text::Tokenizer::Load(ref, opened.bytes(), opened.arena());
  ASSERT_TRUE(tokenizer) << tokenizer.error().what;
  EXPECT_EQ(tokenizer->Type(0), text::TokenType::kUnknown);
  EXPECT_EQ(tokenizer->unk(), 0u);
  for (const TokenId id : {1, 2, 260}) EXPECT_EQ(tokenizer->Type(id), text::TokenType::kControl) << id;
  EXPECT_EQ(tokenizer->Type(3), text::TokenType::kByte);
  EXPECT_EQ(tokenizer->Type(3 + 255), text::TokenType::kByte);
  EXPECT_EQ(tokenizer->Piece(3 + '!'), "!");
  EXPECT_EQ(tokenizer->Type(100), text::TokenType::kNormal);
  EXPECT_EQ(tokenizer->Type(259), text::TokenType::kNormal);
  EXPECT_EQ(tokenizer->Piece(259), " w259");
  EXPECT_EQ(tokenizer->Piece(1), "");

  folder.config["bos_token_id"] = "0";
  folder.config["eos_token_id"] = "null";
  Opened other(folder);
  ASSERT_TRUE(other.model()) << other.Sentence();
  EXPECT_EQ(other.model()->tokenizer.unk, kNoToken);
  EXPECT_EQ(other.model()->tokenizer.eos, kNoToken);
  // Byte 97 is spelt " w100" there, so that there is neither a whole set of bytes nor an unknown token.
  EXPECT_FALSE(text::Tokenizer::Load(other.model()->tokenizer, other.bytes(), other.arena()));

  folder.files.erase("tokenizer.bin");
  Opened none(folder);
  ASSERT_TRUE(none.model()) << none.Sentence();
  EXPECT_FALSE(none.model()->tokenizer.present);
}

TEST(ModelFolder, TokenizerBinMustHaveEveryToken) {
  Folder folder = Folder::Make();
  const std::string whole = folder.files["tokenizer.bin"];
  for (size_t size = 0; size < whole.size(); size += size < 40 || size + 40 > whole.size() ? 1 : 37) {
    folder.files["tokenizer.bin"] = whole.substr(0, size);
    Opened opened(folder);
    ASSERT_TRUE(opened.model()) << size;
    ASSERT_TRUE(opened.model()->tokenizer_fault) << size;
    EXPECT_THAT(Words(*opened.model()->tokenizer_fault), HasSubstr("tokenizer.bin")) << size;
  }
  folder.files["tokenizer.bin"] = whole + "xy";
  ExpectNoTexts(folder, "tokenizer.bin goes on for 2 bytes after its 270 tokens");
  folder.files["tokenizer.bin"] = Tokenizer(269);
  ExpectNoTexts(folder, "tokenizer.bin ends at token 269, but the vocabulary has 270 tokens");
  std::string raw = whole;
  const size_t first_byte = raw.find("<0x00>");
  raw.replace(first_byte - 4, 10, Bytes(uint32_t{1}) + std::string(1, '\0'));
  folder.files["tokenizer.bin"] = raw;
  ExpectNoTexts(folder, "tokenizer.bin keeps bytes raw");
  std::string huge = whole;
  huge.replace(8, 4, "\xFF\xFF\xFF\xFF");
  folder.files["tokenizer.bin"] = huge;
  ExpectNoTexts(folder, "token 0 of tokenizer.bin has 4294967295 bytes, more than are left");
}

}  // namespace
}  // namespace thimble::formats
