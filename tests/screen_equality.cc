// Usage: screen_equality [--tokens N] [--quick] [--models FOLDER] [--json]
//
// The screened head against the scan of all rows, token by token: models write texts by the scan, and at every position
// the screens are asked for the token, too, from the same hidden state. So every difference is counted, not only the
// first. Prints what the screens read. Exits with 1 if any token differs.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/session.h"
#include "host/formats/gguf_writer.h"
#include "host/formats/weights.h"
#include "host/models/convert.h"
#include "host/models/loaded_model.h"
#include "host/support/aligned_buffer.h"
#include "host/support/atomic_file.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/synth/synth.h"
#include "tests/support/checkpoints.h"
#include "tests/support/hard_head.h"
#include "tests/support/sampler_modes.h"

namespace thimble::tests {
namespace {

using host::Expected;
using host::Status;

// What an ESP32-CAM has for a screen beside a Tiny-LLM with 512 positions: of 4 MiB PSRAM and 2.8 MiB flash.
constexpr uint64_t kBoardBytes = 5'632 * 1024;

constexpr uint32_t kTextTokens = 100;     // of a text; then another one begins
constexpr uint32_t kShapingTokens = 128;  // states that shape a screen, as many as `thimble prepare` uses
constexpr size_t kLargeHead = 1'000'000;  // weights from which a head gets a third of the tokens

using Mode = SamplerMode;  // `group`: the line of the table that it is counted in

struct MeanAndMost {
  uint64_t sum = 0;
  uint64_t most = 0;
  void Add(uint64_t n) {
    sum += n;
    most = std::max(most, n);
  }
};

// Of the tokens of one screen in one group of modes.
struct Tally {
  uint64_t tokens = 0, differences = 0, fallbacks = 0;
  MeanAndMost second_stage;  // rows of which the second stage's record was read
  MeanAndMost left;          // rows left after it
  uint64_t rows_fetched = 0, reads = 0, card_bytes = 0, memory_bytes = 0;
};

// One screen of a head, and what became of its tokens.
struct Contestant {
  std::string size, place;
  std::unique_ptr<host::ScreenedHead> head;
  std::map<std::string, Tally> tallies;

  Status Ask(const Mode& mode, const float* x, uint32_t position, std::span<const TokenId> recent, TokenId want) {
    const ScreenCounts before = head->ledger().screen;
    const ZoneCounts before_zone = head->ledger().zones[static_cast<size_t>(Zone::kHead)];
    const Result<TokenId> have = head->Screened(x, mode.sampler, position, recent);
    if (!have) return host::Failed("the screen", have.error());
    const ScreenCounts& after = head->ledger().screen;
    const ZoneCounts& zone = head->ledger().zones[static_cast<size_t>(Zone::kHead)];
    Tally& tally = tallies[mode.group];
    ++tally.tokens;
    tally.differences += *have != want;
    tally.fallbacks += after.fallbacks - before.fallbacks;
    tally.second_stage.Add(after.refined - before.refined);
    tally.left.Add(after.survivors - before.survivors);
    tally.rows_fetched += after.rows_fetched - before.rows_fetched;
    tally.reads += zone.reads - before_zone.reads;
    tally.card_bytes += zone.card_bytes - before_zone.card_bytes;
    for (size_t i = 0; i < kNumRegions; ++i) tally.memory_bytes += zone.memory_bytes[i] - before_zone.memory_bytes[i];
    return {};
  }
};

struct Subject {
  std::string name;
  TensorRef tensor;
  uint64_t tokens = 0;  // that were written, each compared by every contestant
  std::vector<Contestant> contestants;
};

// The screens of a head that are compared: what is chosen for a board, and one that is read from the card altogether.
std::vector<Contestant> Contestants(std::span<const float> weights, uint32_t hidden_size, std::span<const float> states,
                                    bool from_the_card, bool as_blocks = false) {
  struct Kind {
    host::ScreenShape shape;
    uint64_t memory_bytes;
    const char* place;
    uint32_t num_parts = 1;
  };
  const uint32_t quarter = hidden_size / 4 / 4 * 4;
  const auto rows = static_cast<uint32_t>(weights.size() / hidden_size);
  using enum host::StatePower;
  std::vector<Kind> kinds = {{{kHalf, {quarter, 3}}, kBoardBytes, "memory"},
                             {{kWhole, {2 * quarter, 2}}, kBoardBytes, "memory"},
                             {{kNone, {quarter, 4}}, kBoardBytes, "memory"},
                             {{kHalf, {quarter, 3}}, rows * uint64_t{quarter} / 2, "half", 3}};
  if (from_the_card) kinds.push_back({{kHalf, {quarter, 3}}, 0, "card"});
  std::vector<Contestant> contestants;
  for (const Kind& kind : kinds) {
    Contestant& c = contestants.emplace_back();
    c.size = fmt::format("{}, {}", kind.shape.size.first_bytes, kind.shape.size.second_bits);
    c.place = kind.place;
    c.head = MakeScreenedHead(weights, hidden_size, states,
                              {.shape = kind.shape,
                               .num_parts = kind.num_parts,
                               .head = {.memory_bytes = kind.memory_bytes, .candidates = std::max(1024u, rows / 8)},
                               .as_blocks = as_blocks});
  }
  return contestants;
}

// A model that writes texts by the scan of all rows.
class Author {
 public:
  static Expected<Author> Open(const std::string& path) {
    host::ModelRequest request;
    request.model = path;
    request.index = host::IndexUse::kIgnore;
    THIMBLE_ASSIGN(auto loaded, host::LoadedModel::Open(request));
    return Author(std::move(loaded));
  }

  Expected<std::vector<float>> Head() {
    const TensorRef& tensor = model().tensor({TensorKind::kLmHead, 0});
    host::AlignedBuffer buffer(loaded_->reader().BufferBytes(tensor.size_bytes()));
    if (const auto started = loaded_->reader().Start(tensor.offset, tensor.size_bytes(), buffer.bytes()); !started) {
      return loaded_->Failure(started.error());
    }
    const auto bytes = loaded_->reader().Wait();
    if (!bytes) return loaded_->Failure(bytes.error());
    std::vector<float> head(size_t{tensor.rows} * tensor.cols);
    host::ExpandElements(*bytes, tensor.type, head);
    return head;
  }

  // Calls use(x, position, recent, token) for each of n tokens, in texts that begin in different ways.
  template <class Use>
  Status Write(const head::SamplerOptions& sampler, uint64_t n, uint32_t seed, Use use) {
    std::mt19937 random(seed);
    for (uint64_t done = 0; done < n;) {
      const auto length = static_cast<uint32_t>(std::min<uint64_t>(kTextTokens, n - done));
      const auto plan = PlanSession(model(), loaded_->board(), loaded_->reader().block_bytes(),
                                    {.n_ctx = length + 2, .head = plan::HeadMode::kFull}, sampler);
      if (!plan) return loaded_->Failure(plan.error());
      THIMBLE_ASSIGN(Session* const session, loaded_->OpenSession(*plan));
      std::vector<TokenId> ids = {1, static_cast<TokenId>(random() % model().shape.vocab_size)};
      if (const auto begun = session->Prefill(ids); !begun) return loaded_->Failure(begun.error());
      head::SamplerOptions seeded = sampler;
      seeded.seed = random();
      for (uint32_t i = 0; i < length; ++i, ++done) {
        const auto token = session->Next(seeded);
        if (!token) return loaded_->Failure(token.error());
        THIMBLE_TRY(use(session->hidden(), seeded, std::span<const TokenId>(ids), *token));
        ids.push_back(*token);
      }
    }
    return {};
  }

  const formats::ModelFile& model() const { return loaded_->model(); }

 private:
  explicit Author(std::unique_ptr<host::LoadedModel> loaded) : loaded_(std::move(loaded)) {}

  std::unique_ptr<host::LoadedModel> loaded_;
};

Expected<Subject> CompareModel(const std::string& name, const std::string& path, uint64_t tokens) {
  THIMBLE_ASSIGN(Author author, Author::Open(path));
  THIMBLE_ASSIGN(const std::vector<float> weights, author.Head());
  const uint32_t hidden_size = author.model().shape.hidden_size;
  std::vector<float> states;
  const head::SamplerOptions plain = {.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 1};
  THIMBLE_TRY(author.Write(plain, kShapingTokens, 1, [&](const float* x, const auto&, const auto&, TokenId) -> Status {
    states.insert(states.end(), x, x + hidden_size);
    return {};
  }));
  Subject subject = {.name = name, .tensor = author.model().tensor({TensorKind::kLmHead, 0}), .contestants = {}};
  subject.contestants =
      Contestants(weights, hidden_size, states, weights.size() < kLargeHead, subject.tensor.type == DType::kQ8_0);
  if (weights.size() >= kLargeHead) tokens = (tokens + 2) / 3;
  uint32_t seed = 2;
  for (Mode mode : SamplerModes()) {
    const auto use = [&](const float* x, const head::SamplerOptions& sampler, std::span<const TokenId> recent,
                         TokenId token) -> Status {
      mode.sampler = sampler;
      ++subject.tokens;
      for (Contestant& c : subject.contestants) {
        THIMBLE_TRY(c.Ask(mode, x, static_cast<uint32_t>(recent.size()), recent, token));
      }
      return {};
    };
    THIMBLE_TRY(author.Write(mode.sampler, tokens, seed++, use));
  }
  return subject;
}

// Tokens that would follow from `states` of a head without its model: what was chosen before stands for the context.
Status CompareStates(Subject& subject, std::span<const float> states, uint64_t tokens) {
  const uint32_t hidden_size = subject.tensor.cols;
  const size_t num_states = states.size() / hidden_size;
  uint32_t seed = 1;
  for (Mode mode : SamplerModes()) {
    std::vector<TokenId> ids = {1};
    mode.sampler.seed = seed++;
    for (uint64_t i = 0; i < tokens; ++i) {
      if (ids.size() == kTextTokens) ids.resize(1);
      if (i % num_states == 0) ++mode.sampler.seed;
      const float* const x = &states[i % num_states * hidden_size];
      const auto position = static_cast<uint32_t>(ids.size());
      const Result<TokenId> token = subject.contestants[0].head->Scanned(x, mode.sampler, position, ids);
      if (!token) return host::Failed("the scan", token.error());
      ++subject.tokens;
      for (Contestant& c : subject.contestants) THIMBLE_TRY(c.Ask(mode, x, position, ids, *token));
      ids.push_back(*token);
    }
  }
  return {};
}

std::vector<float> FloatsOf(const std::string& path) {
  const std::string bytes = ReadFile(path);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

// A trained head with hidden states: the first half shapes the screen.
Expected<Subject> CompareTrainedHead(const std::string& folder, uint64_t tokens) {
  constexpr uint32_t kHidden = 64;
  const std::vector<float> weights = FloatsOf(folder + "/weight.f32");
  const std::vector<float> states = FloatsOf(folder + "/hidden.f32");
  const size_t half = states.size() / kHidden / 2 * kHidden;
  Subject subject = {.name = "trained 6000 x 64", .tensor = {}, .contestants = {}};
  subject.contestants = Contestants(weights, kHidden, std::span(states).first(half), true);
  subject.tensor = subject.contestants[0].head->tensor();
  THIMBLE_TRY(CompareStates(subject, std::span(states).subspan(half), tokens));
  return subject;
}

// Heads that are hard for a screen, one after the other under the same name, with all kernels of this computer.
Expected<Subject> CompareConstructed(uint64_t tokens) {
  Subject subject = {.name = "constructed", .tensor = {}, .contestants = {}};
  subject.contestants.resize(1);
  Contestant& contestant = subject.contestants[0];
  contestant.size = "some";
  contestant.place = "all";
  constexpr uint32_t kRows = 1500;
  struct Scales {
    float row, state;
  };
  uint32_t seed = 1;
  for (const Scales scales : {Scales{1, 1}, Scales{1, 1}, Scales{1, 1}, Scales{1e-30f, 1e-5f}, Scales{1e25f, 1e5f},
                              Scales{1e-10f, 1e-30f}, Scales{1e10f, 1e11f}}) {
    const uint32_t hidden_size = std::array<uint32_t, 7>{64, 96, 33, 48, 48, 40, 40}[seed - 1];
    std::vector<float> weights = HardHead(kRows, hidden_size, seed);
    for (float& w : weights) w *= scales.row;
    const std::vector<float> states = Normal(size_t{10} * hidden_size, 100 + seed, scales.state);
    for (const math::Kernels* const* k = math::AvailableKernels(); *k != nullptr; ++k) {
      contestant.head =
          MakeScreenedHead(weights, hidden_size, Normal(size_t{8} * hidden_size, seed),
                           {.shape = {.power = host::kStatePowers[seed % 3],
                                      .size = {hidden_size / (2 + seed % 3) / 4 * 4, 2 + seed % 3}},
                            .head = {.kernels = *k, .psram_rows = seed % 2 == 0 ? kRows : 700, .flash_rows = 400}});
      subject.tensor = contestant.head->tensor();
      THIMBLE_TRY(CompareStates(subject, states, std::max<uint64_t>(tokens / 40, 1)));
    }
    ++seed;
  }
  return subject;
}

Expected<std::string> WriteSynth(const std::string& head, const TemporaryFolder& folder) {
  THIMBLE_ASSIGN(const host::SynthPreset preset, host::SynthShape("tiny-llm", ""));
  THIMBLE_ASSIGN(const host::SynthHead kind, host::SynthHeadNamed(head, preset));
  const std::string path = folder / (head + ".gguf");
  THIMBLE_ASSIGN(host::AtomicFile file, host::AtomicFile::Create(path, {}));
  THIMBLE_TRY(
      host::WriteGguf(host::MakeSynth(preset, 1, kind), {.dtype = host::WrittenType::kKeep}, "synth", file.sink()));
  THIMBLE_TRY(file.Commit());
  return path;
}

double PerToken(uint64_t sum, const Tally& tally) {
  return static_cast<double>(sum) / static_cast<double>(tally.tokens);
}

void PrintTable(const std::vector<Subject>& subjects) {
  fmt::print(
      "| head, scan | bytes, bits | mode | tokens | differ | second records, most | survivors, most | rows read | "
      "reads | "
      "bytes "
      "card | bytes memory | of the scan | fallbacks |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Subject& subject : subjects) {
    const auto scan_bytes = static_cast<double>(subject.tensor.size_bytes());
    for (const Contestant& c : subject.contestants) {
      for (const auto& [group, t] : c.tallies) {
        fmt::print(
            "| {} | {}{} | {} | {} | {} | {:.1f}, {} | {:.1f}, {} | {:.1f} | {:.1f} | {:.0f} | {:.0f} | {:.1f} % | {} "
            "|\n",
            fmt::format("{}, {} bytes", subject.name, host::Grouped(subject.tensor.size_bytes())), c.size,
            c.place == "card"   ? ", on the card"
            : c.place == "half" ? ", in 3 parts, half on the card"
                                : "",
            group, host::Grouped(t.tokens), t.differences, PerToken(t.second_stage.sum, t), t.second_stage.most,
            PerToken(t.left.sum, t), t.left.most, PerToken(t.rows_fetched, t), PerToken(t.reads, t),
            PerToken(t.card_bytes, t), PerToken(t.memory_bytes, t),
            100 * PerToken(t.card_bytes + t.memory_bytes, t) / scan_bytes, t.fallbacks);
      }
    }
  }
}

nlohmann::ordered_json Json(const std::vector<Subject>& subjects) {
  nlohmann::ordered_json lines = nlohmann::ordered_json::array();
  for (const Subject& subject : subjects) {
    for (const Contestant& c : subject.contestants) {
      for (const auto& [group, t] : c.tallies) {
        lines.push_back({{"head", subject.name},
                         {"scan_bytes", subject.tensor.size_bytes()},
                         {"size", c.size},
                         {"place", c.place},
                         {"mode", group},
                         {"tokens", t.tokens},
                         {"differences", t.differences},
                         {"second_records_mean", PerToken(t.second_stage.sum, t)},
                         {"second_records_max", t.second_stage.most},
                         {"survivors_mean", PerToken(t.left.sum, t)},
                         {"survivors_max", t.left.most},
                         {"rows_fetched", PerToken(t.rows_fetched, t)},
                         {"reads", PerToken(t.reads, t)},
                         {"card_bytes", PerToken(t.card_bytes, t)},
                         {"memory_bytes", PerToken(t.memory_bytes, t)},
                         {"fallbacks", t.fallbacks}});
      }
    }
  }
  return lines;
}

Expected<std::vector<Subject>> Run(uint64_t tokens, bool quick, const std::string& models) {
  std::vector<Subject> subjects;
  const auto add = [&](Expected<Subject> subject) -> Status {
    if (!subject) return std::unexpected(subject.error());
    fmt::print(stderr, "{}: {} tokens\n", subject->name, host::Grouped(subject->tokens));
    subjects.push_back(std::move(*subject));
    return {};
  };
  THIMBLE_TRY(add(CompareConstructed(tokens)));
  const std::string bundled = THIMBLE_ROOT "/model/thimble-stories";
  const TemporaryFolder folder;
  THIMBLE_TRY(add(CompareModel("bundled", bundled, tokens)));
  THIMBLE_TRY(host::Convert({.source = bundled, .out = folder / "q8.gguf", .types = {.quant = host::Quant::kAll}}));
  THIMBLE_TRY(add(CompareModel("bundled in Q8_0", folder / "q8.gguf", tokens)));
  if (models.empty()) {
    fmt::print(stderr,
               "stories260K and the trained head are left out: THIMBLE_REAL_MODELS or --models names no folder\n");
  } else {
    THIMBLE_TRY(add(CompareModel("stories260K", models + "/stories260K/stories260K.bin", tokens)));
    THIMBLE_TRY(add(CompareTrainedHead(models + "/lm-head-6000x64", tokens)));
  }
  if (quick) return subjects;
  for (const std::string head : {"story", "web"}) {
    THIMBLE_ASSIGN(const std::string path, WriteSynth(head, folder));
    THIMBLE_TRY(add(CompareModel("synth " + head, path, tokens)));
  }
  return subjects;
}

int Main(int argc, char** argv) {
  CLI::App app("Compares the screened head with the scan of all rows, token by token");
  uint64_t tokens = 1200;
  const char* const folder = std::getenv("THIMBLE_REAL_MODELS");
  std::string models = folder == nullptr ? "" : folder;
  bool quick = false;
  bool json = false;
  app.add_option("--tokens", tokens,
                 "Of each of 27 cases (9 modes, 3 penalties) of each head; a third of them of a large one")
      ->capture_default_str();
  app.add_option("--models", models, "A folder with stories260K and lm-head-6000x64 (default: $THIMBLE_REAL_MODELS)");
  app.add_flag("--quick", quick, "8 tokens of each case, and no large heads");
  app.add_flag("--json", json, "A JSON array instead of a table");
  CLI11_PARSE(app, argc, argv);

  const Expected<std::vector<Subject>> subjects = Run(quick ? 8 : tokens, quick, models);
  if (!subjects) {
    host::WriteMessage("screen_equality", subjects.error());
    return 1;
  }
  if (json) {
    fmt::print("{}\n", Json(*subjects).dump());
  } else {
    PrintTable(*subjects);
  }
  uint64_t written = 0;
  uint64_t compared = 0;
  uint64_t differences = 0;
  for (const Subject& subject : *subjects) {
    written += subject.tokens;
    for (const Contestant& c : subject.contestants) {
      for (const auto& [group, t] : c.tallies) {
        compared += t.tokens;
        differences += t.differences;
      }
    }
  }
  fmt::print(stderr, "{} tokens, {} comparisons, {} differences\n", host::Grouped(written), host::Grouped(compared),
             differences);
  return differences == 0 ? 0 : 1;
}

}  // namespace
}  // namespace thimble::tests

int main(int argc, char** argv) { return thimble::tests::Main(argc, argv); }
