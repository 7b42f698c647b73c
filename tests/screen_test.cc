// The screened head against the scan of all rows: the same tokens, whatever the weights, the sampler and the place of
// the screen.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/card/fat32.h"
#include "engine/card/index_file.h"
#include "engine/head/head.h"
#include "engine/session.h"
#include "host/devices/ram_device.h"
#include "host/loaded_model.h"
#include "host/plan_choice.h"
#include "host/prepare.h"
#include "host/screen_builder.h"
#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::tests {
namespace {

using host::BuiltScreen;

std::vector<text::SamplerOptions> Modes() {
  std::vector<text::SamplerOptions> modes;
  for (float penalty : {1.0f, 1.3f, 0.8f}) {
    for (const text::SamplerOptions& o : std::initializer_list<text::SamplerOptions>{
             {.temperature = 0},
             {.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 1},
             {.top_k = 0, .top_p = 1, .min_p = 0.05f, .temperature = 0.8f},
             {.top_k = 40, .top_p = 0.95f, .min_p = 0.05f},
             {.top_k = 5, .top_p = 1, .min_p = 0, .temperature = 2},
         }) {
      modes.push_back(o);
      modes.back().repeat_penalty = penalty;
    }
  }
  return modes;
}

// A head in memory, as the model's file and its index would have it, and the Head over both.
class HeadUnderTest {
 public:
  HeadUnderTest(std::vector<float> weights, uint32_t hidden_size, std::span<const float> states,
                const std::vector<uint32_t>& bits, const math::Kernels& kernels, uint32_t psram_rows,
                uint32_t flash_rows)
      : weights_(std::move(weights)), kernels_(&kernels) {
    const auto rows = static_cast<uint32_t>(weights_.size() / hidden_size);
    tensor_ = {.offset = 0, .rows = rows, .cols = hidden_size, .id = {TensorKind::kLmHead, 0}};
    BuiltScreen screen = host::BuildScreen(weights_, hidden_size, states, bits);
    host::MeasureScreen(screen, hidden_size, states);
    std::vector<uint32_t> crcs;
    for (uint32_t r = 0; r < rows; ++r) {
      crcs.push_back(kernels.crc32c(0, reinterpret_cast<const std::byte*>(&weights_[size_t{r} * hidden_size]),
                                    hidden_size * sizeof(float)));
    }
    host::SealRecords(screen, crcs);
    index_.screen = screen.info;
    // Fallbacks that a too small workspace would cause are not what is tested here.
    index_.screen.num_candidates = rows;
    std::vector<std::byte> file;
    const auto put = [&](card::Section id, std::span<const std::byte> bytes) {
      index_.sections[static_cast<size_t>(id)] = {
          .offset = file.size(), .bytes = bytes.size(), .crc = kernels.crc32c(0, bytes.data(), bytes.size())};
      file.insert(file.end(), bytes.begin(), bytes.end());
      file.resize((file.size() + card::kSectionAlign - 1) / card::kSectionAlign * card::kSectionAlign);
    };
    put(card::Section::kVectors, std::as_bytes(std::span(screen.vectors)));
    std::vector<uint32_t> groups;
    const size_t record_bytes = screen.info.stages[0].record_bytes;
    const size_t group_bytes = card::GroupRows(screen.info.stages[0].record_bytes) * record_bytes;
    for (size_t at = 0; at < screen.records[0].size(); at += group_bytes) {
      groups.push_back(kernels.crc32c(0, &screen.records[0][at], std::min(group_bytes, screen.records[0].size() - at)));
    }
    put(card::Section::kGroupChecks, std::as_bytes(std::span(groups)));
    for (uint32_t s = 0; s < bits.size(); ++s) {
      put(static_cast<card::Section>(static_cast<uint32_t>(card::Section::kStage0) + s), screen.records[s]);
    }

    std::vector<std::byte> model(weights_.size() * sizeof(float) / 512 * 512 + 512);
    std::memcpy(model.data(), weights_.data(), weights_.size() * sizeof(float));
    model_device_ = std::make_unique<host::RamDevice>(std::move(model));
    index_device_ = std::make_unique<host::RamDevice>(std::move(file));
    model_extent_ = card::WholeDevice(*model_device_);
    index_extent_ = card::WholeDevice(*index_device_);
    reader_ = std::make_unique<card::FileReader>(*model_device_,
                                                 card::FileMap{{&model_extent_, 1}, model_extent_.size_bytes}, ledger_);
    index_reader_ = std::make_unique<card::FileReader>(
        *index_device_, card::FileMap{{&index_extent_, 1}, index_extent_.size_bytes}, ledger_);
    stream_ = std::make_unique<card::TileStream>(*reader_);

    const auto unit = card::GroupRows(screen.info.stages[0].record_bytes);
    const auto whole_groups = [&](uint32_t n) { return n >= rows ? rows : n / unit * unit; };
    head::HeadMemory memory;
    uint64_t psram_bytes = 0;
    uint64_t flash_bytes = 0;
    for (uint32_t s = 0; s < bits.size(); ++s) {
      const uint32_t psram = whole_groups(psram_rows);
      memory.places[s] = {psram, std::min(whole_groups(flash_rows), rows - psram)};
      if (psram + memory.places[s].flash_rows != rows) {
        memory.places[s].flash_rows = memory.places[s].flash_rows / unit * unit;
      }
      psram_bytes += uint64_t{memory.places[s].psram_rows} * screen.info.stages[s].record_bytes;
      flash_bytes += uint64_t{memory.places[s].flash_rows} * screen.info.stages[s].record_bytes;
    }
    psram_.resize(psram_bytes);
    flash_.resize(flash_bytes);
    rows_.resize(2 * head::kBlockRows);
    vectors_.resize(screen.vectors.size());
    groups_.resize(groups.size());
    codes_.resize(head::QueryCodeBytes(hidden_size));
    candidates_.resize(rows);
    memory.tiles = {tiles_.first(tiles_.size() / 2), tiles_.subspan(tiles_.size() / 2)};
    memory.rows = rows_;
    memory.vectors = vectors_;
    memory.group_checks = groups_;
    memory.codes = codes_;
    memory.candidates = candidates_;
    memory.psram = psram_;
    memory.flash = flash_;
    head::HeadParts parts = {.tensor = &tensor_,
                             .kernels = kernels_,
                             .reader = reader_.get(),
                             .stream = stream_.get(),
                             .block_bytes = 512,
                             .ledger = &ledger_};
    scan_ = std::make_unique<head::Head>(parts, memory);
    parts.index = &index_;
    parts.index_reader = index_reader_.get();
    screen_ = std::make_unique<head::Head>(parts, memory);
    EXPECT_TRUE(screen_->Load());
  }

  TokenId Choose(bool screened, const float* x, const text::SamplerOptions& sampler, uint32_t position,
                 std::span<const TokenId> recent) {
    std::vector<text::Candidate> kept(static_cast<size_t>(text::CandidatesNeeded(sampler, tensor_.rows)));
    std::vector<TokenId> penalised(static_cast<size_t>(text::PenalisedNeeded(sampler, recent.size())));
    text::Choice choice(sampler, tensor_.rows, position, recent, kept, penalised);
    const Result<TokenId> token = (screened ? *screen_ : *scan_).Choose(x, choice);
    EXPECT_TRUE(token) << token.error().what;
    return token.value_or(card::kNoToken);
  }

  // Chooses by both in every mode, for each state. Returns how many tokens were compared.
  size_t Compare(std::span<const float> states, uint64_t seed) {
    size_t n = 0;
    const std::vector<text::SamplerOptions> modes = Modes();
    for (size_t at = 0; at + tensor_.cols <= states.size(); at += tensor_.cols) {
      for (text::SamplerOptions mode : modes) {
        mode.seed = seed;
        const auto position = static_cast<uint32_t>(at / tensor_.cols);
        std::array<TokenId, 6> recent;
        for (TokenId& id : recent) id = static_cast<TokenId>(random_() % tensor_.rows);
        recent[0] = last_;
        recent[5] = recent[1];
        const TokenId want = Choose(false, &states[at], mode, position, recent);
        EXPECT_EQ(Choose(true, &states[at], mode, position, recent), want)
            << "state " << position << ", top_k " << mode.top_k << ", min_p " << mode.min_p << ", temperature "
            << mode.temperature << ", penalty " << mode.repeat_penalty;
        last_ = want;
        ++n;
      }
    }
    return n;
  }

  const ScreenCounts& counts() const { return ledger_.screen; }
  const std::vector<float>& weights() const { return weights_; }

 private:
  std::vector<float> weights_;
  const math::Kernels* kernels_;
  TensorRef tensor_;
  card::Index index_;
  Ledger ledger_;
  std::unique_ptr<host::RamDevice> model_device_, index_device_;
  card::Extent model_extent_, index_extent_;
  std::unique_ptr<card::FileReader> reader_, index_reader_;
  std::unique_ptr<card::TileStream> stream_;
  struct alignas(512) Block {
    std::byte bytes[512];
  };
  std::vector<Block> blocks_ = std::vector<Block>(2 * 48);
  std::span<std::byte> tiles_ = std::as_writable_bytes(std::span(blocks_));
  std::vector<float> rows_, vectors_;
  std::vector<uint32_t> groups_;
  std::vector<int8_t> codes_;
  std::vector<text::Bounded> candidates_;
  std::vector<std::byte> psram_, flash_;
  std::unique_ptr<head::Head> scan_, screen_;
  std::mt19937 random_{7};
  TokenId last_ = 0;
};

std::vector<float> Normal(size_t n, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

// Rows that a screen finds hard: equal rows, rows one ulp apart, zero rows, and very large and very small ones.
std::vector<float> HardHead(uint32_t rows, uint32_t hidden_size, uint32_t seed) {
  std::vector<float> head = Normal(size_t{rows} * hidden_size, seed);
  std::mt19937 random(seed);
  for (uint32_t r = 1; r < rows; ++r) {
    float* const row = &head[size_t{r} * hidden_size];
    const float* const other = &head[size_t{random() % r} * hidden_size];
    switch (random() % 8) {
      case 0:
        std::copy_n(other, hidden_size, row);
        break;
      case 1:
        std::copy_n(other, hidden_size, row);
        row[random() % hidden_size] = std::nextafter(row[0], 100.0f);
        break;
      case 2:
        std::copy_n(other, hidden_size, row);
        for (uint32_t i = 0; i < hidden_size; ++i) row[i] = std::nextafter(row[i], i % 2 == 0 ? 9.0f : -9.0f);
        break;
      case 3:
        std::fill_n(row, hidden_size, 0.0f);
        break;
      case 4:
        for (uint32_t i = 0; i < hidden_size; ++i) row[i] *= 1e-39f;
        break;
      case 5:
        for (uint32_t i = 0; i < hidden_size; ++i) row[i] *= 1.5f;
        break;
      default:
        break;
    }
  }
  return head;
}

TEST(Screen, TiesNearTiesZerosAndSubnormalsChangeNothing) {
  size_t tokens = 0;
  for (uint32_t seed = 1; seed <= 6; ++seed) {
    const uint32_t hidden_size = std::array<uint32_t, 6>{64, 48, 33, 96, 8, 130}[seed - 1];
    const std::vector<float> states = Normal(size_t{12} * hidden_size, 100 + seed);
    const std::vector<uint32_t> bits = seed % 3 == 0 ? std::vector<uint32_t>{2, 2, 3} : std::vector<uint32_t>{4, 3};
    for (const math::Kernels* const* k = math::AvailableKernels(); *k != nullptr; ++k) {
      HeadUnderTest head(HardHead(1500, hidden_size, seed), hidden_size, states, bits, **k, seed % 2 == 0 ? 1500 : 700,
                         400);
      tokens += head.Compare(states, seed);
      EXPECT_EQ(head.counts().tokens, 12 * Modes().size());
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
    HeadUnderTest head(weights, kHidden, shaping, {4, 3}, math::BestKernels(), 600, 0);
    for (float state_scale : {1e-38f, 1e-20f, 1e-5f, 1e5f, 1e11f}) {
      if (row_scale * state_scale > 1e34f) continue;
      head.Compare(Normal(6 * kHidden, 9, state_scale), 3);
    }
  }
  HeadUnderTest zeros(std::vector<float>(600 * kHidden), kHidden, shaping, {3, 3}, math::BestKernels(), 600, 0);
  zeros.Compare(shaping, 1);
  zeros.Compare(std::vector<float>(kHidden), 1);
}

// The promise behind all of it, asked directly: the logit lies within the bounds of every stage.
TEST(Screen, BoundsHold) {
  for (uint32_t hidden_size : {16u, 64u, 100u, 192u}) {
    const std::vector<float> head = HardHead(700, hidden_size, hidden_size);
    const std::vector<float> states = Normal(size_t{20} * hidden_size, 3, 4.0f);
    BuiltScreen screen = host::BuildScreen(head, hidden_size, states, std::array<uint32_t, 3>{3, 3, 4});
    std::vector<int8_t> codes(head::QueryCodeBytes(hidden_size));
    head::Query query(screen.info, hidden_size, math::BestKernels(), screen.vectors, codes);
    for (size_t at = 0; at < states.size(); at += hidden_size) {
      ASSERT_TRUE(query.Set(&states[at]));
      for (uint32_t r = 0; r < 700; ++r) {
        float logit = 0;
        math::BestKernels().matvec_f32(&logit, &head[size_t{r} * hidden_size], &states[at], 1, hidden_size);
        float center = 0;
        for (uint32_t s = 0; s < 3; ++s) {
          float step = 0;
          float radius = 0;
          math::BestKernels().screen_rows(
              &step, &radius, &screen.records[s][size_t{r} * screen.info.stages[s].record_bytes], 1, query.stage(s));
          center += step;
          ASSERT_LE(center - radius, logit) << hidden_size << " row " << r << " stage " << s;
          ASSERT_GE(center + radius, logit) << hidden_size << " row " << r << " stage " << s;
        }
      }
    }
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
    text::SamplerOptions sampler;
    double most_left;
  };
  for (const Case& c :
       std::initializer_list<Case>{{"greedy", {.temperature = 0}, 3},
                                   {"temperature 1", {.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 1}, 3},
                                   {"top-40", {.top_k = 40, .top_p = 1, .min_p = 0, .temperature = 1}, 65},
                                   {"min-p", {.top_k = 0, .top_p = 1, .min_p = 0.05f, .temperature = 0.8f}, 100}}) {
    HeadUnderTest head(FloatsOf(path + "weight.f32"), kHidden, shaping, {4, 3}, math::BestKernels(), 6000, 0);
    for (size_t at = 0; at + kHidden <= asked.size(); at += kHidden) {
      const auto position = static_cast<uint32_t>(at / kHidden);
      ASSERT_EQ(head.Choose(true, &asked[at], c.sampler, position, {}),
                head.Choose(false, &asked[at], c.sampler, position, {}));
    }
    const auto tokens = static_cast<double>(head.counts().tokens);
    const double left = static_cast<double>(head.counts().survivors) / tokens;
    std::printf("%-14s %6.1f records of the second stage, %5.2f rows left, %5.2f read, %.0f fallbacks\n", c.name,
                static_cast<double>(head.counts().refined) / tokens, left,
                static_cast<double>(head.counts().rows_fetched) / tokens, static_cast<double>(head.counts().fallbacks));
    EXPECT_LE(left, c.most_left) << c.name;
    EXPECT_LE(static_cast<double>(head.counts().fallbacks), 0.01 * tokens) << c.name;
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
    ASSERT_EQ(RunTool({"prepare", model_, "--screen-bits", "1,4"}).exit_code, 0);
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

TEST_F(PreparedModel, RefusesWhatItCannotPrepare) {
  Synth("story");
  EXPECT_NE(Run({"--head", "screen"}).exit_code, 0);
  EXPECT_NE(Run({"--head", "sideways"}).exit_code, 0);
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"prepare", folder_ / "none.gguf"},
                                             {"prepare", model_, "--screen-bits", "4"},
                                             {"prepare", model_, "--screen-bits", "4,8"},
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
