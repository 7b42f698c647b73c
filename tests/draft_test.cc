// Drafts change what a text costs and not a bit of it, whoever guesses: every way to choose a token, one layer and
// several, all families and types, with a scan of all rows.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/draft/governor.h"
#include "engine/draft/lookup.h"
#include "engine/draft/ngram.h"
#include "engine/model_drafter.h"
#include "host/devices/faulty_device.h"
#include "host/devices/ram_device.h"
#include "tests/support/drafters.h"
#include "tests/support/open_model.h"
#include "tests/support/sampler_modes.h"
#include "tests/support/test_gguf.h"
#include "tests/support/workers.h"

namespace thimble::tests {
namespace {

constexpr ModelShape kShape = {
    .vocab_size = 211,
    .hidden_size = 32,
    .intermediate_size = 64,
    .num_hidden_layers = 2,
    .num_attention_heads = 4,
    .num_key_value_heads = 2,
    .head_dim = 8,
    .max_position_embeddings = 64,
    .rms_norm_eps = 1e-5f,
    .rope_theta = 10000.0f,
};
constexpr std::array<TokenId, 5> kPrompt = {1, 57, 200, 4, 57};
constexpr int kTokens = 40;

struct Case {
  const char* name;
  uint32_t layers = 2;
  Architecture architecture = Architecture::kLlama;
  DType precision = DType::kF32;
  bool mixed = false;
  model::CacheTypes cache = {};
  uint32_t head_dim = kShape.head_dim;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};
constexpr Case kCases[] = {{"TwoLayers"},
                           {"OneLayer", 1},
                           {"Q8", 2, Architecture::kLlama, DType::kQ8_0},
                           {"OneLayerQ8", 1, Architecture::kLlama, DType::kQ8_0},
                           {"OneLayerQwen2", 1, Architecture::kQwen2},
                           {"Qwen3", 2, Architecture::kQwen3},
                           {"OneLayerMixed", 1, Architecture::kLlama, DType::kF32, true},
                           {"CacheF16", 2, Architecture::kLlama, DType::kF32, false, {DType::kF16, DType::kF16}},
                           {"CacheQ8", 2, Architecture::kLlama, DType::kF32, false, {DType::kQ8_0, DType::kQ8_0}, 32}};

// A text, and what the logits, the context and its length were at each token.
struct Text {
  std::vector<TokenId> ids;
  uint64_t hash = 0;
  friend bool operator==(const Text&, const Text&) = default;
};

class DraftTest : public testing::TestWithParam<Case> {
 protected:
  static std::vector<std::byte> Bytes(const Case& c) {
    ModelShape shape = kShape;
    shape.num_hidden_layers = c.layers;
    shape.architecture = c.architecture;
    shape.head_dim = c.head_dim;
    return MakeGguf({.shape = shape, .precision = c.precision, .mixed = c.mixed});
  }

  std::unique_ptr<OpenModel> Open(const head::SamplerOptions& sampler, plan::DraftMode mode, uint32_t draft_max,
                                  draft::Drafter* drafter, bool keep_logits = false) {
    auto model = std::make_unique<OpenModel>(
        device_, OpenModel::Options{.plan = {.draft = mode, .draft_max = draft_max, .cache = GetParam().cache},
                                    .keep_logits = keep_logits,
                                    .sampler = sampler,
                                    .drafter = drafter});
    EXPECT_NE(model->session(), nullptr) << model->error();
    return model;
  }

  // Goes on until n tokens are made or the context is full.
  static Text Write(Session& session, const head::SamplerOptions& sampler, int n = kTokens) {
    Text text;
    for (int i = 0; i < n; ++i) {
      const Result<TokenId> id = session.Next(sampler);
      if (!id) {
        EXPECT_EQ(id.error().code, Code::kContextFull);
        break;
      }
      text.ids.push_back(*id);
      text.hash = HashBits(session.logits(), text.hash);
      text.hash = HashBits({session.hidden(), kShape.hidden_size}, text.hash);
      text.hash = text.hash * 31 + session.n_past();
      for (const TokenId past : session.past()) text.hash = text.hash * 31 + past;
    }
    return text;
  }

  host::RamDevice device_{Bytes(GetParam())};
};

TEST_P(DraftTest, TheTextIsThatWithoutDraftsWhoeverGuesses) {
  uint64_t seed = 1;
  for (const SamplerMode& mode : SamplerModes()) {
    head::SamplerOptions sampler = mode.sampler;
    sampler.seed = seed++;
    const bool keep_logits = seed % 3 == 0;
    const auto plain = Open(sampler, plan::DraftMode::kNone, 0, nullptr, keep_logits);
    ASSERT_TRUE(plain->session()->Prefill(kPrompt));
    const Text want = Write(*plain->session(), sampler);
    ASSERT_EQ(want.ids.size(), static_cast<size_t>(kTokens));
    std::vector<TokenId> all(kPrompt.begin(), kPrompt.end());
    all.insert(all.end(), want.ids.begin(), want.ids.end());
    for (const Guesses guesses : kAllGuesses) {
      const uint32_t draft_max = 1 + static_cast<uint32_t>(seed + static_cast<uint64_t>(guesses)) % 6;
      TestDrafter drafter(guesses, all, kShape.vocab_size);
      const auto drafted = Open(sampler, plan::DraftMode::kGiven, draft_max, &drafter, keep_logits);
      ASSERT_TRUE(drafted->session()->Prefill(kPrompt));
      EXPECT_EQ(Write(*drafted->session(), sampler), want)
          << mode.group << ", guesses " << static_cast<int>(guesses) << ", " << draft_max;
      const DraftCounts& counts = drafted->ledger().draft;
      EXPECT_EQ(drafter.asked, counts.passes);
      EXPECT_EQ(drafter.strayed, 0u);
      if (guesses == Guesses::kRight) {
        EXPECT_EQ(counts.passes, (kTokens - 1 + draft_max) / (draft_max + 1));
      }
      if (guesses == Guesses::kWrong || guesses == Guesses::kNothing) {
        EXPECT_EQ(counts.passes, kTokens - 1u);
        EXPECT_EQ(counts.accepted, 0u);
      }
    }
    const auto by_lookup = Open(sampler, plan::DraftMode::kLookup, 4, nullptr, keep_logits);
    ASSERT_TRUE(by_lookup->session()->Prefill(kPrompt));
    EXPECT_EQ(Write(*by_lookup->session(), sampler), want) << mode.group << ", by lookup";
  }
}

// What was guessed and not chosen yet is no part of a conversation that goes on otherwise.
TEST_P(DraftTest, NothingIsCommittedBeforeItIsAccepted) {
  const head::SamplerOptions sampler = {.repeat_penalty = 1.2f, .repeat_last_n = -1, .seed = 7};
  const std::array<TokenId, 3> more = {9, 8, 9};
  const auto talk = [&](Session& s) {
    std::vector<Text> texts;
    EXPECT_TRUE(s.Prefill(kPrompt));
    texts.push_back(Write(s, sampler, 6));
    EXPECT_TRUE(s.Prefill(more));
    texts.push_back(Write(s, sampler, 5));
    std::vector<TokenId> edited(s.past().begin(), s.past().end());
    edited.resize(edited.size() - 2);
    edited.push_back(33);
    EXPECT_TRUE(s.Replace(edited));
    texts.push_back(Write(s, sampler, 4));
    s.Clear();
    EXPECT_TRUE(s.Prefill(more));
    texts.push_back(Write(s, sampler, 4));
    return texts;
  };
  const auto plain = Open(sampler, plan::DraftMode::kNone, 0, nullptr);
  const std::vector<Text> want = talk(*plain->session());
  std::vector<TokenId> all(kPrompt.begin(), kPrompt.end());
  all.insert(all.end(), want[0].ids.begin(), want[0].ids.end());
  TestDrafter drafter(Guesses::kRight, all, kShape.vocab_size);
  EXPECT_EQ(talk(*Open(sampler, plan::DraftMode::kGiven, 4, &drafter)->session()), want);
}

// As far as without drafts, and not further.
TEST_P(DraftTest, TheContextIsAsLong) {
  const head::SamplerOptions sampler = {.temperature = 0};
  const auto plain = Open(sampler, plan::DraftMode::kNone, 0, nullptr);
  ASSERT_TRUE(plain->session()->Prefill(kPrompt));
  const Text want = Write(*plain->session(), sampler, 1000);
  EXPECT_EQ(want.ids.size(), kShape.max_position_embeddings - kPrompt.size() + 1);
  std::vector<TokenId> all(kPrompt.begin(), kPrompt.end());
  all.insert(all.end(), want.ids.begin(), want.ids.end());
  for (const uint32_t draft_max : {1u, 5u, 32u}) {
    TestDrafter drafter(Guesses::kRight, all, kShape.vocab_size);
    const auto drafted = Open(sampler, plan::DraftMode::kGiven, draft_max, &drafter);
    ASSERT_TRUE(drafted->session()->Prefill(kPrompt));
    EXPECT_EQ(Write(*drafted->session(), sampler, 1000), want);
  }
}

// A pass that fails can be made again, and so can a choice after an accepted token.
TEST_P(DraftTest, FailuresChangeNothing) {
  const head::SamplerOptions sampler = {.repeat_penalty = 1.1f, .seed = 3};
  const auto plain = Open(sampler, plan::DraftMode::kNone, 0, nullptr);
  ASSERT_TRUE(plain->session()->Prefill(kPrompt));
  const Text want = Write(*plain->session(), sampler);
  std::vector<TokenId> all(kPrompt.begin(), kPrompt.end());
  all.insert(all.end(), want.ids.begin(), want.ids.end());
  TestDrafter drafter(Guesses::kAtTimes, all, kShape.vocab_size);
  for (const bool keep_logits : {false, true}) {
    host::FaultyDevice faulty(device_);
    OpenModel model(faulty, {.plan = {.draft = plan::DraftMode::kGiven, .draft_max = 3, .cache = GetParam().cache},
                             .keep_logits = keep_logits,
                             .sampler = sampler,
                             .drafter = &drafter});
    ASSERT_NE(model.session(), nullptr) << model.error();
    ASSERT_TRUE(model.session()->Prefill(kPrompt));
    std::vector<TokenId> ids;
    int failures = 0;
    for (uint64_t i = 0; ids.size() < want.ids.size() && i < 1000; ++i) {
      if (i % 2 == 0) faulty.Add({.first_read = faulty.starts() + i % 23, .times = 5});  // one try more than there are
      const Result<TokenId> id = model.session()->Next(sampler);
      if (id) {
        ids.push_back(*id);
      } else {
        ++failures;
      }
    }
    EXPECT_EQ(ids, want.ids);
    EXPECT_GT(failures, 5);
  }
}

// Guesses that do not come are given up.
TEST_P(DraftTest, WhatIsNotWorthItIsNotGuessed) {
  for (const uint32_t worth_percent : {0u, 40u}) {
    const head::SamplerOptions sampler = {.seed = 5};
    const auto plain = Open(sampler, plan::DraftMode::kNone, 0, nullptr);
    ASSERT_TRUE(plain->session()->Prefill(kPrompt));
    const Text want = Write(*plain->session(), sampler);
    std::vector<TokenId> all(kPrompt.begin(), kPrompt.end());
    all.insert(all.end(), want.ids.begin(), want.ids.end());
    TestDrafter drafter(Guesses::kWrong, all, kShape.vocab_size);
    OpenModel model(
        device_,
        {.plan = {.draft = plan::DraftMode::kGiven, .draft_worth_percent = worth_percent, .cache = GetParam().cache},
         .keep_logits = false,
         .sampler = sampler,
         .drafter = &drafter});
    ASSERT_NE(model.session(), nullptr) << model.error();
    ASSERT_TRUE(model.session()->Prefill(kPrompt));
    EXPECT_EQ(Write(*model.session(), sampler), want);
    EXPECT_EQ(drafter.asked < model.ledger().draft.passes, worth_percent != 0);
  }
}

// With tiles that are bounced, with other cores, with tiles of another size.
TEST_P(DraftTest, HoweverItIsRun) {
  const head::SamplerOptions sampler = {.repeat_penalty = 1.1f, .seed = 9};
  const auto plain = Open(sampler, plan::DraftMode::kNone, 0, nullptr);
  ASSERT_TRUE(plain->session()->Prefill(kPrompt));
  const Text want = Write(*plain->session(), sampler);
  std::vector<TokenId> all(kPrompt.begin(), kPrompt.end());
  all.insert(all.end(), want.ids.begin(), want.ids.end());
  plan::PlanOptions bounced = plan::OriginalPlan(kShape);
  DividingWorkers workers(3);
  for (plan::PlanOptions options : {plan::PlanOptions{}, bounced, plan::PlanOptions{.tile_buffer_bytes = 4096}}) {
    options.cache = GetParam().cache;
    TestDrafter drafter(Guesses::kAtTimes, all, kShape.vocab_size);
    options.draft = plan::DraftMode::kGiven;
    options.draft_max = 4;
    OpenModel model(
        device_, {.plan = options, .keep_logits = false, .workers = &workers, .sampler = sampler, .drafter = &drafter});
    ASSERT_NE(model.session(), nullptr) << model.error();
    ASSERT_TRUE(model.session()->Prefill(kPrompt));
    EXPECT_EQ(Write(*model.session(), sampler), want);
    EXPECT_GT(model.ledger().draft.accepted, 10u);
    for (size_t i = 0; i < kNumRegions; ++i) {
      const auto region = static_cast<Region>(i);
      EXPECT_EQ(model.arena(region).peak_bytes(), model.plan().region_bytes(region)) << RegionName(region);
    }
  }
}

// What does not fit is refused before anything runs.
TEST_P(DraftTest, OptionsOutOfRangeAreRefused) {
  const auto refusal = [&](const plan::PlanOptions& options) {
    OpenModel model(device_, {.plan = options});
    return model.error();
  };
  EXPECT_NE(refusal({.draft = plan::DraftMode::kLookup, .draft_max = 33}).find("draft_max is 33"), std::string::npos);
  EXPECT_NE(refusal({.draft_worth_percent = 101}).find("draft_worth_percent is 101"), std::string::npos);
  EXPECT_NE(refusal({.draft = plan::DraftMode::kNgram}).find("drafts by ngram need a table"), std::string::npos);
  EXPECT_EQ(refusal({.draft = plan::DraftMode::kLookup, .draft_max = 32}), "");
  EXPECT_EQ(refusal({.n_ctx = 1, .draft = plan::DraftMode::kLookup}), "");
}

// Who is told after a session was opened who guesses.
class LaterDrafter final : public draft::Drafter {
 public:
  size_t Guess(std::span<const TokenId> text, std::span<TokenId> out) override {
    ++asked;
    return drafter == nullptr ? 0 : drafter->Guess(text, out);
  }
  draft::Drafter* drafter = nullptr;
  uint64_t asked = 0;
};

// What the card of a drafter gives, as a clock is told it.
class HeardReads final : public EventSink {
 public:
  void OnReadStarted(Zone zone, uint64_t, uint64_t read_bytes) override {
    if (zone == Zone::kDraft) bytes += read_bytes;
  }
  void OnReadAwaited(Zone) override {}
  void OnWork(Zone zone, const Work& work) override {
    if (zone == Zone::kDraft && CountsMacs(work.kernel)) macs += work.units;
  }
  uint64_t bytes = 0, macs = 0;
};

// A model that guesses for another, on a card of its own.
class Guesser {
 public:
  Guesser(storage::BlockDevice& device, const head::SamplerOptions& sampler, const plan::PlanOptions& options = {})
      : model_(device, {.plan = options, .keep_logits = false, .sampler = sampler}), sampler_(sampler) {}

  // Between the large model, with a KV cache of these types, and its drafter.
  std::unique_ptr<OpenModel> Help(storage::BlockDevice& device, const model::CacheTypes& cache, uint32_t draft_max,
                                  bool keep_logits = false) {
    auto model = std::make_unique<OpenModel>(
        device, OpenModel::Options{.plan = {.draft = plan::DraftMode::kGiven, .draft_max = draft_max, .cache = cache},
                                   .keep_logits = keep_logits,
                                   .sampler = sampler_,
                                   .drafter = &later_});
    EXPECT_NE(model->session(), nullptr) << model->error();
    EXPECT_NE(model_.session(), nullptr) << model_.error();
    later_.drafter = &drafter_.emplace(*model_.session(), model_.ledger(), model->ledger(), sampler_);
    return model;
  }
  OpenModel& model() { return model_; }
  const ModelDrafter& drafter() const { return *drafter_; }
  uint64_t asked() const { return later_.asked; }

 private:
  OpenModel model_;
  head::SamplerOptions sampler_;
  LaterDrafter later_;
  std::optional<ModelDrafter> drafter_;
};

std::vector<std::byte> SmallModel() {
  ModelShape shape = kShape;
  shape.num_hidden_layers = 1;
  shape.hidden_size = 16;
  shape.intermediate_size = 32;
  shape.head_dim = 4;
  return MakeGguf({.shape = shape, .seed = 9});
}

// A model that knows as much, one that knows something else, and one that forgets early: the text is the same. The
// first is always right, in texts that are drawn as in those that are not, since it is given the same noise.
TEST_P(DraftTest, AModelMayGuess) {
  host::RamDevice small(SmallModel());
  uint64_t seed = 40;
  for (const SamplerMode& mode : SamplerModes()) {
    head::SamplerOptions sampler = mode.sampler;
    sampler.seed = seed++;
    const bool keep_logits = seed % 3 == 0;
    const auto plain = Open(sampler, plan::DraftMode::kNone, 0, nullptr, keep_logits);
    ASSERT_TRUE(plain->session()->Prefill(kPrompt));
    const Text want = Write(*plain->session(), sampler);
    const auto draft_max = static_cast<uint32_t>(1 + seed % 6);
    {
      Guesser itself(device_, sampler, {.cache = GetParam().cache});
      const auto model = itself.Help(device_, GetParam().cache, draft_max, keep_logits);
      ASSERT_TRUE(model->session()->Prefill(kPrompt));
      EXPECT_EQ(Write(*model->session(), sampler), want) << mode.group << ", by the model itself, " << draft_max;
      EXPECT_EQ(model->ledger().draft.passes, (kTokens - 1 + draft_max) / (draft_max + 1)) << mode.group;
    }
    for (const uint32_t n_ctx : {0u, 17u}) {
      Guesser other(small, sampler, {.n_ctx = n_ctx});
      const auto model = other.Help(device_, GetParam().cache, draft_max, keep_logits);
      HeardReads heard;
      const ZoneCounts opened = other.model().ledger().total();
      model->ledger().events = &heard;
      ASSERT_TRUE(model->session()->Prefill(kPrompt));
      EXPECT_EQ(Write(*model->session(), sampler), want) << mode.group << ", by another model, " << n_ctx;
      EXPECT_EQ(other.drafter().fault(), nullptr);
      EXPECT_GT(model->ledger().draft.drafted, 0u);
      // What it did is counted where the text is.
      const ZoneCounts& counted = model->ledger().zones[static_cast<size_t>(Zone::kDraft)];
      const ZoneCounts did = other.model().ledger().total().Since(opened);
      EXPECT_GT(counted.card_bytes, 0u);
      EXPECT_EQ(counted.card_bytes, did.card_bytes);
      EXPECT_EQ(counted.reads, did.reads);
      EXPECT_EQ(counted.macs, did.macs);
      EXPECT_EQ(heard.macs, did.macs);
    }
  }
}

// It follows a conversation that is edited, and begins again where that does.
TEST_P(DraftTest, AModelFollowsTheText) {
  const head::SamplerOptions sampler = {.repeat_penalty = 1.2f, .repeat_last_n = -1, .seed = 8};
  const std::array<TokenId, 3> more = {9, 8, 9};
  const auto talk = [&](Session& s) {
    std::vector<Text> texts;
    EXPECT_TRUE(s.Prefill(kPrompt));
    texts.push_back(Write(s, sampler, 6));
    EXPECT_TRUE(s.Prefill(more));
    texts.push_back(Write(s, sampler, 5));
    std::vector<TokenId> edited(s.past().begin(), s.past().end());
    edited.resize(edited.size() - 2);
    edited.push_back(33);
    EXPECT_TRUE(s.Replace(edited));
    texts.push_back(Write(s, sampler, 7));
    s.Clear();
    EXPECT_TRUE(s.Prefill(more));
    texts.push_back(Write(s, sampler, 9));
    return texts;
  };
  const std::vector<Text> want = talk(*Open(sampler, plan::DraftMode::kNone, 0, nullptr)->session());
  Guesser itself(device_, sampler, {.cache = GetParam().cache});
  const auto model = itself.Help(device_, GetParam().cache, 3);
  EXPECT_EQ(talk(*model->session()), want);
  const DraftCounts& counts = model->ledger().draft;
  EXPECT_GT(counts.accepted, counts.drafted / 2);
  // Of a text that goes on, it runs what is new.
  Guesser once(device_, sampler, {.cache = GetParam().cache});
  const auto again = once.Help(device_, GetParam().cache, 3);
  ASSERT_TRUE(again->session()->Prefill(kPrompt));
  Write(*again->session(), sampler, 2);
  const uint64_t first_macs = again->ledger().zones[static_cast<size_t>(Zone::kDraft)].macs;
  Write(*again->session(), sampler, 4);
  const uint64_t second_macs = again->ledger().zones[static_cast<size_t>(Zone::kDraft)].macs - first_macs;
  EXPECT_LT(second_macs, first_macs);
}

// A drafter whose card is gone guesses no more, says why, and nothing else happens.
TEST_P(DraftTest, AModelWhoseCardFailsIsLeftAlone) {
  const head::SamplerOptions sampler = {.seed = 5};
  const auto plain = Open(sampler, plan::DraftMode::kNone, 0, nullptr);
  ASSERT_TRUE(plain->session()->Prefill(kPrompt));
  const Text want = Write(*plain->session(), sampler);
  host::FaultyDevice faulty(device_);
  Guesser itself(faulty, sampler, {.cache = GetParam().cache});
  const auto model = itself.Help(device_, GetParam().cache, 2);
  ASSERT_TRUE(model->session()->Prefill(kPrompt));
  faulty.Add({.first_read = faulty.starts() + 30, .times = host::Fault::kForever});
  EXPECT_EQ(Write(*model->session(), sampler), want);
  ASSERT_NE(itself.drafter().fault(), nullptr);
  EXPECT_EQ(itself.drafter().fault()->code, Code::kIo);
  EXPECT_GT(model->ledger().retries, 0u);
  const uint64_t starts = faulty.starts();
  Write(*model->session(), sampler, 5);
  EXPECT_EQ(faulty.starts(), starts);
}

INSTANTIATE_TEST_SUITE_P(All, DraftTest, testing::ValuesIn(kCases),
                         [](const auto& param) { return std::string(param.param.name); });

std::vector<TokenId> Guess(std::vector<TokenId> text, size_t n) {
  std::vector<TokenId> out(n, 999);
  draft::Lookup lookup;
  out.resize(lookup.Guess(text, out));
  return out;
}

TEST(Lookup, GuessesWhatFollowedTheLongestMatch) {
  using Ids = std::vector<TokenId>;
  EXPECT_EQ(Guess({1, 2, 3, 4, 9, 2, 3}, 2), (Ids{4, 9}));
  EXPECT_EQ(Guess({7, 2, 3, 5, 1, 2, 3, 6, 7, 2, 3}, 1), (Ids{5}));  // longer goes before later
  EXPECT_EQ(Guess({2, 3, 5, 0, 2, 3, 6, 1, 2, 3}, 1), (Ids{6}));     // the latest of those
  EXPECT_EQ(Guess({1, 2, 1, 2}, 5), (Ids{1, 2, 1, 2, 1}));           // goes on as it began
  EXPECT_EQ(Guess({4, 4, 4}, 3), (Ids{4, 4, 4}));
  EXPECT_EQ(Guess({1, 2, 3}, 3), (Ids{}));
  EXPECT_EQ(Guess({3, 1, 3}, 3), (Ids{}));  // one token says too little
  EXPECT_EQ(Guess({3}, 3), (Ids{}));
  EXPECT_EQ(Guess({1, 2, 3, 1, 2}, 0), (Ids{}));
}

std::vector<formats::DraftEntry> Table(std::vector<std::pair<std::vector<TokenId>, uint32_t>> entries) {
  std::vector<formats::DraftEntry> table;
  for (const auto& [context, id_and_share] : entries) table.push_back({formats::DraftKey(context), id_and_share});
  std::ranges::sort(table, {}, &formats::DraftEntry::key);
  return table;
}

// XXH32 of the bytes 07 00 00 02 01 00, worked out by its specification.
TEST(Ngram, KeysAreThoseOfTheFormat) { EXPECT_EQ(formats::DraftKey(std::array<TokenId, 2>{7, 0x102}), 0xf61504f5u); }

TEST(Ngram, GuessesByTheLongestContextAndGoesOnFromThere) {
  using Ids = std::vector<TokenId>;
  constexpr uint32_t kSure = 255u << 24;
  const auto table = Table(
      {{{1, 2, 3, 4}, 5 | kSure}, {{3, 4}, 6 | kSure}, {{5}, 1 | kSure}, {{1}, 2 | 128u << 24}, {{2}, 3 | 128u << 24}});
  const auto guess = [&](const Ids& text, uint32_t worth_percent, size_t most = 4) {
    Ids out(most, 999);
    draft::Ngram ngram(table, worth_percent);
    out.resize(ngram.Guess(text, out));
    return out;
  };
  EXPECT_EQ(guess({9, 1, 2, 3, 4}, 0), (Ids{5, 1, 2, 3}));
  EXPECT_EQ(guess({1, 2, 3, 4}, 0, 2), (Ids{5, 1}));
  EXPECT_EQ(guess({8, 8, 3, 4}, 0), (Ids{6}));  // 3 4 6 is not in it, nor 6
  EXPECT_EQ(guess({3, 4}, 0), (Ids{6}));
  EXPECT_EQ(guess({4}, 0), Ids{});
  EXPECT_EQ(guess({1, 2, 3, 4}, 50), (Ids{5, 1, 2}));  // 3 comes a quarter of the times
  EXPECT_EQ(guess({1, 2, 3, 4}, 51), (Ids{5, 1}));
  EXPECT_EQ(guess({1}, 100), Ids{});
}

// Out of order, with ids that there are not, and the same keys again: whatever comes of it, it ends.
TEST(Ngram, AnyNumbersAreATable) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<formats::DraftEntry> table(random() % 50);
    for (formats::DraftEntry& entry : table) {
      const std::array<TokenId, 1> context = {static_cast<TokenId>(random() % 20)};
      entry = {random() % 3 == 0 ? static_cast<uint32_t>(random()) : formats::DraftKey(context),
               static_cast<uint32_t>(random() % 2 == 0 ? random() : random() % 20 | 255u << 24)};
    }
    draft::Ngram ngram(table, static_cast<uint32_t>(random() % 101));
    std::vector<TokenId> text(1 + random() % 6), out(random() % 40);
    for (TokenId& id : text) id = static_cast<TokenId>(random() % 25);
    const size_t guessed = ngram.Guess(text, out);
    EXPECT_LE(guessed, out.size());
    for (size_t i = 0; i < guessed; ++i) EXPECT_LT(out[i], 1u << 24);
  }
}

// Of a text for which nobody can guess, one pass of many has guesses; of one that goes as guessed, each.
TEST(Governor, WastesLittle) {
  for (const uint32_t worth_percent : {1u, 10u, 30u, 100u}) {
    draft::Governor hopeless(worth_percent), hopeful(worth_percent);
    int wasted = 0;
    for (int pass = 0; pass < 6400; ++pass) {
      if (hopeless.Allows()) {
        hopeless.OnGuessed(4);
        wasted += 4;
      }
      ASSERT_TRUE(hopeful.Allows());
      hopeful.OnGuessed(4);
      for (int i = 0; i < 4; ++i) hopeful.OnAccepted();
    }
    // What it had at first, and four guesses in 64 passes, rounded up to one hundredth of a guess for each pass.
    EXPECT_LE(wasted * static_cast<int>(worth_percent),
              400 + 4 * 100 + 6400 * (static_cast<int>(worth_percent) * 4 / 64 + 1));
    EXPECT_GT(wasted, 100);  // a text may change
  }
  draft::Governor none(0);
  for (int pass = 0; pass < 10000; ++pass) {
    ASSERT_TRUE(none.Allows());
    none.OnGuessed(30);
  }
}

}  // namespace
}  // namespace thimble::tests
