#include "engine/generate.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "host/atomic_file.h"
#include "host/devices/faulty_device.h"
#include "host/devices/file_device.h"
#include "host/gguf_writer.h"
#include "host/synth.h"
#include "tests/support/checkpoints.h"
#include "tests/support/open_model.h"

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
    EXPECT_TRUE(host::WriteGguf(host::MakeSynth(*preset, 3), host::WrittenType::kF32, "", file->sink()));
    EXPECT_TRUE(file->Commit());
    device_ = host::FileDevice::Open(folder_ / "model.gguf").value();
  }

  // A fresh session that has read `prompt`.
  std::unique_ptr<tests::OpenModel> Start(std::string_view prompt, card::BlockDevice& device, uint32_t n_ctx = 0) {
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

constexpr text::SamplerOptions kSampler = {.temperature = 1.0f, .seed = 4};

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

TEST_F(GenerateTest, StopsAtAnEndTokenAndDoesNotShowIt) {
  bool seen = false;
  for (uint64_t seed = 0; seed < 40 && !seen; ++seed) {
    Sink sink;
    const auto model = Start("", *device_);
    const text::SamplerOptions hot = {.temperature = 5.0f, .seed = seed};
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

}  // namespace
}  // namespace thimble
