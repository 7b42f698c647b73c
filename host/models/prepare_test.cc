#include "host/models/prepare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
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
  EXPECT_THAT(Refusal(),
              AllOf(StartsWith(index_path_ + ": the index has version 1 and this engine reads versions 3 and 4"),
                    HasSubstr("'thimble prepare'")));
  WriteSynth(model_, "vocab_size=600,hidden_size=64,intermediate_size=160");
  WriteFile(index_path_, index);
  EXPECT_THAT(Refusal(), HasSubstr("the index was made for another model"));
}

uint32_t NumberAt(const std::string& bytes, size_t at) {
  uint32_t number = 0;
  std::memcpy(&number, &bytes[at], sizeof(number));
  return number;
}

uint32_t ChecksumOf(const std::string& bytes, size_t at, size_t size) {
  return math::BestKernels().xxh32(0, reinterpret_cast<const std::byte*>(&bytes[at]), size);
}

// Laid out anew by what docs/formats/index.md says, byte by byte, an index in one part is the one in several; where
// there is one part, as before there were several.
TEST_F(PrepareTest, PartsHoldTheSameRecords) {
  ASSERT_TRUE(Prepare({.model = model_, .out = {}, .screen = {20, 2}, .num_parts = 1}));
  const std::string one = ReadFile(index_path_);
  EXPECT_EQ(NumberAt(one, 8), 3u);
  EXPECT_EQ(NumberAt(one, 320), 0u);
  EXPECT_EQ(one.substr(320, 704), std::string(704, '\0'));
  constexpr size_t kRows = 600, kWords = 5;
  for (const uint32_t parts : {3u, 9u}) {
    const auto prepared = Prepare({.model = model_, .out = {}, .screen = {20, 2}, .num_parts = parts});
    ASSERT_TRUE(prepared) << prepared.error();
    const std::string split = ReadFile(index_path_);
    const size_t num_parts = std::min<size_t>(parts, kWords);
    EXPECT_EQ(prepared->index.screen.num_parts, num_parts);
    EXPECT_EQ(NumberAt(split, 8), 4u);
    EXPECT_EQ(NumberAt(split, 320), num_parts);
    const formats::SectionRef& first = prepared->index.section(formats::Section::kFirstStage);
    const formats::SectionRef& groups = prepared->index.section(formats::Section::kGroupChecks);
    const auto at = static_cast<size_t>(first.offset);
    const auto in_one = static_cast<size_t>(index_.section(formats::Section::kFirstStage).offset);
    ASSERT_EQ(first.offset, index_.section(formats::Section::kFirstStage).offset);
    ASSERT_EQ(groups.bytes, num_parts * ((kRows + 127) / 128) * 4);
    std::string records, checksums;
    for (size_t p = 0; p < num_parts; ++p) {
      const size_t from = p * kWords / num_parts * 4, to = (p + 1) * kWords / num_parts * 4;
      const size_t begin = records.size();
      for (size_t row = 0; row < kRows; ++row) records += one.substr(in_one + row * 20 + from, to - from);
      for (size_t row = 0; row < kRows; row += 128) {
        const size_t size = std::min<size_t>(128, kRows - row) * (to - from);
        const uint32_t checksum = ChecksumOf(records, begin + row * (to - from), size);
        checksums.append(reinterpret_cast<const char*>(&checksum), 4);
      }
    }
    EXPECT_EQ(split.substr(at, records.size()), records);
    EXPECT_EQ(split.substr(static_cast<size_t>(groups.offset), checksums.size()), checksums);
    EXPECT_EQ(Refusal(), "");
  }
}

// One part where its tables fit beside what else is hot; the fewest bytes where they do not.
TEST_F(PrepareTest, PartsAreChosenForTheBoard) {
  const auto prepared_for = [&](uint64_t internal_bytes) {
    Board board = kEsp32Cam;
    board.capacity_bytes[static_cast<size_t>(Region::kSramDma)] = 16 * 1024;
    board.capacity_bytes[static_cast<size_t>(Region::kSram)] = internal_bytes;
    board.tile_buffer_bytes = 8192;
    const auto prepared = Prepare({.model = model_, .out = {}, .screen = {40, 2}, .board = board, .n_ctx = 16});
    EXPECT_TRUE(prepared) << prepared.error();
    const auto loaded = Open();
    EXPECT_TRUE(loaded) << loaded.error();
    const auto plan = PlanSession((*loaded)->model(), board, 512, {.n_ctx = 16, .head = plan::HeadMode::kScreen}, {},
                                  (*loaded)->index());
    EXPECT_TRUE(plan);
    EXPECT_NE(plan->buffer(BufferId::kScreenTables).region, Region::kPsram) << internal_bytes;
    return prepared->index.screen.num_parts;
  };
  uint32_t before = 1;
  for (const uint64_t kib : {64u, 16u}) {
    const uint32_t parts = prepared_for(kib * 1024);
    EXPECT_TRUE(kib == 64 ? parts == 1 : parts > before) << kib << ' ' << parts;
    before = parts;
  }
}

// Wherever a part lies.
TEST_F(PrepareTest, DamageOfEveryPartIsFound) {
  ASSERT_TRUE(Prepare({.model = model_, .out = {}, .screen = {20, 2}, .num_parts = 3}));
  const std::string index = ReadFile(index_path_);
  const auto written = [&](uint32_t card_percent) {
    const auto loaded = Open();
    if (!loaded) return loaded.error();
    const auto plan = MakePlan(
        **loaded, {.options = {.screen_card_percent = card_percent}, .n_ctx = 16, .head = plan::HeadMode::kScreen}, {});
    if (!plan) return plan.error();
    const auto session = (*loaded)->OpenSession(*plan);
    if (!session) return session.error();
    const std::vector<TokenId> prompt = {5, 7};
    if (const auto run = (*session)->Prefill(prompt); !run) return SentenceOf(run.error());
    std::string ids;
    for (int i = 0; i < 4; ++i) {
      const auto next = (*session)->Next({.temperature = 0});
      if (!next) return SentenceOf(next.error());
      ids += std::to_string(*next) + ' ';
    }
    return ids;
  };
  const std::string ids = written(0);
  EXPECT_EQ(std::ranges::count(ids, ' '), 4) << ids;
  const auto loaded = Open();
  ASSERT_TRUE(loaded);
  const formats::Index in_parts = *(*loaded)->index();
  for (const uint32_t card_percent : {0u, 50u, 100u}) {
    EXPECT_EQ(written(card_percent), ids);
    for (uint32_t p = 0; p < 3; ++p) {
      const uint64_t part = in_parts.part_offset(p, 600), row_bytes = in_parts.screen.part(p).record_bytes();
      for (const uint64_t row : {0u, 200u, 599u}) {
        Flip(index_path_, part + row * row_bytes);
        EXPECT_THAT(written(card_percent), HasSubstr("the index is damaged near its byte " +
                                                     std::to_string(part + row / 128 * 128 * row_bytes)));
        WriteFile(index_path_, index);
      }
    }
  }
  // The matrix, on a board that has no room for it.
  const formats::SectionRef& transform = in_parts.section(formats::Section::kTransform);
  const formats::TransformLayout layout = {64};
  for (const uint64_t at : {uint64_t{3}, layout.norms_at(), layout.matrix_at() + 5, layout.centroids_at() - 1,
                            layout.centroids_at() + 77}) {
    Flip(index_path_, transform.offset + at);
    EXPECT_THAT(written(0), HasSubstr("the index is damaged near its byte " + std::to_string(transform.offset)));
    WriteFile(index_path_, index);
  }
  // Numbers of parts that do not go with the version, the records or the sections, in a header that is sound otherwise.
  for (const auto& [version, parts] :
       std::initializer_list<std::pair<uint32_t, uint32_t>>{{3, 3}, {4, 0}, {4, 1}, {4, 2}, {4, 6}, {4, 0xffffffff}}) {
    std::string bytes = index;
    std::memcpy(&bytes[8], &version, 4);
    std::memcpy(&bytes[320], &parts, 4);
    const uint32_t checksum = ChecksumOf(bytes, 16, formats::kIndexHeaderBytes - 16);
    std::memcpy(&bytes[12], &checksum, 4);
    WriteFile(index_path_, bytes);
    EXPECT_THAT(Refusal(), HasSubstr("the index is damaged near its byte 0")) << version << ' ' << parts;
  }
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

// Behind everything else, and named where an index without one has zeros.
TEST_F(PrepareTest, ATableOfDraftsIsAnotherSection) {
  const std::string without = ReadFile(index_path_);
  for (size_t at = 324; at < formats::kIndexHeaderBytes; ++at) ASSERT_EQ(without[at], 0) << at;
  const auto prepared = Prepare({.model = model_, .out = {}, .screen = {16, 2}, .draft_tokens = 3000});
  ASSERT_TRUE(prepared) << prepared.error();
  const std::string with = ReadFile(index_path_);
  const formats::SectionRef& drafts = prepared->index.section(formats::Section::kDrafts);
  ASSERT_GT(drafts.bytes, 0u);
  EXPECT_EQ(drafts.bytes, prepared->draft_entries * 8);
  EXPECT_EQ(drafts.offset, without.size());
  EXPECT_EQ(with.substr(formats::kIndexHeaderBytes, without.size() - formats::kIndexHeaderBytes),
            without.substr(formats::kIndexHeaderBytes));
  EXPECT_EQ(with[8], 3);  // an engine that knows of no drafts reads the rest
  EXPECT_EQ(NumberAt(with, 328), drafts.offset);
  EXPECT_EQ(NumberAt(with, 336), drafts.bytes);
  const auto at = static_cast<size_t>(drafts.offset);
  EXPECT_EQ(NumberAt(with, 344), ChecksumOf(with, at, static_cast<size_t>(drafts.bytes)));
  for (size_t i = 1; i < prepared->draft_entries; ++i)
    ASSERT_LT(NumberAt(with, at + 8 * i - 8), NumberAt(with, at + 8 * i));
  for (size_t i = 0; i < prepared->draft_entries; ++i) ASSERT_LT(NumberAt(with, at + 8 * i + 4) & 0xffffff, 600u);
  float of_three = 0;
  std::memcpy(&of_three, &with[352 + 2 * 4], sizeof(of_three));
  EXPECT_GE(of_three, 1.0f);
  EXPECT_LE(of_three, 4.0f);
  EXPECT_EQ(of_three, prepared->index.draft_use[2]);
  ASSERT_TRUE(Prepare({.model = model_, .out = {}, .screen = {16, 2}, .draft_tokens = 3000}));
  EXPECT_EQ(ReadFile(index_path_), with);

  const auto written = [&](plan::DraftMode mode) {
    const auto loaded = Open();
    if (!loaded) return loaded.error();
    const auto plan = MakePlan(**loaded, {.n_ctx = 64, .draft = {.mode = mode}}, {});
    if (!plan) return plan.error();
    const auto session = (*loaded)->OpenSession(*plan);
    if (!session) return session.error();
    const std::vector<TokenId> prompt = {5, 7};
    if (const auto run = (*session)->Prefill(prompt); !run) return SentenceOf(run.error());
    std::string ids;
    for (int i = 0; i < 40; ++i) {
      const auto next = (*session)->Next({.seed = 8});
      if (!next) return SentenceOf(next.error());
      ids += std::to_string(*next) + ' ';
    }
    EXPECT_EQ((*loaded)->ledger().draft.drafted != 0, mode == plan::DraftMode::kNgram);
    return ids;
  };
  const std::string ids = written(plan::DraftMode::kNone);
  EXPECT_EQ(written(plan::DraftMode::kNgram), ids);
  // With numbers of ill will, the checksums made to fit: another cost, the same text.
  std::string bytes = with;
  for (size_t i = 0; i < prepared->draft_entries; ++i) {
    const uint32_t id_and_share = 0xff000000 | static_cast<uint32_t>(i % 3 == 0 ? i * 77 : i % 600);
    std::memcpy(&bytes[at + 8 * i + 4], &id_and_share, 4);
  }
  uint32_t checksum = ChecksumOf(bytes, at, static_cast<size_t>(drafts.bytes));
  std::memcpy(&bytes[344], &checksum, 4);
  checksum = ChecksumOf(bytes, 16, formats::kIndexHeaderBytes - 16);
  std::memcpy(&bytes[12], &checksum, 4);
  WriteFile(index_path_, bytes);
  EXPECT_EQ(written(plan::DraftMode::kNgram), ids);
  WriteFile(index_path_, with);
  Flip(index_path_, drafts.offset + 9);
  EXPECT_EQ(written(plan::DraftMode::kNone), ids);  // nobody looks at it
  EXPECT_THAT(written(plan::DraftMode::kNgram),
              HasSubstr("the index is damaged near its byte " + std::to_string(drafts.offset)));
  WriteFile(index_path_, without);
  EXPECT_THAT(written(plan::DraftMode::kNgram),
              AllOf(HasSubstr("drafts by ngram need a table"), HasSubstr("'thimble prepare --draft-tokens 60000'")));
  // A section that is no whole number of entries.
  bytes = with;
  bytes[336] = static_cast<char>(bytes[336] ^ 4);
  checksum = ChecksumOf(bytes, 16, formats::kIndexHeaderBytes - 16);
  std::memcpy(&bytes[12], &checksum, 4);
  WriteFile(index_path_, bytes);
  EXPECT_THAT(Refusal(), HasSubstr("the index is damaged near its byte 0"));
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
