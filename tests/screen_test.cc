// The screened head against the scan of all rows: the same tokens, whatever the weights, the sampler and the place of
// the screen.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/head/query.h"
#include "host/formats/weights.h"
#include "host/models/screen_builder.h"
#include "tests/support/checkpoints.h"
#include "tests/support/hard_head.h"
#include "tests/support/tool.h"
#include "tests/support/workers.h"

namespace thimble::tests {
namespace {

using host::BuiltScreen;
using host::ScreenedHead;

std::vector<head::SamplerOptions> Modes() {
  std::vector<head::SamplerOptions> modes;
  for (float penalty : {1.0f, 1.3f, 0.8f}) {
    for (const head::SamplerOptions& o : std::initializer_list<head::SamplerOptions>{
             {.temperature = 0},
             {.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 1},
             {.top_k = 0, .top_p = 1, .min_p = 0.05f, .temperature = 0.8f},
             {.top_k = 40, .top_p = 0.95f, .min_p = 0.05f},
             {.top_k = 5, .top_p = 1, .min_p = 0, .temperature = 2},
             {.top_k = 40, .top_p = 0.8f, .min_p = 0, .temperature = 1},
             {.top_k = 2, .top_p = 1, .min_p = 0.3f, .temperature = 1},
             {.top_k = 0, .top_p = 0.9f, .min_p = 0, .temperature = 1},
         }) {
      modes.push_back(o);
      modes.back().repeat_penalty = penalty;
    }
  }
  return modes;
}

// Chooses by both in every mode, for each state. Returns how many tokens were compared.
size_t Compare(ScreenedHead& head, std::span<const float> states, uint64_t seed) {
  const uint32_t hidden_size = head.tensor().cols;
  std::mt19937 random(7);
  TokenId last = 0;
  size_t n = 0;
  for (size_t at = 0; at + hidden_size <= states.size(); at += hidden_size) {
    for (head::SamplerOptions mode : Modes()) {
      mode.seed = seed;
      const auto position = static_cast<uint32_t>(at / hidden_size);
      std::array<TokenId, 6> recent;
      for (TokenId& id : recent) id = static_cast<TokenId>(random() % head.tensor().rows);
      recent[0] = last;
      recent[5] = recent[1];
      const Result<TokenId> want = head.Scanned(&states[at], mode, position, recent);
      const Result<TokenId> have = head.Screened(&states[at], mode, position, recent);
      EXPECT_TRUE(want) << want.error().what;
      EXPECT_TRUE(have) << have.error().what;
      if (!want || !have) return n;
      EXPECT_EQ(*have, *want) << "state " << position << ", top_k " << mode.top_k << ", min_p " << mode.min_p
                              << ", temperature " << mode.temperature << ", penalty " << mode.repeat_penalty;
      last = *want;
      ++n;
    }
  }
  return n;
}

// Of all kinds.
host::ScreenShape ShapeOf(uint32_t hidden_size, uint32_t seed) {
  return {.power = host::kStatePowers[seed % 3],
          .size = {std::max(4u, hidden_size / (2 + seed % 3) / 4 * 4), 2 + seed % 3}};
}

TEST(Screen, TiesNearTiesZerosAndSubnormalsChangeNothing) {
  size_t tokens = 0;
  for (uint32_t seed = 1; seed <= 6; ++seed) {
    const uint32_t hidden_size = std::array<uint32_t, 6>{64, 48, 33, 96, 8, 130}[seed - 1];
    const std::vector<float> states = Normal(size_t{12} * hidden_size, 100 + seed);
    for (const math::Kernels* const* k = math::AvailableKernels(); *k != nullptr; ++k) {
      const auto head =
          MakeScreenedHead(HardHead(1500, hidden_size, seed), hidden_size, states,
                           {.shape = ShapeOf(hidden_size, seed),
                            .head = {.kernels = *k, .psram_rows = seed % 2 == 0 ? 1500u : 700u, .flash_rows = 400}});
      tokens += Compare(*head, states, seed);
      EXPECT_EQ(head->ledger().screen.tokens, 12 * Modes().size());
    }
  }
  EXPECT_GT(tokens, 1000u);
}

TEST(Screen, HoweverRowsAreDividedAmongCores) {
  constexpr uint32_t kHidden = 96;
  const std::vector<float> states = Normal(size_t{6} * kHidden, 11);
  for (uint32_t parts : {2u, 5u, 1000u}) {
    DividingWorkers workers(parts);
    const auto head = MakeScreenedHead(
        HardHead(1500, kHidden, 4), kHidden, states,
        {.shape = ShapeOf(kHidden, 1), .head = {.workers = &workers, .psram_rows = 700, .flash_rows = 400}});
    Compare(*head, states, parts);
    EXPECT_GT(workers.calls(), 100u);
    EXPECT_LT(head->ledger().screen.fallbacks, head->ledger().screen.tokens);
  }
  ThreadWorkers threads;
  for (const uint32_t num_parts : {1u, 3u}) {
    const auto head = MakeScreenedHead(HardHead(1500, kHidden, 4), kHidden, states,
                                       {.shape = ShapeOf(kHidden, 1),
                                        .num_parts = num_parts,
                                        .head = {.workers = &threads, .psram_rows = 700, .flash_rows = 400}});
    Compare(*head, states, 1);
  }
}

// Where all of it is in memory, all that is asked is the same, too: only the sums of the parts before come on top.
TEST(Screen, PartsChangeNothing) {
  constexpr uint32_t kHidden = 64;
  constexpr uint32_t kRows = 400;
  const std::vector<float> states = Normal(size_t{2} * kHidden, 12);
  const std::vector<float> weights = HardHead(kRows, kHidden, 5);
  struct Place {
    uint32_t psram_rows, flash_rows;
    bool as_blocks;
    bool keeps_matrix = true;
  };
  const uint64_t tokens = 2 * Modes().size();
  for (const Place& place : {Place{0, 0, false}, Place{0, kRows, true}, Place{256, 128, false, false}}) {
    ScreenCounts one;
    uint64_t one_in_memory = 0;
    for (const uint32_t parts : {1u, 2u, 3u, 5u}) {
      DividingWorkers workers(1 + parts % 3);
      const auto head = MakeScreenedHead(weights, kHidden, states,
                                         {.shape = {.power = host::StatePower::kHalf, .size = {24, 3}},
                                          .num_parts = parts,
                                          .head = {.workers = &workers,
                                                   .psram_rows = place.psram_rows,
                                                   .flash_rows = place.flash_rows,
                                                   .keeps_matrix = place.keeps_matrix},
                                          .as_blocks = place.as_blocks});
      EXPECT_EQ(Compare(*head, states, 1), tokens);
      const ScreenCounts& counts = head->ledger().screen;
      EXPECT_LT(counts.fallbacks, tokens);
      if (place.psram_rows + place.flash_rows < kRows) continue;
      uint64_t in_memory = 0;
      for (const uint64_t bytes : head->ledger().zones[static_cast<size_t>(Zone::kHead)].memory_bytes) {
        in_memory += bytes;
      }
      if (parts == 1) {
        one = counts;
        one_in_memory = in_memory;
        ASSERT_EQ(counts.swept_again, 0u);
      }
      EXPECT_EQ(counts.swept_again, one.swept_again);
      EXPECT_EQ(counts.survivors, one.survivors);
      EXPECT_EQ(counts.refined, one.refined);
      EXPECT_EQ(counts.rows_fetched, one.rows_fetched);
      EXPECT_EQ(counts.fallbacks, one.fallbacks);
      EXPECT_EQ(in_memory, one_in_memory + (parts - 1) * uint64_t{kRows} * sizeof(int32_t) * tokens);
    }
  }
}

// Wherever the matrix comes from z is the same.
TEST(Screen, AMatrixOnTheCardChangesNothing) {
  for (const uint32_t hidden_size : {33u, 64u}) {
    const std::vector<float> states = Normal(size_t{3} * hidden_size, 14);
    const std::vector<float> weights = HardHead(500, hidden_size, 7);
    ScreenCounts kept;
    uint64_t kept_payload = 0;
    for (const bool keeps_matrix : {true, false}) {
      DividingWorkers workers(3);
      const auto head = MakeScreenedHead(
          weights, hidden_size, states,
          {.shape = ShapeOf(hidden_size, 1), .head = {.workers = &workers, .keeps_matrix = keeps_matrix}});
      EXPECT_EQ(Compare(*head, states, 1), 3 * Modes().size());
      const ScreenCounts& counts = head->ledger().screen;
      const uint64_t payload = head->ledger().zones[static_cast<size_t>(Zone::kHead)].payload_bytes;
      if (keeps_matrix) {
        kept = counts;
        kept_payload = payload;
      }
      EXPECT_EQ(counts.survivors, kept.survivors);
      EXPECT_EQ(counts.refined, kept.refined);
      EXPECT_EQ(counts.fallbacks, kept.fallbacks);
      EXPECT_EQ(payload, kept_payload + (keeps_matrix ? 0 : uint64_t{2} * hidden_size * hidden_size * counts.tokens));
    }
  }
}

// More rows survive than there is room for: the last part is gone through again.
TEST(Screen, PartsAreSweptAgain) {
  constexpr uint32_t kHidden = 64;
  const std::vector<float> states = Normal(size_t{2} * kHidden, 13);
  const std::vector<float> weights = HardHead(1000, kHidden, 6);
  for (const uint32_t candidates : {20u, 100u}) {
    for (const uint32_t parts : {1u, 3u}) {
      const auto head = MakeScreenedHead(weights, kHidden, states,
                                         {.shape = {.power = host::StatePower::kNone, .size = {20, 2}},
                                          .num_parts = parts,
                                          .head = {.psram_rows = 256, .flash_rows = 256, .candidates = candidates}});
      EXPECT_EQ(Compare(*head, states, candidates), 2 * Modes().size());
      EXPECT_GT(head->ledger().screen.swept_again, 0u) << candidates;
    }
  }
}

// The token is the one of the scan of the blocks.
TEST(Screen, HeadsOfBlocksChangeNothing) {
  size_t tokens = 0;
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    const uint32_t hidden_size = std::array<uint32_t, 5>{64, 32, 96, 192, 128}[seed - 1];
    const std::vector<float> states = Normal(size_t{12} * hidden_size, 100 + seed);
    for (const math::Kernels* const* k = math::AvailableKernels(); *k != nullptr; ++k) {
      const auto head =
          MakeScreenedHead(HardHead(1500, hidden_size, seed), hidden_size, states,
                           {.shape = ShapeOf(hidden_size, seed),
                            .head = {.kernels = *k, .psram_rows = seed % 2 == 0 ? 1500u : 700u, .flash_rows = 400},
                            .as_blocks = true});
      ASSERT_EQ(head->tensor().type, DType::kQ8_0);
      tokens += Compare(*head, states, seed);
      for (const float scale : {1e-38f, 1e-8f, 1e-5f, 1e5f, 1e6f}) {
        Compare(*head, Normal(size_t{2} * hidden_size, seed, scale), seed);
      }
    }
  }
  EXPECT_GT(tokens, 1000u);
}

// What cannot be bounded is scanned.
TEST(Screen, HugeAndTinyStatesAndRows) {
  constexpr uint32_t kHidden = 40;
  const std::vector<float> shaping = Normal(8 * kHidden, 5);
  for (float row_scale : {1e-30f, 1e-10f, 1e10f, 1e25f}) {
    std::vector<float> weights = Normal(600 * kHidden, 6, row_scale);
    const auto head = MakeScreenedHead(weights, kHidden, shaping, {.shape = ShapeOf(kHidden, 1)});
    for (float state_scale : {1e-38f, 1e-20f, 1e-5f, 1e5f, 1e11f}) {
      if (row_scale * state_scale > 1e34f) continue;
      Compare(*head, Normal(6 * kHidden, 9, state_scale), 3);
    }
  }
  const auto zeros =
      MakeScreenedHead(std::vector<float>(600 * kHidden), kHidden, shaping, {.shape = ShapeOf(kHidden, 2)});
  Compare(*zeros, shaping, 1);
  Compare(*zeros, std::vector<float>(kHidden), 1);
}

// The promise behind all of it, asked directly: the logit lies within the bounds of every stage.
void ExpectBoundsHold(uint32_t hidden_size, bool as_blocks) {
  const math::Kernels& kernels = math::BestKernels();
  std::vector<float> head = HardHead(700, hidden_size, hidden_size);
  std::vector<float> states = Normal(size_t{20} * hidden_size, 3, 4.0f);
  const std::vector<float> given = states;
  std::vector<std::byte> rows(static_cast<size_t>(StoredBytes(DType::kQ8_0, as_blocks ? head.size() : 0)));
  std::vector<math::Q8Block> blocks(hidden_size / 32);
  if (as_blocks) {
    ASSERT_TRUE(host::QuantizeQ8_0(head, rows));
    host::ExpandElements(rows, DType::kQ8_0, head);
    for (size_t at = 0; at < states.size(); at += hidden_size) {
      kernels.quantize_q8(blocks.data(), &given[at], hidden_size);
      for (uint32_t i = 0; i < hidden_size; ++i) {
        states[at + i] = blocks[i / 32].scale * static_cast<float>(blocks[i / 32].values[i % 32]);
      }
    }
  }
  host::ScreenBuilder builder(head, hidden_size, states);
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    const BuiltScreen screen = builder.Build(ShapeOf(hidden_size, seed));
    const uint32_t first_bytes = screen.info.record_bytes[0];
    std::vector<int16_t> tables(size_t{first_bytes} * 256), steps(hidden_size);
    std::vector<int32_t> radii(256);
    std::vector<float> z(hidden_size);
    std::vector<int8_t> codes(head::QueryCodeBytes(hidden_size));
    head::Query query(screen.info, hidden_size, kernels,
                      {.mean = screen.mean,
                       .transform = screen.transform,
                       .tables = tables,
                       .radii = radii,
                       .z = z,
                       .steps = steps,
                       .codes = codes});
    BuiltScreen in_parts = screen;
    host::SplitFirstStage(in_parts, std::min(seed + 1, first_bytes / 4));
    double widest = 0;
    for (size_t at = 0; at < states.size(); at += hidden_size) {
      ASSERT_TRUE(query.Set(&states[at], nullptr));
      query.SetTables(screen.info.part(0), nullptr);
      if (as_blocks) kernels.quantize_q8(blocks.data(), &given[at], hidden_size);
      for (uint32_t r = 0; r < 700; ++r) {
        float logit = 0;
        if (as_blocks) {
          const auto row_bytes = static_cast<size_t>(StoredBytes(DType::kQ8_0, hidden_size));
          kernels.matvec_q8_0(&logit, &rows[r * row_bytes], blocks.data(), 1, hidden_size);
        } else {
          kernels.matvec_f32(&logit, &head[size_t{r} * hidden_size], &states[at], 1, hidden_size);
        }
        const std::byte* const record = &screen.records[0][size_t{r} * first_bytes];
        int32_t reach = 0;
        kernels.sum_codes(&reach, record, 1, query.tables(), false);
        const head::Query::Bounds first = query.First(reach, static_cast<uint8_t>(record[first_bytes - 1]));
        ASSERT_LE(first.center - first.radius, logit) << hidden_size << " row " << r;
        ASSERT_GE(first.center + first.radius, logit) << hidden_size << " row " << r;
        ASSERT_GE(reach, query.ReachOf(logit));
        float step = 0;
        float radius = 0;
        kernels.screen_rows(&step, &radius, &screen.records[1][size_t{r} * screen.info.record_bytes[1]], 1,
                            query.second());
        ASSERT_LE(first.center + step - radius, logit) << hidden_size << " row " << r;
        ASSERT_GE(first.center + step + radius, logit) << hidden_size << " row " << r;
        widest = std::max(widest, static_cast<double>(radius / first.radius));
      }
      if (at >= size_t{3} * hidden_size) continue;
      // Part after part the sums are the same, of one step.
      std::vector<int32_t> whole(700), sums(700, 1);
      kernels.sum_codes(whole.data(), screen.records[0].data(), 700, query.tables(), false);
      size_t part_at = 0;
      for (uint32_t p = 0; p < in_parts.info.num_parts; ++p) {
        const formats::FirstPart part = in_parts.info.part(p);
        query.SetTables(part, nullptr);
        kernels.sum_codes(sums.data(), &in_parts.records[0][part_at], 700, query.tables(), p != 0);
        part_at += size_t{700} * part.record_bytes();
      }
      ASSERT_EQ(sums, whole) << hidden_size << ", parts " << in_parts.info.num_parts;
    }
    EXPECT_LT(widest, 1);
  }
}

TEST(Screen, BoundsHold) {
  for (uint32_t hidden_size : {16u, 64u, 100u, 192u}) {
    ASSERT_NO_FATAL_FAILURE(ExpectBoundsHold(hidden_size, /*as_blocks=*/false));
  }
  for (uint32_t hidden_size : {32u, 96u, 192u}) {
    ASSERT_NO_FATAL_FAILURE(ExpectBoundsHold(hidden_size, /*as_blocks=*/true));
  }
}

std::vector<float> FloatsOf(const std::string& path) {
  const std::string bytes = ReadFile(path);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

// A trained head of a story model with its hidden states: 4 bits, then 3.
TEST(Screen, OfATrainedHeadLeavesAFewRows) {
  const char* const folder = std::getenv("THIMBLE_REAL_MODELS");
  if (folder == nullptr) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set: wants lm-head-6000x64";
  constexpr uint32_t kHidden = 64;
  const std::string path = std::string(folder) + "/lm-head-6000x64/";
  const std::vector<float> states = FloatsOf(path + "hidden.f32");
  const size_t half = states.size() / kHidden / 2 * kHidden;
  const std::span<const float> shaping = std::span(states).first(half);
  const std::span<const float> asked = std::span(states).subspan(half);
  struct Case {
    const char* name;
    head::SamplerOptions sampler;
    double most_second, most_read;
  };
  for (const Case& c :
       std::initializer_list<Case>{{"greedy", {.temperature = 0}, 30, 3},
                                   {"temperature 1", {.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 1}, 30, 3},
                                   {"top-40", {.top_k = 40, .top_p = 1, .min_p = 0, .temperature = 1}, 100, 5},
                                   {"default", {}, 100, 5},
                                   {"min-p", {.top_k = 0, .top_p = 1, .min_p = 0.05f, .temperature = 0.8f}, 100, 5}}) {
    const auto head = MakeScreenedHead(FloatsOf(path + "weight.f32"), kHidden, shaping,
                                       {.shape = {.power = host::StatePower::kHalf, .size = {36, 3}}});
    for (size_t at = 0; at + kHidden <= asked.size(); at += kHidden) {
      const auto position = static_cast<uint32_t>(at / kHidden);
      const Result<TokenId> want = head->Scanned(&asked[at], c.sampler, position, {});
      const Result<TokenId> have = head->Screened(&asked[at], c.sampler, position, {});
      ASSERT_TRUE(want && have);
      ASSERT_EQ(*have, *want);
    }
    const ScreenCounts& counts = head->ledger().screen;
    const auto tokens = static_cast<double>(counts.tokens);
    const double second = static_cast<double>(counts.refined) / tokens;
    const double read = static_cast<double>(counts.rows_fetched) / tokens;
    std::printf("%-14s %6.1f survivors, %6.1f records of the second stage, %5.2f rows read, %.0f fallbacks\n", c.name,
                static_cast<double>(counts.survivors) / tokens, second, read, static_cast<double>(counts.fallbacks));
    EXPECT_LE(second, c.most_second) << c.name;
    EXPECT_LE(read, c.most_read) << c.name;
    EXPECT_LE(static_cast<double>(counts.fallbacks), 0.01 * tokens) << c.name;
  }
}

class PreparedModel : public testing::Test {
 protected:
  void Synth(const std::string& head) {
    model_ = folder_ / (head + ".gguf");
    const ToolRun made = RunTool(
        {"synth", "tiny-llm", "--shape", "vocab_size=3000,hidden_size=64,head_dim=32", "--head", head, "-o", model_});
    ASSERT_EQ(made.exit_code, 0) << made.error;
  }
  ToolRun Run(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"run", "-m", model_, "--ids", "1,5,9", "-n", "60", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTool(arguments);
  }

  TemporaryFolder folder_;
  std::string model_;
};

TEST_F(PreparedModel, GivesTheSameTextWithFewReads) {
  for (const std::string head : {"story", "web"}) {
    Synth(head);
    // With these bits nearly all rows survive the first stage, more than the prompt's batch had memory for.
    ASSERT_EQ(RunTool({"prepare", model_, "--screen", "4,4"}).exit_code, 0);
    EXPECT_EQ(nlohmann::json::parse(Run({"-s", "6", "-c", "80"}).out)["ids"],
              nlohmann::json::parse(Run({"-s", "6", "-c", "80", "--head", "full"}).out)["ids"]);
    const ToolRun prepared = RunTool({"prepare", model_, "--json"});
    ASSERT_EQ(prepared.exit_code, 0) << prepared.error;
    for (const std::vector<std::string>& mode : std::vector<std::vector<std::string>>{
             {"--temp", "0"},
             {"-s", "5"},
             {"-s", "6", "--temp", "1", "--top-k", "0", "--top-p", "1", "--min-p", "0"}}) {
      std::vector<std::string> full = mode;
      full.insert(full.end(), {"--head", "full"});
      const auto screened = nlohmann::json::parse(Run(mode).out);
      const auto scanned = nlohmann::json::parse(Run(full).out);
      EXPECT_EQ(screened["ids"], scanned["ids"]);
      EXPECT_EQ(screened["head"], "screen");
      EXPECT_EQ(screened["screen"]["fallbacks"], 0);
      EXPECT_LT(screened["card"]["bytes"].get<uint64_t>(), scanned["card"]["bytes"].get<uint64_t>());
      EXPECT_TRUE(scanned["screen"].is_null());
      std::vector<std::string> small = mode;
      small.insert(small.end(), {"--board", "esp32", "-c", "100"});
      const auto without_psram = nlohmann::json::parse(Run(small).out);
      EXPECT_EQ(without_psram["ids"], scanned["ids"]);
      EXPECT_EQ(without_psram["head"], "screen");
      EXPECT_GT(without_psram["card"]["flash_bytes"], 0);
    }
    const std::string index = ReadFile(folder_ / (head + ".thimble"));
    ASSERT_EQ(RunTool({"prepare", model_}).exit_code, 0);
    EXPECT_EQ(ReadFile(folder_ / (head + ".thimble")), index) << "made twice, the index differs";
  }
}

TEST_F(PreparedModel, DamageIsFoundWhenItIsRead) {
  Synth("story");
  ASSERT_EQ(RunTool({"prepare", model_}).exit_code, 0);
  const std::string index_path = folder_ / "story.thimble";
  const std::string index = ReadFile(index_path);
  const std::string model = ReadFile(model_);
  const auto flipped = [](std::string bytes, size_t at) {
    bytes[at] = static_cast<char>(bytes[at] ^ 4);
    return bytes;
  };
  // Every part of the index that is read: a refusal, or the same text, never another one.
  const std::string want = nlohmann::json::parse(Run({"--temp", "0"}).out)["ids"].dump();
  std::mt19937 random(1);
  size_t refused = 0;
  for (int i = 0; i < 40; ++i) {
    WriteFile(index_path, flipped(index, i < 12 ? static_cast<size_t>(i) * 9 : random() % index.size()));
    const ToolRun run = Run({"--temp", "0"});
    if (run.exit_code != 0) {
      ++refused;
      EXPECT_NE(run.error.find("thimble prepare"), run.error.npos) << run.error;
    } else {
      EXPECT_EQ(nlohmann::json::parse(run.out)["ids"].dump(), want);
    }
  }
  EXPECT_GT(refused, 25u);
  WriteFile(index_path, index.substr(0, index.size() / 2));
  EXPECT_NE(Run({}).exit_code, 0);
  WriteFile(index_path, "");
  EXPECT_NE(Run({}).exit_code, 0);
  WriteFile(index_path, index);

  // The model: its last half is weights, which a scan of all rows reads but for rows of the embedding.
  size_t damaged = 0;
  for (int i = 0; i < 12; ++i) {
    const size_t at = model.size() - 1 - random() % (model.size() / 2);
    WriteFile(model_, flipped(model, at));
    const ToolRun run = Run({"--temp", "0", "--head", "full"});
    if (run.exit_code == 0) {
      EXPECT_EQ(nlohmann::json::parse(run.out)["ids"].dump(), want);
      continue;
    }
    ++damaged;
    EXPECT_NE(run.error.find("damaged"), run.error.npos) << run.error;
  }
  EXPECT_GT(damaged, 0u);
  WriteFile(model_, model);

  // Another model under the same name.
  ASSERT_EQ(RunTool({"synth", "tiny-llm", "--shape", "vocab_size=3000,hidden_size=64,head_dim=32", "--head", "web",
                     "-s", "2", "-o", model_})
                .exit_code,
            0);
  const ToolRun other = Run({"--temp", "0"});
  EXPECT_NE(other.exit_code, 0);
}

TEST_F(PreparedModel, TheIndexGoesOntoTheCard) {
  Synth("story");
  ASSERT_EQ(RunTool({"prepare", model_}).exit_code, 0);
  const std::string card = folder_ / "card.img";
  const ToolRun made = RunTool({"card", model_, "-o", card});
  ASSERT_EQ(made.exit_code, 0) << made.error;
  const auto beside = nlohmann::json::parse(Run({"--temp", "0"}).out);
  model_ = card;
  const auto on_card = nlohmann::json::parse(Run({"--temp", "0"}).out);
  EXPECT_EQ(on_card["head"], "screen");
  EXPECT_EQ(on_card["ids"], beside["ids"]);
}

// It writes no text of its own: nothing is measured, and nothing is said of what a token costs.
TEST_F(PreparedModel, AModelOfOnePositionIsPreparedAndMeasuresNothing) {
  model_ = folder_ / "one.gguf";
  ASSERT_EQ(RunTool({"synth", "small", "--shape", "max_position_embeddings=1", "-o", model_}).exit_code, 0);
  const ToolRun prepared = RunTool({"prepare", model_});
  ASSERT_EQ(prepared.exit_code, 0) << prepared.error;
  EXPECT_NE(prepared.out.find("measured nothing: a model of one position"), std::string::npos) << prepared.out;
  EXPECT_EQ(prepared.out.find("0.0, then"), std::string::npos) << prepared.out;
  const auto said = nlohmann::json::parse(RunTool({"prepare", model_, "--json"}).out);
  EXPECT_EQ(said["measured_tokens"], 0);
  EXPECT_EQ(said["second_bits"], 3);
  const auto ids = [&](const char* head) {
    const ToolRun run =
        RunTool({"run", "-m", model_, "--ids", "1", "-n", "4", "--json", "--temp", "0", "--head", head});
    EXPECT_EQ(run.exit_code, 0) << run.error;
    return nlohmann::json::parse(run.out)["ids"];
  };
  EXPECT_EQ(ids("full").size(), 1u);
  EXPECT_EQ(ids("screen"), ids("full"));
  EXPECT_EQ(ids("auto"), ids("full"));
}

TEST_F(PreparedModel, RefusesWhatItCannotPrepare) {
  Synth("story");
  EXPECT_NE(Run({"--head", "screen"}).exit_code, 0);
  EXPECT_NE(Run({"--head", "sideways"}).exit_code, 0);
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"prepare", folder_ / "none.gguf"},
                                             {"prepare", model_, "--screen", "4"},
                                             {"prepare", model_, "--screen", "16,8"},
                                             {"prepare", model_, "--screen", "15,3"},
                                             {"prepare", model_, "--screen", "400,3"},
                                             {"prepare", model_, "-o", model_},
                                             {"prepare", model_, "--board", "teapot"}}) {
    const ToolRun run = RunTool(arguments);
    EXPECT_NE(run.exit_code, 0);
    EXPECT_FALSE(run.error.empty());
  }
  EXPECT_EQ(folder_.Names(), (std::set<std::string>{"story.gguf"}));
}

}  // namespace
}  // namespace thimble::tests
