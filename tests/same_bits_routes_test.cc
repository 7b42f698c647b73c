// One checkpoint in every form that `convert` reads and writes: the same logits, bit for bit.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "host/models/card_open.h"
#include "host/models/convert.h"
#include "tests/support/checkpoints.h"
#include "tests/support/open_model.h"

namespace thimble::tests {
namespace {

using host::WrittenType;

constexpr std::array<TokenId, 9> kPrompt = {1, 57, 270, 4, 128, 299, 42, 42, 0};
constexpr int kGreedy = 24;

// Without a head_dim of its own, which llama2.c does not know, and with what it takes for granted.
ModelShape Shape() {
  ModelShape shape = SmallShape();
  shape.hidden_size = shape.num_attention_heads * shape.head_dim;
  shape.rope_theta = 10000;
  return shape;
}

// Weights of a size that keeps activations near 1, each a multiple of 1/64 below 2 in magnitude, so that F16 and BF16
// hold it.
HfModel Checkpoint(const std::string& dtype) {
  HfModel model = HfModel::Make(Shape(), "BF16", 11);
  for (auto& [name, tensor] : model.tensors) {
    std::string bytes;
    for (size_t i = 0; i + 1 < tensor.bytes.size(); i += 2) {
      const auto low = static_cast<uint8_t>(tensor.bytes[i]);
      const float value = name.find("norm") != name.npos ? 1 + static_cast<float>(low % 32) / 64
                                                         : static_cast<float>(low % 64) / 64 - 0.5f;
      if (dtype == "F32") {
        bytes += Bytes(value);
      } else if (dtype == "BF16") {
        bytes += Bytes(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
      } else {
        const uint32_t bits = std::bit_cast<uint32_t>(value);
        const uint32_t half = value == 0 ? 0 : ((bits >> 23 & 0xff) - 112) << 10 | (bits >> 13 & 0x3ff);
        bytes += Bytes(static_cast<uint16_t>((bits >> 16 & 0x8000) | half));
      }
    }
    tensor.dtype = dtype;
    tensor.bytes = bytes;
  }
  return model;
}

class SameBitsRoutes : public testing::Test {
 protected:
  // Converts and returns where the result is.
  std::string Converted(const std::string& source, WrittenType dtype, const std::string& tokenizer = "") {
    const std::string out = folder_ / fmt::format("{}.gguf", ++converted_);
    const auto notes = host::Convert({.source = source, .out = out, .tokenizer = tokenizer, .types = {.dtype = dtype}});
    EXPECT_TRUE(notes) << notes.error();
    return out;
  }

  struct Outcome {
    GreedyRun run;
    std::vector<TokenId> prompt;
    friend bool operator==(const Outcome&, const Outcome&) = default;
  };

  // Runs `path`, and tokenizes if it can.
  Outcome Run(const std::string& path) {
    auto file = host::OpenModelFile(path, "");
    if (!file) {
      ADD_FAILURE() << file.error();
      return {};
    }
    OpenModel model(*file->device, {}, file->extents);
    if (model.session() == nullptr) {
      ADD_FAILURE() << model.error();
      return {};
    }
    Outcome outcome;
    if (model.model().tokenizer.present) {
      const auto ids = model.session()->Tokenize("ab cad  zebra\u00e9 <s>");
      EXPECT_TRUE(ids);
      if (ids) outcome.prompt.assign(ids->begin(), ids->end());
    }
    outcome.run = RunGreedy(*model.session(), kPrompt, kGreedy);
    return outcome;
  }

  TemporaryFolder folder_;

 private:
  int converted_ = 0;
};

TEST_F(SameBitsRoutes, FromEveryFormOfACheckpoint) {
  const SentencePieceProto proto = SentencePieceProto::Make(300);
  HfModel model = Checkpoint("F32");
  model.files["tokenizer.model"] = proto.Serialize();
  model.Write(folder_ / "hf");
  const Outcome wanted = Run(Converted(folder_ / "hf", WrittenType::kF32));
  ASSERT_FALSE(wanted.prompt.empty());

  for (const char* dtype : {"F32", "F16", "BF16"}) {
    for (const bool json : {false, true}) {
      for (const size_t num_shards : {0u, 3u}) {
        SCOPED_TRACE(fmt::format("{}, {} shards, tokenizer.{}", dtype, num_shards, json ? "json" : "model"));
        HfModel same = Checkpoint(dtype);
        same.files[json ? "tokenizer.json" : "tokenizer.model"] =
            json ? TokenizerJson(proto).dump() : proto.Serialize();
        const std::string source = folder_ / fmt::format("{}-{}-{}", dtype, json, num_shards);
        num_shards == 0 ? same.Write(source) : same.WriteSharded(source, num_shards);
        const std::string wide = Converted(source, WrittenType::kF32);
        const std::string kept = Converted(source, WrittenType::kKeep);
        EXPECT_EQ(Run(wide), wanted);
        EXPECT_EQ(Run(kept), wanted);
        EXPECT_EQ(Run(Converted(kept, WrittenType::kF32)), wanted);
        EXPECT_EQ(Run(Converted(kept, WrittenType::kKeep)), wanted);
      }
    }
  }
}

TEST_F(SameBitsRoutes, FromLlama2c) {
  HfModel model = Checkpoint("F16");
  model.tensors.erase("lm_head.weight");
  model.config["tie_word_embeddings"] = true;
  const SentencePieceProto proto = SentencePieceProto::Make(300);
  model.files["tokenizer.model"] = proto.Serialize();
  model.Write(folder_ / "hf");
  const std::string gguf = Converted(folder_ / "hf", WrittenType::kF32);
  const Outcome wanted = Run(gguf);
  EXPECT_EQ(Run(Converted(folder_ / "hf", WrittenType::kKeep)), wanted);

  // The GGUF file has llama2.c's order of rows.
  Llama2cModel same = Llama2cModel::Make(Shape(), true, 1);
  for (const auto& [name, tensor] : ReadGguf(gguf).tensors) same.tensors.at(name) = tensor.bytes;
  WriteFile(folder_ / "model.bin", same.File());
  WriteFile(folder_ / "tok.bin", Llama2cTokenizerFile(300));
  WriteFile(folder_ / "tok.json", TokenizerJson(proto).dump());
  WriteFile(folder_ / "tok.model", proto.Serialize());
  for (const char* tokenizer : {"tok.bin", "tok.json", "tok.model"}) {
    SCOPED_TRACE(tokenizer);
    const std::string out = Converted(folder_ / "model.bin", WrittenType::kF32, folder_ / tokenizer);
    EXPECT_EQ(Run(out), wanted);
    EXPECT_EQ(Run(Converted(out, WrittenType::kKeep)), wanted);
  }
}

}  // namespace
}  // namespace thimble::tests
