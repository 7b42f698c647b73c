#include "engine/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "host/devices/faulty_device.h"
#include "host/devices/ram_device.h"
#include "tests/support/open_model.h"
#include "tests/support/test_gguf.h"

namespace thimble {
namespace {

using tests::OpenModel;

constexpr ModelShape kSmall = {.vocab_size = 61,
                               .hidden_size = 36,
                               .intermediate_size = 50,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 4,
                               .num_key_value_heads = 2,
                               .head_dim = 10,
                               .max_position_embeddings = 32,
                               .rms_norm_eps = 1e-5f,
                               .rope_theta = 10000.0f};

// Rows of whole blocks, those of down_proj the widest.
constexpr ModelShape kBlocks = {.vocab_size = 61,
                                .hidden_size = 64,
                                .intermediate_size = 160,
                                .num_hidden_layers = 2,
                                .num_attention_heads = 3,
                                .num_key_value_heads = 1,
                                .head_dim = 32,
                                .max_position_embeddings = 32,
                                .rms_norm_eps = 1e-5f,
                                .rope_theta = 10000.0f};

std::vector<float> Copy(std::span<const float> values) { return {values.begin(), values.end()}; }

class SessionTest : public testing::Test {
 protected:
  SessionTest() : device_(tests::MakeGguf({.shape = kSmall})) {}

  std::unique_ptr<OpenModel> Open(storage::BlockDevice& device, plan::PlanOptions options = {}) {
    auto model = std::make_unique<OpenModel>(device, OpenModel::Options{.plan = options});
    EXPECT_NE(model->session(), nullptr) << model->error();
    return model;
  }

  host::RamDevice device_;
};

TEST_F(SessionTest, TakesExactlyWhatThePlanSays) {
  const auto model = Open(device_);
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    EXPECT_EQ(model->arena(region).used_bytes(), model->plan().region_bytes(region)) << RegionName(region);
    EXPECT_EQ(model->arena(region).peak_bytes(), model->plan().region_bytes(region)) << RegionName(region);
  }
}

TEST_F(SessionTest, PrefillInPiecesGivesTheSameBits) {
  const std::vector<TokenId> prompt = {1, 60, 7, 7, 0, 33, 12, 5};
  const auto whole = Open(device_);
  ASSERT_TRUE(whole->session()->Prefill(prompt));
  const std::vector<float> want = Copy(whole->session()->logits());
  for (size_t cut = 1; cut < prompt.size(); ++cut) {
    const auto pieces = Open(device_);
    ASSERT_TRUE(pieces->session()->Prefill(std::span(prompt).first(cut)));
    ASSERT_TRUE(pieces->session()->Prefill(std::span(prompt).subspan(cut)));
    EXPECT_EQ(Copy(pieces->session()->logits()), want);
    EXPECT_EQ(pieces->session()->n_past(), prompt.size());
  }
}

// A float that is read before it is written is huge, not a number or tiny.
TEST_F(SessionTest, WhatTheMemoryHeldBeforeChangesNothing) {
  const std::vector<TokenId> prompt = {1, 60, 7, 7, 0, 33, 12, 5};
  constexpr int kTokens = 12;
  for (const Architecture architecture : {Architecture::kLlama, Architecture::kQwen2, Architecture::kQwen3}) {
    ModelShape shape = kSmall;
    shape.architecture = architecture;
    shape.has_rope_factors = architecture == Architecture::kLlama;
    host::RamDevice device(tests::MakeGguf({.shape = shape}));
    OpenModel::Options options = {.left_over = std::byte{0}};
    const auto run = [&] {
      OpenModel model(device, options);
      EXPECT_NE(model.session(), nullptr) << model.error();
      return model.session() == nullptr ? tests::GreedyRun() : tests::RunGreedy(*model.session(), prompt, kTokens);
    };
    const tests::GreedyRun want = run();
    EXPECT_EQ(want.ids.size(), size_t{kTokens});
    for (const int left_over : {0x7f, 0xff, 0xa5}) {
      options.left_over = static_cast<std::byte>(left_over);
      EXPECT_EQ(run(), want) << ArchitectureName(architecture) << ' ' << left_over;
    }
  }
}

TEST_F(SessionTest, RotaryFactorsThatAreNoneAreRefused) {
  ModelShape shape = kSmall;
  shape.has_rope_factors = true;
  std::vector<std::byte> gguf = tests::MakeGguf({.shape = shape});
  uint64_t offset = 0;
  {
    host::RamDevice device(gguf);
    offset = Open(device)->model().tensor({TensorKind::kRopeFactors, 0}).offset;
  }
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  for (const float bad : {0.0f, -1.0f, 0.99f, 1048577.0f, kInf, kNan}) {
    std::memcpy(&gguf[static_cast<size_t>(offset) + sizeof(float)], &bad, sizeof(bad));
    host::RamDevice device(gguf);
    const OpenModel::Options options;
    OpenModel model(device, options);
    EXPECT_EQ(model.session(), nullptr);
    EXPECT_NE(model.error().find("element 1 of rope_freqs.weight does not lie between 1 and 1048576"),
              std::string::npos)
        << model.error();
  }
}

TEST_F(SessionTest, ASamplerLargerThanPlannedIsRefusedBeforeAnythingChanges) {
  const std::vector<TokenId> prompt = {1, 60, 7, 12};
  constexpr int kTokens = 5;
  const head::SamplerOptions fits = {.top_k = 5, .seed = 3};
  const auto plain = Open(device_);
  ASSERT_TRUE(plain->session()->Prefill(prompt));
  std::vector<TokenId> want;
  for (int i = 0; i < kTokens; ++i) {
    const Result<TokenId> token = plain->session()->Next(fits);
    ASSERT_TRUE(token);
    want.push_back(*token);
  }

  const auto model = Open(device_);
  Session& s = *model->session();
  ASSERT_TRUE(s.Prefill(prompt));
  for (int i = 0; i < kTokens; ++i) {
    const uint32_t n_past = s.n_past();
    const std::vector<float> logits = Copy(s.logits());
    const ZoneCounts before = model->ledger().total();
    for (const head::SamplerOptions& larger :
         {head::SamplerOptions{.top_k = 41}, head::SamplerOptions{.top_k = 0, .top_p = 0.9f},
          head::SamplerOptions{.repeat_penalty = 1.1f, .top_k = 5}}) {
      const Result<TokenId> refused = s.Next(larger);
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
    }
    EXPECT_EQ(s.n_past(), n_past);
    EXPECT_EQ(Copy(s.logits()), logits);
    EXPECT_EQ(model->ledger().total().reads, before.reads);
    EXPECT_EQ(model->ledger().total().macs, before.macs);
    const Result<TokenId> token = s.Next(fits);
    ASSERT_TRUE(token);
    EXPECT_EQ(*token, want[static_cast<size_t>(i)]) << i;
  }
}

TEST_F(SessionTest, AnotherConversationIsAsTheFirst) {
  const std::vector<TokenId> prompt = {1, 60, 7, 12};
  const auto model = Open(device_);
  Session& s = *model->session();
  ASSERT_TRUE(s.Prefill(prompt));
  const std::vector<float> want = Copy(s.logits());
  const Result<TokenId> first = s.Next({.temperature = 0.0f});
  ASSERT_TRUE(first);
  s.Clear();
  EXPECT_EQ(s.n_past(), 0u);
  EXPECT_FALSE(s.has_text());
  EXPECT_TRUE(s.logits().empty());
  EXPECT_EQ(s.hidden(), nullptr);
  EXPECT_FALSE(s.Next({.temperature = 0.0f}));
  ASSERT_TRUE(s.Prefill(std::vector<TokenId>{33, 5}));
  s.Clear();
  ASSERT_TRUE(s.Prefill(prompt));
  EXPECT_EQ(Copy(s.logits()), want);
  const Result<TokenId> again = s.Next({.temperature = 0.0f});
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, *first);
}

// What two texts begin with alike is kept, and nothing tells it from a text that was read as a whole.
TEST_F(SessionTest, ReplacingKeepsWhatIsCommonAndChangesNoBit) {
  const std::vector<TokenId> first = {1, 60, 7, 7, 0, 33, 12, 5};
  const auto model = Open(device_);
  Session& s = *model->session();
  const auto expect_as_fresh = [&](const std::vector<TokenId>& tokens) {
    const auto fresh = Open(device_);
    ASSERT_TRUE(fresh->session()->Prefill(tokens));
    EXPECT_EQ(std::vector<TokenId>(s.past().begin(), s.past().end()), tokens);
    EXPECT_EQ(Copy(s.logits()), Copy(fresh->session()->logits()));
    EXPECT_EQ(s.has_text(), fresh->session()->has_text());
    for (int i = 0; i < 4; ++i) {
      const auto token = s.Next({.seed = 5}), wanted = fresh->session()->Next({.seed = 5});
      ASSERT_TRUE(token && wanted);
      EXPECT_EQ(*token, *wanted);
    }
  };
  const auto replace = [&](const std::vector<TokenId>& tokens, uint32_t kept) {
    const uint64_t before = model->ledger().total().reads;
    const auto replaced = s.Replace(tokens);
    ASSERT_TRUE(replaced);
    EXPECT_EQ(*replaced, kept);
    EXPECT_GT(model->ledger().total().reads, before);
    expect_as_fresh(tokens);
  };
  replace(first, 0);
  // Three of the four tokens that were chosen have run.
  std::vector<TokenId> longer(s.past().begin(), s.past().end());
  ASSERT_EQ(longer.size(), first.size() + 3);
  longer.insert(longer.end(), {9, 9, 41});
  replace(longer, static_cast<uint32_t>(first.size()) + 3);
  replace(first, static_cast<uint32_t>(first.size()) - 1);
  replace({1, 60, 7, 8}, 3);
  replace({2, 60, 7, 8}, 0);
  replace({1}, 0);
  EXPECT_TRUE(s.has_text());  // what was chosen since

  // What cannot be changes nothing.
  ASSERT_TRUE(s.Replace(first));
  const std::vector<float> want = Copy(s.logits());
  const auto empty = s.Replace({});
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().code, Code::kInvalidArgument);
  EXPECT_FALSE(s.Replace(std::vector<TokenId>{1, 61}));
  const auto full = s.Replace(std::vector<TokenId>(s.n_ctx() + 1, 7));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, Code::kContextFull);
  EXPECT_EQ(full.error().have, s.n_ctx());
  EXPECT_EQ(Copy(s.logits()), want);
  EXPECT_EQ(s.n_past(), first.size());
  ASSERT_TRUE(s.Replace(std::vector<TokenId>(s.n_ctx(), 7)));
  EXPECT_EQ(s.n_past(), s.n_ctx());
}

// However many positions go through the model together: the same bits, and the reads the plan says.
TEST_F(SessionTest, PromptBatchesChangeNoBit) {
  const std::vector<TokenId> prompt = {1, 60, 7, 7, 0, 33, 12, 5, 9, 9, 41};
  for (const auto& [layers, precision] :
       {std::pair(1u, DType::kF32), {2u, DType::kF32}, {3u, DType::kF32}, {1u, DType::kQ8_0}, {2u, DType::kQ8_0}}) {
    ModelShape shape = precision == DType::kQ8_0 ? kBlocks : kSmall;
    shape.num_hidden_layers = layers;
    host::RamDevice device(tests::MakeGguf({.shape = shape, .precision = precision}));
    std::vector<float> want, want_next;
    for (uint32_t batch = 1; batch <= prompt.size() + 1; ++batch) {
      const auto model = Open(device, {.prompt_batch = batch});
      Session& s = *model->session();
      ASSERT_EQ(model->plan().prompt_batch, batch);
      const ZoneCounts before = model->ledger().total();
      ASSERT_TRUE(s.Prefill(prompt));
      const ZoneCounts after = model->ledger().total();
      const plan::TokenCost cost = model->plan().PromptCost(model->model(), static_cast<uint32_t>(prompt.size()));
      EXPECT_EQ(after.payload_bytes - before.payload_bytes, cost.payload_bytes) << batch;
      EXPECT_EQ(after.reads - before.reads, cost.reads) << batch;
      const std::vector<float> logits = Copy(s.logits());
      if (batch == 1) want = logits;
      EXPECT_EQ(logits, want) << layers << " layers, " << batch << " at once";
      // The cache holds the same, too.
      ASSERT_TRUE(s.Next({.temperature = 0.0f}));
      ASSERT_TRUE(s.Next({.temperature = 0.0f}));
      if (batch == 1) want_next = Copy(s.logits());
      EXPECT_EQ(Copy(s.logits()), want_next) << layers << " layers, " << batch << " at once";
      for (size_t i = 0; i < kNumRegions; ++i) {
        const auto region = static_cast<Region>(i);
        EXPECT_EQ(model->arena(region).peak_bytes(), model->plan().region_bytes(region)) << RegionName(region);
      }
    }
  }
}

TEST_F(SessionTest, AFailedPromptBatchCanBeRunAgain) {
  const std::vector<TokenId> prompt = {1, 60, 7, 7, 0, 33, 12, 5};
  const auto sound = Open(device_);
  ASSERT_TRUE(sound->session()->Prefill(prompt));
  for (uint64_t fail_after = 0; fail_after < 40; ++fail_after) {
    host::FaultyDevice faulty(device_);
    const auto model = Open(faulty, {.prompt_batch = 3});
    Session& s = *model->session();
    faulty.Add({.first_read = faulty.starts() + fail_after, .times = storage::kReadRetries + 2});
    if (!s.Prefill(prompt)) {
      EXPECT_EQ(s.n_past() % 3, 0u) << "whole batches";
      ASSERT_TRUE(s.Prefill(std::span(prompt).subspan(s.n_past())));
    }
    EXPECT_EQ(Copy(s.logits()), Copy(sound->session()->logits())) << fail_after;
  }
}

TEST_F(SessionTest, ATokenChosenIsRunBeforeTheNextPrompt) {
  const auto generated = Open(device_);
  ASSERT_TRUE(generated->session()->Prefill(std::vector<TokenId>{1, 2}));
  const auto token = generated->session()->Next({.temperature = 0.0f});
  ASSERT_TRUE(token);
  ASSERT_TRUE(generated->session()->Prefill(std::vector<TokenId>{9}));
  const auto given = Open(device_);
  ASSERT_TRUE(given->session()->Prefill(std::vector<TokenId>{1, 2, *token, 9}));
  EXPECT_EQ(Copy(generated->session()->logits()), Copy(given->session()->logits()));
}

TEST_F(SessionTest, OnlyTheLastPositionOfAPromptReadsTheHead) {
  const auto model = Open(device_);
  ASSERT_TRUE(model->session()->Prefill(std::vector<TokenId>{1, 2, 3, 4, 5}));
  const auto& head = model->ledger().zones[static_cast<size_t>(Zone::kHead)];
  EXPECT_EQ(head.payload_bytes, uint64_t{61} * 36 * 4);
  EXPECT_EQ(head.macs, uint64_t{61} * 36);
}

TEST_F(SessionTest, RefusesWhatItCannotRunAndRunsNothing) {
  const auto model = Open(device_);
  Session& s = *model->session();
  device_.ClearReads();
  EXPECT_EQ(s.Next({}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(s.Prefill({}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(s.Prefill(std::vector<TokenId>{1, 61}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(s.Prefill(std::vector<TokenId>(33, 1)).error().code, Code::kContextFull);
  EXPECT_EQ(s.Tokenize("text").error().code, Code::kInvalidArgument);
  EXPECT_TRUE(device_.reads().empty());
  EXPECT_EQ(s.n_past(), 0u);
  EXPECT_TRUE(s.logits().empty());
}

TEST_F(SessionTest, StopsWhenTheContextIsFull) {
  const auto model = Open(device_, {.n_ctx = 6});
  Session& s = *model->session();
  ASSERT_TRUE(s.Prefill(std::vector<TokenId>{1, 2, 3, 4}));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(s.Next({.temperature = 0.0f})) << i;
  EXPECT_EQ(s.n_past(), 6u);
  EXPECT_EQ(s.Next({.temperature = 0.0f}).error().code, Code::kContextFull);
  EXPECT_EQ(s.Prefill(std::vector<TokenId>{1}).error().code, Code::kContextFull);
}

TEST_F(SessionTest, AFailedReadIsReportedAndTheStepCanBeMadeAgain) {
  const auto sound = Open(device_);
  ASSERT_TRUE(sound->session()->Prefill(std::vector<TokenId>{1, 2, 3}));
  const auto want_token = sound->session()->Next({.temperature = 0.0f});
  ASSERT_TRUE(want_token);
  ASSERT_TRUE(sound->session()->Next({.temperature = 0.0f}));
  const std::vector<float> want = Copy(sound->session()->logits());

  for (uint64_t fail_after = 0; fail_after < 16; ++fail_after) {
    host::FaultyDevice faulty(device_);
    const auto model = Open(faulty);
    Session& s = *model->session();
    ASSERT_TRUE(s.Prefill(std::vector<TokenId>{1, 2, 3}));
    ASSERT_EQ(s.Next({.temperature = 0.0f}).value(), *want_token);
    // First try, retries, one more after re-initialisation: all fail.
    faulty.Add({.first_read = faulty.starts() + fail_after, .times = storage::kReadRetries + 2});
    const auto failed = s.Next({.temperature = 0.0f});
    if (!failed) {
      EXPECT_EQ(failed.error().code, Code::kIo);
      EXPECT_EQ(s.n_past(), 3u);
      ASSERT_TRUE(s.Next({.temperature = 0.0f}));
    }
    EXPECT_EQ(Copy(s.logits()), want) << fail_after;
    EXPECT_GT(model->ledger().retries, 0u);
  }
}

TEST_F(SessionTest, AReadThatFailsOnceIsRetriedUnseen) {
  const auto sound = Open(device_);
  ASSERT_TRUE(sound->session()->Prefill(std::vector<TokenId>{1, 2, 3}));
  host::FaultyDevice faulty(device_);
  const auto model = Open(faulty);
  faulty.Add({.first_read = faulty.starts() + 9, .times = 2});
  ASSERT_TRUE(model->session()->Prefill(std::vector<TokenId>{1, 2, 3}));
  EXPECT_EQ(Copy(model->session()->logits()), Copy(sound->session()->logits()));
  EXPECT_EQ(model->ledger().retries, 2u);
}

// 16 bits on the card, the same bits in every logit, half the bytes.
TEST_F(SessionTest, SixteenBitStorageGivesTheBitsOfItsExpansion) {
  for (const DType precision : {DType::kF16, DType::kBF16}) {
    host::RamDevice narrow(tests::MakeGguf({.shape = kSmall, .precision = precision}));
    host::RamDevice wide(tests::MakeGguf({.shape = kSmall, .precision = precision, .stored_wide = true}));
    const std::vector<TokenId> prompt = {1, 60, 7, 7, 0, 33};
    std::vector<float> logits[2];
    uint64_t bytes[2];
    for (const bool is_wide : {false, true}) {
      for (const math::Kernels* const* k = math::AvailableKernels(); *k != nullptr; ++k) {
        OpenModel model(is_wide ? wide : narrow, OpenModel::Options{.plan = {}, .kernels = *k});
        ASSERT_NE(model.session(), nullptr) << model.error();
        EXPECT_EQ(model.model().tensor({TensorKind::kFfnUp, 1}).type, is_wide ? DType::kF32 : precision);
        ASSERT_TRUE(model.session()->Prefill(prompt));
        if (*k == &math::kReferenceKernels) logits[is_wide] = Copy(model.session()->logits());
        EXPECT_EQ(Copy(model.session()->logits()), logits[is_wide]);
        bytes[is_wide] = model.plan().token_cost.payload_bytes;
      }
    }
    EXPECT_EQ(logits[0], logits[1]) << DTypeName(precision);
    EXPECT_EQ(bytes[0] * 2, bytes[1]);
  }
}

// The products of blocks against those of the same numbers in float32: only the activations are rounded, to 8 bits.
TEST_F(SessionTest, BlocksGiveNearlyTheLogitsOfTheirExpansion) {
  host::RamDevice narrow(tests::MakeGguf({.shape = kBlocks, .precision = DType::kQ8_0}));
  host::RamDevice wide(tests::MakeGguf({.shape = kBlocks, .precision = DType::kQ8_0, .stored_wide = true}));
  const auto logits = [&](host::RamDevice& device) {
    const auto model = Open(device);
    EXPECT_TRUE(model->session()->Prefill(std::vector<TokenId>{1, 60, 7, 7, 0, 33}));
    return Copy(model->session()->logits());
  };
  const std::vector<float> got = logits(narrow);
  const std::vector<float> want = logits(wide);
  const auto [least, most] = std::ranges::minmax(want);
  double square = 0;
  for (size_t i = 0; i < want.size(); ++i) square += std::pow(static_cast<double>(got[i] - want[i]), 2);
  const double error = std::sqrt(square / static_cast<double>(want.size())) / static_cast<double>(most - least);
  EXPECT_GT(error, 1e-5);
  EXPECT_LT(error, 0.02);
  const auto model = Open(narrow);
  for (const TensorRef& tensor : model->model().tensors) {
    const bool is_matrix = ZoneOf(tensor.id.kind) != Zone::kOpen;
    EXPECT_EQ(tensor.type, is_matrix ? DType::kQ8_0 : DType::kF32);
    EXPECT_EQ(tensor.row_bytes(), is_matrix ? tensor.cols / 32 * 34 : tensor.cols * 4);
  }
}

TEST_F(SessionTest, DamagedWeightsAreReportedNotSampled) {
  const auto model = Open(device_);
  Session& s = *model->session();
  const TensorRef& head = model->model().tensor({TensorKind::kLmHead, 0});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(device_.bytes().data() + head.offset + 17 * head.row_bytes() + 4, &nan, sizeof(nan));
  ASSERT_TRUE(s.Prefill(std::vector<TokenId>{1}));
  const auto refused = s.Next({.temperature = 0.0f});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kCorrupt);
  EXPECT_EQ(refused.error().have, 17u);
}

}  // namespace
}  // namespace thimble
