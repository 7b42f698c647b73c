#include "engine/generate.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "host/devices/faulty_device.h"
#include "host/devices/file_device.h"
#include "host/devices/ram_device.h"
#include "host/formats/gguf_writer.h"
#include "host/models/prepare.h"
#include "host/support/atomic_file.h"
#include "host/synth/synth.h"
#include "tests/support/checkpoints.h"
#include "tests/support/open_model.h"
#include "tests/support/workers.h"

namespace thimble {
namespace {

struct Sink final : TextSink {
  void OnToken(TokenId id) override { ids.push_back(id); }
  void OnText(std::string_view text) override {
    EXPECT_FALSE(text.empty());
    all += text;
    if (on_text) on_text();
  }
  std::vector<TokenId> ids;
  std::string all;
  std::function<void()> on_text;
};

class GenerateTest : public testing::Test {
 protected:
  GenerateTest() {
    const auto preset = host::SynthShape("tiny-llm",
                                         "vocab_size=700,hidden_size=32,intermediate_size=48,num_attention_heads=2,"
                                         "num_key_value_heads=1,head_dim=16,max_position_embeddings=256");
    EXPECT_TRUE(preset) << preset.error();
    auto file = host::AtomicFile::Create(folder_ / "model.gguf", {});
    EXPECT_TRUE(file) << file.error();
    EXPECT_TRUE(host::WriteGguf(host::MakeSynth(*preset, 3), {.dtype = host::WrittenType::kF32}, "", file->sink()));
    EXPECT_TRUE(file->Commit());
    device_ = host::FileDevice::Open(folder_ / "model.gguf").value();
  }

  // A fresh session that has read `prompt`.
  std::unique_ptr<tests::OpenModel> Start(std::string_view prompt, storage::BlockDevice& device, uint32_t n_ctx = 0) {
    auto model = std::make_unique<tests::OpenModel>(device, tests::OpenModel::Options{.plan = {.n_ctx = n_ctx}});
    EXPECT_NE(model->session(), nullptr) << model->error();
    const auto ids = model->session()->Tokenize(prompt);
    EXPECT_TRUE(ids);
    EXPECT_TRUE(model->session()->Prefill(*ids));
    return model;
  }

  tests::TemporaryFolder folder_;
  std::unique_ptr<host::FileDevice> device_;
};

constexpr head::SamplerOptions kSampler = {.temperature = 1.0f, .seed = 4};

TEST_F(GenerateTest, StopsAfterTheTokensAskedFor) {
  for (int64_t n : {0, 1, 7}) {
    Sink sink;
    const auto model = Start("a", *device_);
    const auto result = Generate(*model->session(), {.sampler = kSampler, .n_predict = n, .stops = {}}, sink);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->reason, StopReason::kLimit);
    EXPECT_EQ(result->n_predicted, static_cast<uint64_t>(n));
    EXPECT_EQ(sink.ids.size(), static_cast<size_t>(n));
  }
}

TEST_F(GenerateTest, StopsAtAFullContext) {
  Sink sink;
  const auto model = Start("", *device_, 12);
  const auto result = Generate(*model->session(), {.sampler = {.temperature = 0.0f}, .stops = {}}, sink);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->reason, StopReason::kContextFull);
  EXPECT_EQ(result->n_predicted, 12u);  // position 0 is the begin token; the last choice needs no position
  EXPECT_EQ(model->session()->n_past(), 12u);
}

// What bounds a prompt is its tokens, not its bytes: a rule, a long word and words take more than 8 bytes a token.
TEST_F(GenerateTest, APromptHasRoomForItsTokens) {
  const auto preset = host::SynthShape("tiny-llm",
                                       "vocab_size=700,hidden_size=32,intermediate_size=48,num_attention_heads=2,"
                                       "num_key_value_heads=1,head_dim=16,max_position_embeddings=256");
  ASSERT_TRUE(preset) << preset.error();
  host::Checkpoint checkpoint = host::MakeSynth(*preset, 3);
  TokenId id = 600;
  for (const char c : {'-', 'x'}) {
    for (size_t n = 2; n <= 64; n *= 2) {
      checkpoint.vocabulary.tokens[id] = std::string(n, c);
      checkpoint.vocabulary.scores[id] = 1000 - static_cast<float>(n);
      checkpoint.vocabulary.types[id++] = text::TokenType::kNormal;
    }
  }
  const std::string hindi = "\xE0\xA4\xA8\xE0\xA4\xAE\xE0\xA4\xB8\xE0\xA5\x8D\xE0\xA4\xA4\xE0\xA5\x87";  // 18 bytes
  checkpoint.vocabulary.tokens[id] = "\u2581" + hindi;
  checkpoint.vocabulary.types[id] = text::TokenType::kUserDefined;
  auto file = host::AtomicFile::Create(folder_ / "long.gguf", {});
  ASSERT_TRUE(file) << file.error();
  ASSERT_TRUE(host::WriteGguf(checkpoint, {.dtype = host::WrittenType::kF32}, "", file->sink()));
  ASSERT_TRUE(file->Commit());
  const auto device = host::FileDevice::Open(folder_ / "long.gguf").value();
  std::string words;
  while (words.size() < 120 * (hindi.size() + 1)) words += " " + hindi;
  for (const std::string& prompt :
       {std::string(120 * 64, '-'), std::string(60 * 64, '-') + std::string(60 * 64, 'x'), words.substr(1)}) {
    tests::OpenModel model(*device, {.plan = {.n_ctx = 128}});
    ASSERT_NE(model.session(), nullptr) << model.error();
    ASSERT_GT(prompt.size(), 8u * 128);
    const auto ids = model.session()->Tokenize(prompt);
    ASSERT_TRUE(ids);
    EXPECT_LE(ids->size(), 128u);
    EXPECT_TRUE(model.session()->Prefill(*ids));

    const auto too_long = model.session()->Tokenize(prompt + prompt);
    ASSERT_FALSE(too_long);
    EXPECT_EQ(too_long.error().code, Code::kContextFull);
    EXPECT_GT(too_long.error().need, 128u);
    EXPECT_LT(too_long.error().have, 128u);
  }
}

TEST_F(GenerateTest, StopsAtAnEndTokenAndDoesNotShowIt) {
  bool seen = false;
  for (uint64_t seed = 0; seed < 40 && !seen; ++seed) {
    Sink sink;
    const auto model = Start("", *device_);
    const head::SamplerOptions hot = {.temperature = 5.0f, .seed = seed};
    const auto result = Generate(*model->session(), {.sampler = hot, .stops = {}}, sink);
    ASSERT_TRUE(result);
    for (size_t i = 0; i + 1 < sink.ids.size(); ++i) {
      EXPECT_NE(sink.ids[i], model->session()->tokenizer().eos());
      EXPECT_NE(sink.ids[i], model->session()->tokenizer().bos());
    }
    if (result->reason != StopReason::kEndOfSequence) continue;
    seen = true;
    EXPECT_TRUE(sink.ids.back() == model->session()->tokenizer().eos() ||
                sink.ids.back() == model->session()->tokenizer().bos());
    EXPECT_EQ(sink.all.find("</s>"), std::string::npos);
    EXPECT_EQ(result->n_predicted, sink.ids.size());
  }
  EXPECT_TRUE(seen);
}

TEST_F(GenerateTest, StopsBeforeAStopTextWhereverItBegins) {
  Sink whole;
  const auto model = Start("a", *device_);
  ASSERT_TRUE(Generate(*model->session(), {.sampler = kSampler, .n_predict = 60, .stops = {}}, whole));
  for (size_t begin = 0; begin + 3 <= whole.all.size(); begin += 5) {
    const std::string stop = whole.all.substr(begin, 3);
    const std::vector<std::string_view> stops = {"no such text", stop};
    Sink sink;
    const auto again = Start("a", *device_);
    const auto result = Generate(*again->session(), {.sampler = kSampler, .n_predict = 60, .stops = stops}, sink);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->reason, StopReason::kStopText);
    EXPECT_EQ(sink.all, whole.all.substr(0, whole.all.find(stop)));
  }
}

TEST_F(GenerateTest, AStopTextThatNeverComesChangesNothing) {
  Sink whole, sink;
  const auto first = Start("a", *device_);
  ASSERT_TRUE(Generate(*first->session(), {.sampler = kSampler, .n_predict = 40, .stops = {}}, whole));
  const std::string never = whole.all.substr(whole.all.size() - 2) + "#never#";
  const std::vector<std::string_view> stops = {never};
  const auto second = Start("a", *device_);
  const auto result = Generate(*second->session(), {.sampler = kSampler, .n_predict = 40, .stops = stops}, sink);
  ASSERT_TRUE(result);
  EXPECT_EQ(sink.all, whole.all);
  EXPECT_EQ(result->reason, StopReason::kLimit);
}

TEST_F(GenerateTest, RefusesStopTextsItCannotHold) {
  const std::string endless(10'000, 'x');
  for (const std::string& stop : {std::string(), endless}) {
    const std::vector<std::string_view> stops = {stop};
    Sink sink;
    const auto model = Start("a", *device_);
    const auto result = Generate(*model->session(), {.sampler = kSampler, .stops = stops}, sink);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::kInvalidArgument);
    EXPECT_TRUE(sink.ids.empty());
  }
}

// A piece that begins with a space, as most words do, shows that space only where text stands before it.
TEST_F(GenerateTest, TheFirstSpaceOfATextIsDroppedAndOfAContinuationKept) {
  for (const bool fresh : {true, false}) {
    bool seen = false;
    for (uint64_t seed = 0; seed < 40 && !seen; ++seed) {
      Sink sink;
      const auto model = Start(fresh ? "" : "a", *device_);
      EXPECT_EQ(model->session()->has_text(), !fresh);
      ASSERT_TRUE(Generate(*model->session(), {.sampler = {.seed = seed}, .n_predict = 2, .stops = {}}, sink));
      const std::string_view piece = model->session()->tokenizer().Piece(sink.ids[0]);
      if (piece.size() < 2 || piece[0] != ' ') continue;
      seen = true;
      EXPECT_EQ(sink.all.substr(0, piece.size() - 1), piece.substr(fresh ? 1 : 0, piece.size() - 1));
    }
    EXPECT_TRUE(seen);
  }
}

TEST_F(GenerateTest, CancellationIsAReasonToStopAndKeepsTheText) {
  const auto model = Start("a", *device_);
  Sink sink;
  int texts = 0;
  sink.on_text = [&] {
    if (++texts == 3) model->Cancel();
  };
  const auto result = Generate(*model->session(), {.sampler = kSampler, .stops = {}}, sink);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->reason, StopReason::kCancelled);
  EXPECT_EQ(texts, 3);
}

TEST_F(GenerateTest, AFailingCardIsAnErrorAfterTheTextSoFar) {
  host::FaultyDevice faulty(*device_);
  const auto model = Start("a", faulty);
  faulty.Add({.first_read = faulty.starts() + 40, .times = host::Fault::kForever});
  Sink sink;
  const auto result = Generate(*model->session(), {.sampler = kSampler, .stops = {}}, sink);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kIo);
  EXPECT_FALSE(sink.all.empty());
}

TEST(StopReason, EveryReasonHasItsOwnName) {
  std::set<std::string> names;
  for (int i = 0; i <= static_cast<int>(StopReason::kCancelled); ++i) {
    names.insert(StopReasonName(static_cast<StopReason>(i)));
  }
  EXPECT_EQ(names, (std::set<std::string>{"eos", "limit", "stop", "context", "interrupt"}));
}

// A board whose internal memory is a few bytes too small for the tables of the tokenizer, which are in the index.
class TokenizerOnCard : public GenerateTest {
 protected:
  TokenizerOnCard() {
    const auto prepared = host::Prepare({.model = folder_ / "model.gguf", .out = {}, .screen = {16, 3}});
    EXPECT_TRUE(prepared) << prepared.error();
    const std::string bytes = tests::ReadFile(prepared->path);
    index_ = std::make_unique<host::RamDevice>(std::as_bytes(std::span(bytes)));
    image_ = prepared->index.section(formats::Section::kTokenizer);
    options_.keep_logits = false;
    options_.plan = {
        .n_ctx = 100, .tile_buffer_bytes = kEsp32.tile_buffer_bytes, .prompt_batch = 1, .head = plan::HeadMode::kFull};
    options_.index = index_.get();
    options_.board = kEsp32;
    tests::OpenModel with_tables(*device_, options_);
    EXPECT_NE(with_tables.session(), nullptr) << with_tables.error();
    EXPECT_EQ(with_tables.plan().tokenizer, plan::TokenizerPlace::kInMemory);
    const uint64_t needed =
        with_tables.plan().region_bytes(Region::kSram) + with_tables.plan().region_bytes(Region::kSramDma);
    options_.board.capacity_bytes[static_cast<size_t>(Region::kSram)] =
        needed - options_.board.capacity(Region::kSramDma) - kArenaAlign;
  }

  // The ids of `prompt` and a text after it.
  struct Told {
    std::vector<TokenId> prompt;
    Sink sink;
  };
  static Told Tell(Session& session, std::string_view prompt) {
    Told told;
    const auto ids = session.Tokenize(prompt);
    EXPECT_TRUE(ids);
    told.prompt.assign(ids->begin(), ids->end());
    EXPECT_TRUE(session.Prefill(*ids));
    const auto result = Generate(session, {.sampler = kSampler, .n_predict = 60, .stops = {}}, told.sink);
    EXPECT_TRUE(result);
    return told;
  }

  static uint64_t TextReads(tests::OpenModel& model) {
    return model.ledger().zones[static_cast<size_t>(Zone::kText)].reads;
  }

  std::unique_ptr<host::RamDevice> index_;
  formats::SectionRef image_;
  tests::OpenModel::Options options_;
};

TEST_F(TokenizerOnCard, GivesTheTextOfATokenizerInMemory) {
  constexpr std::string_view kPrompt = "a b \xe2\x82\xac and \xff more";
  tests::OpenModel on_card(*device_, options_);
  ASSERT_NE(on_card.session(), nullptr) << on_card.error();
  EXPECT_EQ(on_card.plan().tokenizer, plan::TokenizerPlace::kOnCard);
  const Told told = Tell(*on_card.session(), kPrompt);
  EXPECT_GT(told.sink.all.size(), 20u);
  EXPECT_GT(TextReads(on_card), 10u);
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    EXPECT_EQ(on_card.arena(region).peak_bytes(), on_card.plan().region_bytes(region)) << RegionName(region);
  }

  tests::OpenModel::Options roomy = options_;
  roomy.board = kEsp32Cam;
  for (bool with_index : {true, false}) {
    if (!with_index) roomy.index = nullptr;
    tests::OpenModel in_memory(*device_, roomy);
    ASSERT_NE(in_memory.session(), nullptr) << in_memory.error();
    EXPECT_EQ(in_memory.plan().tokenizer, plan::TokenizerPlace::kInMemory);
    const Told same = Tell(*in_memory.session(), kPrompt);
    EXPECT_EQ(same.prompt, told.prompt);
    EXPECT_EQ(same.sink.ids, told.sink.ids);
    EXPECT_EQ(same.sink.all, told.sink.all);
    EXPECT_EQ(TextReads(in_memory), 0u);
  }
}

TEST_F(TokenizerOnCard, DamagedWeightsAreFoundHoweverCoresShareTheirChecks) {
  options_.board = kEsp32Cam;
  const std::string bytes = tests::ReadFile(folder_ / "model.gguf");
  host::RamDevice device(std::as_bytes(std::span(bytes)));
  const auto run = [&](Workers* workers) -> Error {
    options_.workers = workers;
    tests::OpenModel model(device, options_);
    if (model.session() == nullptr) return {.what = "not opened"};
    const auto read = model.session()->Prefill(std::array<TokenId, 3>{1, 5, 7});
    if (!read) return read.error();
    const auto next = model.session()->Next({.temperature = 0});
    return next ? Error{.what = "sound"} : next.error();
  };
  tests::OpenModel model(device, options_);
  ASSERT_NE(model.session(), nullptr) << model.error();
  tests::DividingWorkers workers(3);
  EXPECT_STREQ(run(&workers).what, "sound");
  for (const TensorKind kind : {TensorKind::kAttnQ, TensorKind::kFfnDown, TensorKind::kLmHead}) {
    const TensorRef& tensor = model.model().tensor({kind, 0});
    for (const uint64_t at : {uint64_t{0}, tensor.size_bytes() / 2, tensor.size_bytes() - 1}) {
      std::byte& byte = device.bytes()[static_cast<size_t>(tensor.offset + at)];
      byte ^= std::byte{4};
      const Error alone = run(nullptr);
      const Error shared = run(&workers);
      byte ^= std::byte{4};
      EXPECT_EQ(alone.code, Code::kCorrupt) << alone.what;
      EXPECT_EQ(alone.tensor.kind, kind);
      EXPECT_STREQ(shared.what, alone.what);
      EXPECT_EQ(shared.offset, alone.offset);
      EXPECT_EQ(shared.tensor.kind, kind);
    }
  }
}

TEST_F(TokenizerOnCard, AReadThatFailsIsAnError) {
  host::FaultyDevice faulty(*index_);
  options_.index = &faulty;
  tests::OpenModel model(*device_, options_);
  ASSERT_NE(model.session(), nullptr) << model.error();
  const std::vector<TokenId> prompt = {1, 300, 301};
  ASSERT_TRUE(model.session()->Prefill(prompt));
  faulty.Add(
      {.times = host::Fault::kForever, .offset_begin = image_.offset, .offset_end = image_.offset + image_.bytes});
  Sink sink;
  const auto result = Generate(*model.session(), {.sampler = kSampler, .n_predict = 60, .stops = {}}, sink);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kIo);
  EXPECT_EQ(sink.ids.size(), 1u);
  EXPECT_EQ(sink.all, "");
  EXPECT_FALSE(model.session()->Tokenize("some other text"));
}

TEST_F(TokenizerOnCard, ADamagedPageIsAnError) {
  for (uint64_t at = image_.offset + 600; at < image_.offset + image_.bytes; at += 512) {
    index_->bytes()[static_cast<size_t>(at)] ^= std::byte{4};
  }
  tests::OpenModel model(*device_, options_);
  ASSERT_NE(model.session(), nullptr) << model.error();
  const auto ids = model.session()->Tokenize("some text");
  ASSERT_FALSE(ids);
  EXPECT_EQ(ids.error().code, Code::kCorrupt);
  const std::vector<TokenId> prompt = {1, 300, 301};
  ASSERT_TRUE(model.session()->Prefill(prompt));
  Sink sink;
  const auto result = Generate(*model.session(), {.sampler = kSampler, .n_predict = 60, .stops = {}}, sink);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kCorrupt);
  EXPECT_EQ(sink.all, "");

  // In memory, too.
  options_.board = kEsp32Cam;
  EXPECT_EQ(tests::OpenModel(*device_, options_).session(), nullptr);
}

}  // namespace
}  // namespace thimble
