#include "host/models/prepare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "host/models/loaded_model.h"
#include "host/models/plan_request.h"
#include "tests/support/checkpoints.h"
#include "tests/support/synth_file.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class PrepareTest : public testing::Test {
 protected:
  PrepareTest() {
    WriteSynth(model_, "vocab_size=600,hidden_size=64,intermediate_size=192");
    const auto prepared = Prepare({.model = model_, .out = {}, .screen = {16, 2}});
    EXPECT_TRUE(prepared) << prepared.error();
    if (prepared) index_ = prepared->index;
    gguf_ = ReadGguf(model_);
  }

  Expected<std::unique_ptr<LoadedModel>> Open(IndexUse use = IndexUse::kIfThere, const char* board = "esp32-cam") {
    return LoadedModel::Open({.model = model_, .board = board, .index = use});
  }
  std::string Refusal() {
    const auto loaded = Open();
    return loaded ? "" : loaded.error();
  }
  // What a token says that reads all weights, on a board that checks the rows of the embedding one by one.
  std::string RunsAs(const char* board = "esp32-cam") {
    const auto loaded = Open(IndexUse::kIfThere, board);
    if (!loaded) return loaded.error();
    const auto plan = MakePlan(**loaded, {.n_ctx = 16, .head = plan::HeadMode::kFull}, {});
    if (!plan) return plan.error();
    const auto session = (*loaded)->OpenSession(*plan);
    if (!session) return session.error();
    const std::vector<TokenId> prompt = {5, 7};
    if (const auto run = (*session)->Prefill(prompt); !run) return SentenceOf(run.error());
    const auto next = (*session)->Next({.temperature = 0});
    return next ? "" : SentenceOf(next.error());
  }

  // Changes one bit of every 64th byte of these tensors.
  void Retrain(const std::string& kinds) {
    std::string bytes = ReadFile(model_);
    for (const auto& [name, tensor] : gguf_.tensors) {
      if (name.find(kinds) == name.npos) continue;
      for (size_t at = 0; at < tensor.bytes.size(); at += 64) bytes[tensor.file_offset + at] ^= 1;
    }
    WriteFile(model_, bytes);
  }
  void Flip(const std::string& path, uint64_t at) {
    std::string bytes = ReadFile(path);
    bytes[static_cast<size_t>(at)] ^= 1;
    WriteFile(path, bytes);
  }

  TemporaryFolder folder_;
  const std::string model_ = folder_ / "model.gguf";
  const std::string index_path_ = folder_ / "model.thimble";
  formats::Index index_;
  GgufContent gguf_;
};

TEST_F(PrepareTest, OtherWeightsAreNamedWhenTheModelIsOpened) {
  ASSERT_EQ(Refusal(), "");
  const std::string whole = ReadFile(model_);
  for (const char* kinds : {"weight", ".ffn_", ".attn_"}) {
    Retrain(kinds);
    EXPECT_THAT(Refusal(), AllOf(StartsWith(model_ + ": these weights are not those that the index was made from"),
                                 HasSubstr("'thimble prepare'")));
    WriteFile(model_, whole);
  }
  // What it says is done.
  Retrain("weight");
  ASSERT_TRUE(Prepare({.model = model_, .out = {}, .screen = {16, 2}}));
  EXPECT_EQ(Refusal(), "");
  EXPECT_EQ(RunsAs(), "");
}

TEST_F(PrepareTest, WhatDoesNotFitLaterIsBlamedOnTheOneThatIsDamaged) {
  ASSERT_EQ(RunsAs(), "");
  const std::string model = ReadFile(model_), index = ReadFile(index_path_);
  for (const char* kinds : {"attn_q", "ffn_up", "output.weight"}) {
    Retrain(kinds);
    EXPECT_THAT(RunsAs(), AllOf(HasSubstr(kinds), HasSubstr("damaged near byte "), HasSubstr("a sound index"),
                                HasSubstr("copy the model again")));
    WriteFile(model_, model);
  }
  // The whole table fits no model; one number of it is left to whoever reads the block.
  const formats::SectionRef& table = index_.section(formats::Section::kBlockChecks);
  const auto damaged = [&](const formats::SectionRef& section) {
    return "the index is damaged near its byte " + std::to_string(section.offset);
  };
  std::string bytes = index;
  for (uint64_t i = 0; i < table.bytes; ++i) bytes[static_cast<size_t>(table.offset + i)] ^= 1;
  WriteFile(index_path_, bytes);
  EXPECT_THAT(Refusal(), AllOf(StartsWith(index_path_), HasSubstr(damaged(table))));
  WriteFile(index_path_, index);
  Flip(index_path_, table.offset);
  EXPECT_THAT(RunsAs(), HasSubstr(damaged(table)));
  WriteFile(index_path_, index);

  // Rows of the embedding, whose checksums lie in memory or on the card.
  const formats::SectionRef& rows = index_.section(formats::Section::kRowChecks);
  const auto& embedding = gguf_.tensors.at("token_embd.weight");
  for (const char* board : {"esp32-cam", "esp32"}) {
    SCOPED_TRACE(board);
    EXPECT_EQ(RunsAs(board), "");
    Flip(model_, embedding.file_offset + 5 * embedding.bytes.size() / 600);
    EXPECT_THAT(RunsAs(board), HasSubstr("token_embd.weight is damaged near byte "));
    WriteFile(model_, model);
    Flip(index_path_, rows.offset + 5 * 4);
    EXPECT_THAT(RunsAs(board), HasSubstr(damaged(rows)));
    WriteFile(index_path_, index);
  }
}

TEST_F(PrepareTest, OtherHeadersAndVersionsAreNamed) {
  const std::string model = ReadFile(model_), index = ReadFile(index_path_);
  std::string bytes = model;
  const size_t name = bytes.find("general.name");
  ASSERT_NE(name, bytes.npos);
  bytes[name + 25] ^= 1;  // of the name
  WriteFile(model_, bytes);
  EXPECT_THAT(Refusal(), AllOf(StartsWith(model_ + ": the header or the tokenizer of the model is not what the index"),
                               HasSubstr("'thimble prepare'"), HasSubstr("copy the model again")));
  WriteFile(model_, model);
  bytes = index;
  bytes[8] = 1;
  WriteFile(index_path_, bytes);
  EXPECT_THAT(Refusal(), AllOf(StartsWith(index_path_ + ": the index has version 1 and this engine reads version 3"),
                               HasSubstr("'thimble prepare'")));
  WriteSynth(model_, "vocab_size=600,hidden_size=64,intermediate_size=160");
  WriteFile(index_path_, index);
  EXPECT_THAT(Refusal(), HasSubstr("the index was made for another model"));
}

// The metadata, which is read to see that it is the same, and besides at most kMaxProbes blocks and their checksums.
TEST_F(PrepareTest, AnIndexIsOpenedWithFewReads) {
  const auto without = Open(IndexUse::kIgnore);
  const auto with = Open();
  ASSERT_TRUE(without && with);
  const uint64_t metadata = (*with)->model().metadata[0].bytes;
  const ZoneCounts base = (*without)->ledger().total(), all = (*with)->ledger().total();
  constexpr uint64_t kReadBytes = 4096 - 511;  // of the buffer, wherever they begin
  const uint64_t reads_of_block = (formats::kCheckBlockBytes + kReadBytes - 1) / kReadBytes;
  const uint64_t least = metadata + formats::kIndexHeaderBytes;
  EXPECT_GE(all.card_bytes - base.card_bytes, least + 4 * 8192);
  EXPECT_LE(all.card_bytes - base.card_bytes, (all.reads - base.reads) * 4096);
  EXPECT_LE(all.reads - base.reads,
            (metadata + kReadBytes - 1) / kReadBytes + 1 + formats::kMaxProbes * (reads_of_block + 1));
}

// Whatever stands where the index will be, it is not looked at.
TEST_F(PrepareTest, TheOldIndexIsNotOpened) {
  const std::string index = ReadFile(index_path_);
  for (const std::string& old : {std::string(), std::string("x"), index.substr(0, 5000)}) {
    WriteFile(index_path_, old);
    EXPECT_NE(Refusal(), "");
    const auto prepared = Prepare({.model = model_, .out = {}, .screen = {16, 2}});
    EXPECT_TRUE(prepared) << prepared.error();
    EXPECT_EQ(ReadFile(index_path_), index);
  }
}

}  // namespace
}  // namespace thimble::host
