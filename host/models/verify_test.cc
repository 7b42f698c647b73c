#include "host/models/verify.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/formats/gguf.h"
#include "host/cards/card_image.h"
#include "host/commands/command.h"
#include "host/devices/faulty_device.h"
#include "host/devices/file_device.h"
#include "host/devices/ram_device.h"
#include "host/models/loaded_model.h"
#include "host/models/prepare.h"
#include "host/support/sha256.h"
#include "tests/support/checkpoints.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/synth_file.h"
#include "tests/support/test_gguf.h"
#include "tests/support/tool.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A model file in memory, opened.
class Opened {
 public:
  explicit Opened(std::string_view file)
      : ram_(std::as_bytes(std::span(file))),
        faulty_(ram_),
        extent_{.size_bytes = file.size()},
        reader_(faulty_, {.extents = {&extent_, 1}, .size_bytes = file.size()}, ledger_),
        arena_(Region::kSram, memory_) {
    storage::ByteReader bytes(reader_, buffer_);
    const auto model = formats::OpenGguf(bytes, arena_);
    EXPECT_TRUE(model) << model.error().what;
    if (model) model_ = *model;
    opened_.file.size_bytes = file.size();
    ram_.ClearReads();
  }

  Expected<CheckedBytes> Check(const ModelBytes* reference = nullptr) {
    return CheckBytes(Bytes("the model"), model_, reference);
  }
  ModelBytes Bytes(const char* name) { return ModelBytes(reader_, opened_, name); }
  Expected<uint32_t> Tokens() {
    THIMBLE_ASSIGN(const CheckedTokenizer checked, CheckTokenizer(reader_, model_, "the model"));
    return checked.tokens;
  }

  RamDevice& ram() { return ram_; }
  FaultyDevice& faulty() { return faulty_; }
  const formats::ModelFile& model() const { return model_; }
  const Ledger& ledger() const { return ledger_; }

 private:
  RamDevice ram_;
  FaultyDevice faulty_;
  storage::Extent extent_;
  Ledger ledger_;
  storage::FileReader reader_;
  alignas(64) std::array<std::byte, 1 << 16> memory_;
  alignas(64) std::array<std::byte, 4096> buffer_;
  Arena arena_;
  formats::ModelFile model_;
  OpenedModel opened_;
};

std::string FileOf(const TestModel& model) {
  const std::vector<std::byte> bytes = MakeGguf(model);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// Three pieces of a mebibyte and a bit.
constexpr ModelShape kThreePieces = {.vocab_size = 4001,
                                     .hidden_size = 96,
                                     .intermediate_size = 100,
                                     .num_hidden_layers = 2,
                                     .num_attention_heads = 4,
                                     .num_key_value_heads = 2,
                                     .head_dim = 24,
                                     .max_position_embeddings = 64,
                                     .rms_norm_eps = 1e-5f,
                                     .rope_theta = 10000.0f};

TEST(Verify, ReadsEveryByteOnceAndInOrder) {
  for (const bool tied : {false, true}) {
    const std::string file = FileOf({.shape = kThreePieces, .tied = tied});
    ASSERT_GT(file.size(), tied ? 1u << 20 : 3u << 20);
    Opened opened(file);
    const auto checked = opened.Check();
    ASSERT_TRUE(checked) << checked.error();
    EXPECT_EQ(opened.Bytes("x").size_bytes(), file.size());
    const uint64_t matrices = 2ull * (96 * 96 * 2 + 48 * 96 * 2 + 3 * 96 * 100 + 2 * 96);
    EXPECT_EQ(checked->weights, (tied ? 1 : 2) * 4001ull * 96 + matrices + 96);
    Sha256 sha;
    sha.Add(std::as_bytes(std::span(file)));
    EXPECT_EQ(checked->sha256, sha.Finish());
    uint64_t next = 0;
    for (const ReadRecord& read : opened.ram().reads()) {
      EXPECT_EQ(read.offset_bytes, next);
      EXPECT_GE(read.size_bytes, std::min<uint64_t>(1 << 20, file.size() - next));
      next += read.size_bytes;
    }
    EXPECT_EQ(next, (file.size() + 511) / 512 * 512);
  }
}

// One number of each tensor and storage type, flipped to an infinity or to none.
TEST(Verify, FindsEveryWeightThatIsNotFinite) {
  std::minstd_rand random(1);
  struct {
    uint32_t gguf_type;
    size_t bytes;
    std::vector<uint32_t> not_finite;
    std::vector<uint32_t> finite;  // the largest, and one with almost all exponent bits
  } types[] = {{0, 4, {0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001}, {0x7f7fffff, 0xff000000}},
               {1, 2, {0x7c00, 0xfc00, 0x7e00, 0x7c01}, {0x7bff, 0xf800}},
               {30, 2, {0x7f80, 0xff80, 0x7fc0, 0x7f81}, {0x7f7f, 0xff00}},
               {8, 2, {0x7c00, 0xfc00, 0x7e00, 0x7c01}, {0x7bff, 0xf800}}};  // scales of blocks
  for (const auto& type : types) {
    GgufBuilder builder = type.gguf_type == 8 ? GgufBuilder::Llama(2, 8, 64, 96, 2, 1, 32) : GgufBuilder::Llama();
    for (GgufTensor& tensor : builder.tensors) {
      if (tensor.dimensions.size() == 2) tensor.type = type.gguf_type;
    }
    std::string file = builder.Build();
    const Opened sound(file);
    for (const TensorRef& tensor : sound.model().tensors) {
      file.replace(tensor.offset, tensor.size_bytes(), tensor.size_bytes(), '\0');
    }
    for (const TensorRef& tensor : sound.model().tensors) {
      if (tensor.rows == 1 && type.gguf_type != 0) continue;
      const auto row = static_cast<uint32_t>(random() % tensor.rows);
      const auto column =
          static_cast<uint32_t>(random() % tensor.cols) / BlockElements(tensor.type) * BlockElements(tensor.type);
      const uint64_t offset = tensor.offset + row * tensor.row_bytes() + StoredBytes(tensor.type, column);
      for (const uint32_t bits : type.not_finite) {
        std::string damaged = file;
        damaged.replace(offset, type.bytes, tests::Bytes(bits), 0, type.bytes);
        const auto checked = Opened(damaged).Check();
        ASSERT_FALSE(checked);
        std::array<char, 48> name;
        FormatTensorName(tensor.id, name);
        EXPECT_EQ(checked.error(), "the model is damaged: at byte " + std::to_string(offset) + ", in row " +
                                       std::to_string(row) + " of tensor " + name.data() + ", column " +
                                       std::to_string(column) +
                                       ", stands infinity or no number; copy or download the model again");
      }
      for (const uint32_t bits : type.finite) {
        std::string other = file;
        other.replace(offset, type.bytes, tests::Bytes(bits), 0, type.bytes);
        EXPECT_TRUE(Opened(other).Check());
      }
    }
  }
}

TEST(Verify, FindsThemOnBothSidesOfAPiecesEdge) {
  const std::string file = FileOf({.shape = kThreePieces});
  for (const uint64_t offset : {(1ull << 20) - 4, 1ull << 20, (2ull << 20) - 4, 2ull << 20}) {
    std::string damaged = file;
    damaged.replace(offset, 4, tests::Bytes(0x7f800000));
    const auto checked = Opened(damaged).Check();
    ASSERT_FALSE(checked) << offset;
    EXPECT_THAT(checked.error(), HasSubstr("at byte " + std::to_string(offset) + ","));
  }
}

// Blocks lie across the edges of pieces; only their scales can be bad.
TEST(Verify, ChecksTheScalesOfBlocks) {
  ModelShape shape = kThreePieces;
  shape.vocab_size = 20'001;
  shape.intermediate_size = 160;
  const std::string file = FileOf({.shape = shape, .precision = DType::kQ8_0});
  ASSERT_GT(file.size(), 3u << 20);
  const auto sound = Opened(file).Check();
  ASSERT_TRUE(sound) << sound.error();
  EXPECT_EQ(sound->weights, 2 * 20'001ull * 96 + 2ull * (96 * 96 * 2 + 48 * 96 * 2 + 3 * 96 * 160 + 2 * 96) + 96);
  const Opened opened(file);
  size_t at_edges = 0;
  for (const TensorRef& tensor : opened.model().tensors) {
    if (tensor.type != DType::kQ8_0) continue;
    for (uint64_t edge = 1 << 20; edge < file.size(); edge += 1 << 20) {
      for (uint64_t block = tensor.offset; block < tensor.offset + tensor.size_bytes(); block += 34) {
        if (block + 40 < edge || block > edge + 40) continue;
        std::string damaged = file;
        damaged[block + 1] = '\x7c';
        const auto checked = Opened(damaged).Check();
        ASSERT_FALSE(checked) << block;
        EXPECT_THAT(checked.error(), HasSubstr("at byte " + std::to_string(block) + ","));
        damaged = file;
        damaged.replace(block + 2, 32, std::string(32, '\x7c'));
        EXPECT_TRUE(Opened(damaged).Check());
        ++at_edges;
      }
    }
  }
  EXPECT_GE(at_edges, 4u);
}

// The same of the types that are expanded, whose scales may lie behind the block's beginning, in the next piece.
TEST(Verify, ChecksEveryScaleOfABlock) {
  struct {
    DType type;
    std::vector<uint32_t> scales;
  } const types[] = {{DType::kQ4_0, {0}},    {DType::kQ4_1, {0, 2}}, {DType::kQ5_0, {0}},   {DType::kQ5_1, {0, 2}},
                     {DType::kQ4_K, {0, 2}}, {DType::kQ5_K, {0, 2}}, {DType::kQ6_K, {208}}, {DType::kIQ4_NL, {0}}};
  ModelShape shape = kThreePieces;
  shape.vocab_size = 8'001;
  shape.hidden_size = 256;
  shape.intermediate_size = 256;
  for (const auto& [type, scales] : types) {
    const uint64_t block_bytes = BlockBytes(type);
    const std::string file = FileOf({.shape = shape, .precision = type});
    ASSERT_GT(file.size(), 2u << 20);
    EXPECT_TRUE(Opened(file).Check());
    const Opened opened(file);
    size_t at_edges = 0;
    for (const TensorRef& tensor : opened.model().tensors) {
      if (tensor.type != type) continue;
      for (uint64_t edge = 1 << 20; edge < file.size(); edge += 1 << 20) {
        if (edge < tensor.offset || edge >= tensor.offset + tensor.size_bytes()) continue;
        const uint64_t cut = (edge - tensor.offset) / block_bytes;
        for (const uint64_t block : {cut - 1, cut, cut + 1}) {
          const uint64_t begin = tensor.offset + block * block_bytes;
          if (begin + block_bytes > tensor.offset + tensor.size_bytes()) continue;
          for (const uint64_t at : {uint64_t{0}, uint64_t{2}, uint64_t{4}, block_bytes - 2}) {
            std::string damaged = file;
            damaged.replace(begin + at, 2, "\x7c\x7c");
            const auto checked = Opened(damaged).Check();
            const bool is_scale = std::ranges::find(scales, at) != scales.end();
            ASSERT_EQ(checked.has_value(), !is_scale) << DTypeName(type) << ' ' << at;
            if (is_scale) {
              EXPECT_THAT(checked.error(), AllOf(HasSubstr("at byte " + std::to_string(begin + at) + ","),
                                                 HasSubstr("stands infinity or no number")));
            }
          }
          ++at_edges;
        }
      }
    }
    EXPECT_GE(at_edges, 3u) << DTypeName(type);
  }
}

TEST(Verify, NamesTheFirstByteThatTheSourceHasOtherwise) {
  const std::string file = FileOf({.shape = kThreePieces});
  Opened source(file);
  const ModelBytes reference = source.Bytes("the source");
  EXPECT_TRUE(Opened(file).Check(&reference));

  const TensorRef& tensor = source.model().tensor({TensorKind::kFfnUp, 1});
  std::string copy = file;
  const uint64_t offset = tensor.offset + 7 * tensor.row_bytes() + 5;
  copy[offset] ^= 1;
  copy[offset + 1] ^= 1;
  EXPECT_THAT(Opened(copy).Check(&reference).error(),
              AllOf(StartsWith("the model and the source differ first at byte "),
                    HasSubstr(", in row 7 of tensor blk.1.ffn_up.weight: "), EndsWith("; copy the model again")));
  copy = file;
  copy[source.model().tensors[0].offset - 1] ^= 1;  // padding, so that the model itself is sound
  EXPECT_TRUE(Opened(copy).Check());
  EXPECT_THAT(Opened(copy).Check(&reference).error(), HasSubstr("outside all tensors"));
  EXPECT_THAT(Opened(file + "more").Check(&reference).error(), HasSubstr("the source has"));
}

TEST(Verify, NamesTheBlockThatCannotBeRead) {
  const std::string file = FileOf({.shape = kThreePieces});
  Opened opened(file);
  const TensorRef& tensor = opened.model().tensor({TensorKind::kLmHead, 0});
  const uint64_t bad = (tensor.offset + tensor.size_bytes() / 2) / 512 * 512;
  for (const Fault::In in : {Fault::In::kStart, Fault::In::kWait}) {
    Opened damaged(file);
    damaged.faulty().Add({.in = in, .times = Fault::kForever, .offset_begin = bad, .offset_end = bad + 512});
    const auto checked = damaged.Check();
    ASSERT_FALSE(checked);
    EXPECT_THAT(checked.error(), HasSubstr("cannot be read at byte " + std::to_string(bad) + ", in row "));
    EXPECT_THAT(checked.error(),
                AllOf(HasSubstr("of tensor output.weight: "), EndsWith("copy the model to another card")));
  }
  // A fault that passes is tried again.
  opened.faulty().Add({.times = 2, .offset_begin = bad, .offset_end = bad + 512});
  EXPECT_TRUE(opened.Check());
  EXPECT_EQ(opened.ledger().retries, 2u);
}

TEST(Verify, LooksAtTheTextOfEveryToken) {
  EXPECT_EQ(Opened(FileOf({.shape = kThreePieces})).Tokens(), 0u);
  GgufBuilder builder = GgufBuilder::Llama();
  EXPECT_EQ(Opened(builder.Build()).Tokens(), 8u);
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>", "a", "\u2581b", "\uFFFD", "\U0001F600", ""};
  builder.Set("tokenizer.ggml.tokens", GgufValue::ArrayOf(tokens));
  EXPECT_EQ(Opened(builder.Build()).Tokens(), 8u);
  for (const char* bad : {"\x80", "ok\xc3", "\xed\xa0\x80", "a\xfe"}) {
    tokens[6] = bad;
    builder.Set("tokenizer.ggml.tokens", GgufValue::ArrayOf(tokens));
    const auto checked = Opened(builder.Build()).Tokens();
    ASSERT_FALSE(checked);
    EXPECT_THAT(checked.error(), HasSubstr("the text of token 6 is not UTF-8"));
  }
}

// A tensor folder is verified file by file, on a disk and on a card, where other bytes follow each file's end.
TEST(Verify, ReadsATensorFolderFileByFile) {
  const TemporaryFolder folder;
  const std::string model = folder / "model";
  std::filesystem::create_directory(model);
  const std::string config =
      R"({"vocab_size": 50, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2,
          "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
          "rope_theta": 10000.0, "tie_word_embeddings": false})";
  WriteFile(model + "/model_config.json", config);
  const std::pair<const char*, size_t> tensors[] = {{"embed_tokens", 400}, {"final_norm", 8}, {"lm_head", 400},
                                                    {"norm1", 8},          {"q_proj", 64},    {"k_proj", 32},
                                                    {"v_proj", 32},        {"o_proj", 64},    {"norm2", 8},
                                                    {"gate_proj", 96},     {"up_proj", 96},   {"down_proj", 96}};
  std::string bytes = config;
  uint32_t seed = 1;
  for (const auto& [name, count] : tensors) {
    std::string file;
    for (size_t i = 0; i < count; ++i) file += tests::Bytes(static_cast<float>(seed++));
    WriteFile(model + "/" + name + ".bin", file);
    bytes += file;
  }
  ASSERT_EQ(std::system(("export PATH=$PATH:/usr/sbin:/sbin MTOOLSRC=/dev/null; cd '" + folder.path() +
                         "' && truncate -s 64M card.img && mkfs.fat -F 32 -s 1 card.img >/dev/null && "
                         "mcopy -s -i card.img model ::")
                            .c_str()),
            0);
  Sha256 sha;
  sha.Add(std::as_bytes(std::span(bytes)));
  const std::string sum = sha.Finish();
  const std::string card = folder / "card.img";
  for (const std::string& path : {model, card}) {
    const ToolRun run = RunTool({"verify", path, "--against", path == card ? model : card});
    EXPECT_EQ(run.exit_code, 0) << run.error;
    EXPECT_THAT(run.out, AllOf(HasSubstr(" bytes in 13 files"), HasSubstr("1 304 numbers, all finite"),
                               HasSubstr("sha256     " + sum + "\n"), EndsWith("verdict    sound\n")));
  }

  std::string file = ReadFile(model + "/up_proj.bin");
  file[4 * 8 * 3 + 5] ^= 1;
  WriteFile(model + "/up_proj.bin", file);
  EXPECT_THAT(RunTool({"verify", card, "--against", model}).error,
              HasSubstr("differ first at byte 101 of up_proj.bin, in row 3 of tensor blk.0.ffn_up.weight: "));
  file.replace(4 * 8, 4, tests::Bytes(0x7f800000));
  WriteFile(model + "/up_proj.bin", file);
  EXPECT_THAT(
      RunTool({"verify", model}).error,
      HasSubstr("at byte 32 of up_proj.bin, in row 1 of tensor blk.0.ffn_up.weight, column 0, stands infinity"));
  ASSERT_EQ(unlink((model + "/lm_head.bin").c_str()), 0);
  EXPECT_THAT(RunTool({"verify", card, "--against", model}).error, HasSubstr("are not the same files"));
}

// A model of three blocks and more a matrix, and its index.
class VerifyIndex : public testing::Test {
 protected:
  VerifyIndex() {
    WriteSynth(model_, "vocab_size=600,hidden_size=64,intermediate_size=192");
    const auto prepared = Prepare({.model = model_, .out = {}, .screen = {16, 2}, .draft_tokens = 400});
    EXPECT_TRUE(prepared) << prepared.error();
    if (prepared) index_ = prepared->index;
  }

  // All that the command looks at.
  Status Verify() {
    THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open({.model = model_, .board = "host"}));
    THIMBLE_TRY(CheckTokenizer(loaded->reader(), loaded->model(), model_));
    if (loaded->index() == nullptr) return Sentence("there is no index");
    THIMBLE_ASSIGN(const IndexChecks checks,
                   CheckIndex(*loaded->index_reader(), *loaded->index(), loaded->model(), index_path_));
    const ModelBytes bytes(loaded->reader(), loaded->opened(), model_);
    THIMBLE_TRY(CheckBytes(bytes, loaded->model(), nullptr, &checks));
    return {};
  }

  // With one bit of the file changed.
  Status VerifyWith(const std::string& path, const std::string& whole, size_t at, unsigned bit) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 1 << bit);
    WriteFile(path, bytes);
    const Status verdict = Verify();
    WriteFile(path, whole);
    const std::string sentence = verdict ? path : verdict.error();
    EXPECT_THAT(sentence, AllOf(StartsWith(path), Not(EndsWith(".")), Not(HasSubstr("\n"))));
    return verdict;
  }

  TemporaryFolder folder_;
  const std::string model_ = folder_ / "model.gguf";
  const std::string index_path_ = folder_ / "model.thimble";
  formats::Index index_;
};

TEST_F(VerifyIndex, NamesThePartOfTheFirstStage) {
  const auto prepared = Prepare({.model = model_, .out = {}, .screen = {20, 2}, .num_parts = 3});
  ASSERT_TRUE(prepared) << prepared.error();
  index_ = prepared->index;
  ASSERT_EQ(index_.screen.num_parts, 3u);
  ASSERT_TRUE(Verify()) << Verify().error();
  const std::string whole = ReadFile(index_path_);
  for (uint32_t p = 0; p < 3; ++p) {
    const uint64_t row_bytes = index_.screen.part(p).record_bytes();
    for (const uint64_t row : {0u, 128u, 599u}) {
      const auto at = static_cast<size_t>(index_.part_offset(p, 600) + (row + 1) * row_bytes - 1);
      const Status verdict = VerifyWith(index_path_, whole, at, 3);
      ASSERT_FALSE(verdict) << at;
      EXPECT_THAT(verdict.error(),
                  HasSubstr(fmt::format("first stage of the screen, part {} of 3, rows {} to {}, ", p + 1,
                                        row / 128 * 128, std::min(row / 128 * 128 + 127, 599ul))));
    }
  }
}

TEST_F(VerifyIndex, FindsEveryBitOfTheIndex) {
  ASSERT_TRUE(Verify()) << Verify().error();
  const std::string whole = ReadFile(index_path_);
  std::minstd_rand random(1);
  std::vector<size_t> places;
  for (size_t at = 0; at < 300; at += 7) places.push_back(at);  // the header
  for (const formats::SectionRef& section : index_.sections) {
    ASSERT_NE(section.bytes, 0u);
    const auto begin = static_cast<size_t>(section.offset);
    const auto end = static_cast<size_t>(section.offset + section.bytes);
    for (const size_t at : {begin, begin + (end - begin) / 2, end - 1}) places.push_back(at);
    if (end % formats::kSectionAlign != 0) places.push_back(end);  // what fills it up
  }
  places.insert(places.end(), {formats::kIndexHeaderBytes - 1, formats::kIndexHeaderBytes, whole.size() - 1});
  for (int i = 0; i < 60; ++i) places.push_back(random() % whole.size());
  for (const size_t at : places) {
    const Status verdict = VerifyWith(index_path_, whole, at, random() % 8);
    ASSERT_FALSE(verdict) << at;
    EXPECT_THAT(verdict.error(), HasSubstr("thimble prepare")) << at;
  }
  const auto problem = [&](formats::Section id, uint64_t at) {
    return VerifyWith(index_path_, whole, static_cast<size_t>(index_.section(id).offset + at), 0).error();
  };
  const uint32_t record = index_.screen.record_bytes[1];
  EXPECT_THAT(problem(formats::Section::kSecondStage, 7 * record + 1),
              HasSubstr("second stage of the screen, row 7, bytes "));
  EXPECT_THAT(problem(formats::Section::kFirstStage, 0), HasSubstr("first stage of the screen, rows 0 to 127, bytes "));
  EXPECT_THAT(problem(formats::Section::kBlockChecks, 4), HasSubstr("checksums of blocks, bytes 4096 to "));
  const uint64_t image = index_.section(formats::Section::kTokenizer).offset;
  EXPECT_THAT(problem(formats::Section::kTokenizer, 600),
              HasSubstr("tokenizer, bytes " + std::to_string(image + 512) + " to " + std::to_string(image + 1023)));
}

TEST_F(VerifyIndex, FindsEveryBitOfTheModel) {
  const std::string whole = ReadFile(model_);
  const GgufContent gguf = ReadGguf(model_);
  std::vector<bool> is_read(whole.size());  // what any reader reads: all but what fills up between tensors
  size_t first = whole.size();
  std::vector<size_t> places;
  for (const auto& [name, tensor] : gguf.tensors) {
    const size_t begin = tensor.file_offset, size = tensor.bytes.size();
    first = std::min(first, begin);
    std::fill_n(is_read.begin() + static_cast<ptrdiff_t>(begin), size, true);
    for (const size_t at : {begin, begin + size / 2, begin + size - 1}) places.push_back(at);
  }
  std::fill_n(is_read.begin(), first, true);
  std::minstd_rand random(1);
  for (int i = 0; i < 40; ++i) places.push_back(random() % first);
  for (int i = 0; i < 60; ++i) places.push_back(random() % whole.size());
  size_t found = 0;
  for (const size_t at : places) {
    const Status verdict = VerifyWith(model_, whole, at, random() % 8);
    EXPECT_EQ(verdict.has_value(), !is_read[at]) << at;
    found += !verdict;
  }
  EXPECT_GT(found, places.size() / 2);

  const auto problem = [&](const char* tensor, uint64_t at) {
    return VerifyWith(model_, whole, static_cast<size_t>(gguf.tensors.at(tensor).file_offset + at), 0).error();
  };
  const uint64_t row = gguf.tensors.at("token_embd.weight").bytes.size() / 600;
  EXPECT_THAT(problem("token_embd.weight", 5 * row + 1),
              AllOf(HasSubstr("the " + std::to_string(row) + " bytes from byte "),
                    HasSubstr(", in row 5 of tensor token_embd.weight on have another checksum than in " + index_path_),
                    HasSubstr("copy or download the model again"), HasSubstr("'thimble prepare'")));
  EXPECT_THAT(problem("output.weight", 9 * row), HasSubstr("in row 9 of tensor output.weight"));
  EXPECT_THAT(problem("blk.1.ffn_down.weight", 16384 + 8),
              AllOf(HasSubstr("the 16384 bytes from byte "), HasSubstr("of tensor blk.1.ffn_down.weight")));
}

// As the tool says it, on a card and of a tensor folder.
TEST_F(VerifyIndex, TheToolNamesWhichFileIsDamaged) {
  const std::string card = folder_ / "card.img", tensors = folder_ / "tensors";
  const auto image = WriteCardImage({.contents = {.model = model_}, .out = card, .superfloppy = true});
  ASSERT_TRUE(image) << image.error();
  ASSERT_EQ(RunTool({"convert", model_, "--to", "folder", "-o", tensors}).exit_code, 0);
  ASSERT_EQ(RunTool({"prepare", tensors, "--screen", "8,2"}).exit_code, 0);
  for (const std::string& path : {model_, card, tensors}) {
    const ToolRun run = RunTool({"verify", path});
    EXPECT_EQ(run.exit_code, 0) << run.error;
    EXPECT_EQ(run.error, "");
    EXPECT_THAT(run.out, AllOf(HasSubstr("\nindex "), HasSubstr(" bytes, all checksums fit\n"),
                               HasSubstr(" checksums of rows and blocks fit\n"), EndsWith("verdict    sound\n")));
  }
  const auto expect = [&](const std::string& damaged, size_t at, const std::string& path, const std::string& says) {
    const std::string whole = ReadFile(damaged);
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    WriteFile(damaged, bytes);
    const ToolRun run = RunTool({"verify", path});
    EXPECT_EQ(run.exit_code, kExitFailed);
    EXPECT_THAT(run.error, AllOf(StartsWith("thimble: "), HasSubstr(says)));
    EXPECT_EQ(std::ranges::count(run.error, '\n'), 1) << run.error;
    EXPECT_THAT(run.out, Not(HasSubstr("verdict")));
    WriteFile(damaged, whole);
  };
  expect(tensors + "/layer_1_down_proj.bin", 101, tensors,
         tensors +
             " is damaged: the 16384 bytes from byte 0 of layer_1_down_proj.bin, in row 0 of tensor "
             "blk.1.ffn_down.weight on have another checksum than in " +
             tensors + ".thimble");
  expect(tensors + ".thimble", 4096, tensors, tensors + ".thimble is damaged in its checksums of blocks");
  const std::string on_card = ReadFile(card), model = ReadFile(model_), index = ReadFile(index_path_);
  const uint64_t tensor = ReadGguf(model_).tensors.at("blk.0.attn_k.weight").file_offset;
  expect(card, on_card.find(model.substr(0, 64)) + static_cast<size_t>(tensor), card,
         card + " is damaged: the 8192 bytes from byte " + std::to_string(tensor));
  expect(card, on_card.find(index.substr(0, 64)) + 4096, card,
         "model.thimble on the card " + card + " is damaged in its checksums of blocks");
}

TEST_F(VerifyIndex, WithoutOneItSaysWhatItCannotFind) {
  ASSERT_EQ(unlink(index_path_.c_str()), 0);
  const ToolRun run = RunTool({"verify", model_});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.out,
              AllOf(HasSubstr("index      none: "), HasSubstr("'thimble prepare' makes an index that finds them")));
  EXPECT_TRUE(nlohmann::json::parse(RunTool({"verify", model_, "--json"}).out)["index"].is_null());
}

// A tokenizer of another kind is no damage; one that contradicts itself is.
TEST_F(VerifyIndex, ATokenizerThatCannotBeUsed) {
  GgufBuilder other = GgufBuilder::Llama();
  other.Set("tokenizer.ggml.model", GgufValue::Of("bert"));
  const std::string path = folder_ / "other.gguf";
  WriteFile(path, other.Build());
  const ToolRun run = RunTool({"verify", path});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.out, AllOf(HasSubstr("tokenizer  not used: prompts are given as ids\n"), HasSubstr("sound\n")));
  EXPECT_THAT(run.error, AllOf(StartsWith("note: "), HasSubstr("type bert"), EndsWith("token ids only\n")));
  EXPECT_EQ(std::ranges::count(run.error, '\n'), 1) << run.error;
  GgufBuilder contradicts = GgufBuilder::Llama();
  contradicts.Set("tokenizer.ggml.token_type", GgufValue::ArrayOf(std::vector<int32_t>(8, 9)));
  WriteFile(path, contradicts.Build());
  EXPECT_EQ(RunTool({"verify", path}).exit_code, kExitFailed);
}

class VerifyCard : public testing::Test {
 protected:
  VerifyCard() {
    WriteFile(model_, GgufBuilder::Llama().Build());
    const auto card = WriteCardImage({.contents = {.model = model_}, .out = image_});
    EXPECT_TRUE(card) << card.error();
    bytes_ = ReadFile(image_);
  }

  uint32_t Get(size_t offset, size_t size) const { return LittleEndian(bytes_, offset, size); }

  Expected<uint32_t> Tables() {
    RamDevice device(std::as_bytes(std::span(bytes_)));
    THIMBLE_ASSIGN(const CheckedVolume volume, CheckVolume(device, "the card"));
    EXPECT_STREQ(volume.format_name, "FAT32");
    return volume.table_count;
  }

  ToolRun Verify(std::vector<std::string> more = {}) {
    WriteFile(image_, bytes_);
    more.insert(more.begin(), {"verify", image_});
    return RunTool(more);
  }

  static constexpr size_t kVolume = 4 << 20;
  TemporaryFolder folder_;
  const std::string model_ = folder_ / "model.gguf";
  const std::string image_ = folder_ / "card.img";
  std::string bytes_;
};

TEST_F(VerifyCard, ComparesTheAllocationTables) {
  EXPECT_EQ(Tables(), 2u);
  const size_t first = kVolume + 512 * Get(kVolume + 14, 2);
  const size_t table_bytes = 512 * Get(kVolume + 36, 4);
  const std::string whole = bytes_;
  std::minstd_rand random(1);
  // What belongs to no cluster: the first two entries, the upper four bits.
  for (const size_t offset : {0u, 4u, 7u, 11u, 4003u}) bytes_[first + table_bytes + offset] ^= '\x40';
  EXPECT_EQ(Tables(), 2u);
  for (int i = 0; i < 20; ++i) {
    bytes_ = whole;
    const auto cluster = static_cast<uint32_t>(i == 0 ? 2 : 2 + random() % 100'000);
    bytes_[first + (i % 2) * table_bytes + 4 * cluster] ^= 1;
    const auto tables = Tables();
    ASSERT_FALSE(tables);
    EXPECT_THAT(tables.error(), HasSubstr("two allocation tables differ at cluster " + std::to_string(cluster) + " "));
  }
  // The first of two differences, and neither when only one table is in use.
  bytes_ = whole;
  for (const uint32_t cluster : {90'000u, 3'000u}) bytes_[first + table_bytes + 4 * cluster] ^= 1;
  EXPECT_THAT(Tables().error(), HasSubstr("at cluster 3000 "));
  bytes_[kVolume + 40] = static_cast<char>(0x80);
  EXPECT_EQ(Tables(), 1u);
}

TEST_F(VerifyCard, SaysWhatItChecked) {
  ToolRun run = Verify({"--against", model_});
  EXPECT_EQ(run.exit_code, 0) << run.error;
  EXPECT_EQ(run.error, "");
  Sha256 sha;
  const std::string model = ReadFile(model_);
  sha.Add(std::as_bytes(std::span(model)));
  const std::string sum = sha.Finish();
  EXPECT_THAT(run.out, AllOf(HasSubstr("both allocation tables agree\n"), HasSubstr("model.gguf, "),
                             HasSubstr(" bytes, in 1 piece\n"), HasSubstr("21 tensors"), HasSubstr("8 tokens"),
                             HasSubstr("sha256     " + sum + "\n"), HasSubstr("model.gguf: the same bytes\n"),
                             EndsWith("\nverdict    sound\n")));
  run = Verify({"--json"});
  EXPECT_EQ(run.exit_code, 0);
  const auto json = nlohmann::json::parse(run.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << run.out;
  EXPECT_EQ(json["sound"], true);
  EXPECT_EQ(json["card"]["allocation_tables"], 2);
  EXPECT_EQ(json["file"]["bytes"], model.size());
  EXPECT_EQ(json["file"]["pieces"], 1);
  EXPECT_EQ(json["header"]["tensors"], 21);
  EXPECT_EQ(json["tokenizer"]["tokens"], 8);
  EXPECT_EQ(json["sha256"], sum);

  run = RunTool({"verify", model_, "--against", image_});
  EXPECT_EQ(run.exit_code, 0) << run.error;
  EXPECT_THAT(run.out, AllOf(HasSubstr(sum), Not(HasSubstr("FAT32")), Not(HasSubstr("piece"))));
}

// One line says what is wrong, and nothing says "sound".
TEST_F(VerifyCard, ADamagedCardIsNotSound) {
  const std::string whole = bytes_;
  const size_t first = kVolume + 512 * Get(kVolume + 14, 2);
  const size_t table_bytes = 512 * Get(kVolume + 36, 4);
  const size_t model = whole.find("GGUF\3");
  ASSERT_NE(model, whole.npos);
  const std::string contents = ReadFile(model_);
  const uint64_t lm_head = ReadGguf(model_).tensors.at("output.weight").file_offset;
  struct {
    const char* says;
    std::function<void()> damage;
  } cases[] = {
      {"allocation tables differ at cluster", [&] { bytes_[first + table_bytes + 4 * 50] ^= 1; }},
      {"its chain", [&] { bytes_.replace(first + 4 * 3, 8, std::string(8, '\x7f')); }},
      {"tensor output.weight", [&] { bytes_.replace(model + lm_head + 8, 4, tests::Bytes(0xffffffff)); }},
      {"GGUF", [&] { bytes_[model + 4] = 99; }},
      {"the image may be cut off", [&] { bytes_.resize(bytes_.size() / 2); }},
  };
  for (const auto& c : cases) {
    for (const bool json : {false, true}) {
      bytes_ = whole;
      c.damage();
      const ToolRun run = Verify(json ? std::vector<std::string>{"--json"} : std::vector<std::string>{});
      EXPECT_EQ(run.exit_code, kExitFailed) << c.says;
      EXPECT_THAT(run.error, AllOf(StartsWith("thimble: "), HasSubstr(c.says)));
      EXPECT_EQ(std::ranges::count(run.error, '\n'), 1) << run.error;
      EXPECT_THAT(run.out, Not(HasSubstr("verdict")));
      if (!json) continue;
      const auto object = nlohmann::json::parse(run.out, nullptr, false);
      EXPECT_EQ(object["sound"], false);
      EXPECT_THAT(object["problem"].get<std::string>(), HasSubstr(c.says));
    }
  }
}

TEST_F(VerifyCard, ATruncatedFileIsNotSound) {
  const std::string whole = ReadFile(model_);
  for (const size_t size : {size_t{3}, size_t{100}, whole.size() / 2, whole.size() - 5}) {
    WriteFile(model_, whole.substr(0, size));
    const ToolRun run = RunTool({"verify", model_});
    EXPECT_EQ(run.exit_code, kExitFailed) << size;
    EXPECT_EQ(std::ranges::count(run.error, '\n'), 1) << run.error;
    EXPECT_THAT(run.out, Not(HasSubstr("sound")));
  }
  EXPECT_EQ(RunTool({"verify", image_, "--against", folder_ / "absent"}).exit_code, kExitFailed);
}

}  // namespace
}  // namespace thimble::host
