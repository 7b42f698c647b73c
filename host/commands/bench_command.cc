// thimble bench: how fast prompts and texts go on this computer, and what a token reads.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "engine/plan/plan_file.h"
#include "engine/session.h"
#include "host/commands/choice.h"
#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/commands/plan_options.h"
#include "host/commands/result_json.h"
#include "host/models/loaded_model.h"
#include "host/models/run_request.h"
#include "host/support/messages.h"

namespace thimble::host {
namespace {

constexpr uint32_t kDefaultPrompt = 512;
constexpr uint32_t kDefaultGen = 128;
constexpr uint32_t kMaxTokens = 1 << 20;
constexpr uint32_t kMaxReps = 100'000;
constexpr uint32_t kPromptSeed = 1;

// The logit is looked at, nothing is drawn.
constexpr head::SamplerOptions kGreedy = {.temperature = 0.0f};

constexpr char kMeasuredOn[] = "this computer, not a board";

struct BenchArguments {
  ModelRequest model;
  PlanRequest plan;
  std::vector<uint32_t> n_prompt;  // empty: the default
  std::vector<uint32_t> n_gen;
  uint32_t reps = 5;
  bool no_warmup = false;
  std::string format = "md";
};

// What is timed: one of the two, as in llama-bench. A prompt: reading it and choosing the token that follows. A text:
// as many tokens, the first of them after the begin token alone.
struct Test {
  uint32_t n_prompt = 0;
  uint32_t n_gen = 0;

  uint32_t tokens() const { return n_prompt + n_gen; }
  std::string name() const { return n_prompt != 0 ? fmt::format("pp{}", n_prompt) : fmt::format("tg{}", n_gen); }
};

// What the card was asked for since the model was opened, or in between.
struct CardCounts {
  uint64_t payload_bytes = 0;
  uint64_t card_bytes = 0;
  uint64_t reads = 0;

  static CardCounts Of(const Ledger& ledger) {
    const ZoneCounts total = ledger.total();
    return {.payload_bytes = total.payload_bytes, .card_bytes = total.card_bytes, .reads = total.reads};
  }
  CardCounts Since(const CardCounts& before) const {
    return {.payload_bytes = payload_bytes - before.payload_bytes,
            .card_bytes = card_bytes - before.card_bytes,
            .reads = reads - before.reads};
  }
};

// One repetition of a test.
struct Sample {
  uint64_t ns = 0;
  CardCounts counts;
  DraftCounts draft;
};

struct Measured {
  Test test;
  std::vector<uint64_t> samples_ns;
  CardCounts counts;  // of one repetition; all of them count the same
  DraftCounts draft;  // likewise
};

double MeanOf(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Of a sample: divided by n - 1; 0 for one value.
double DeviationOf(const std::vector<double>& values) {
  if (values.size() < 2) return 0.0;
  const double mean = MeanOf(values);
  double sum = 0;
  for (double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

// A model on a board, opened afresh for each repetition in the same memory.
class Bench {
 public:
  Bench(LoadedModel& loaded, const plan::Plan& plan) : loaded_(&loaded), plan_(&plan) {}

  Expected<Measured> Measure(const Test& test, uint32_t reps, bool warm_up) {
    Measured measured = {.test = test, .samples_ns = {}, .counts = {}, .draft = {}};
    if (warm_up) THIMBLE_TRY(Run({.n_prompt = test.n_prompt, .n_gen = std::min(test.n_gen, 1u)}));
    for (uint32_t i = 0; i < reps; ++i) {
      THIMBLE_ASSIGN(const Sample sample, Run(test));
      measured.samples_ns.push_back(std::max<uint64_t>(sample.ns, 1));
      measured.counts = sample.counts;
      measured.draft = sample.draft;
    }
    return measured;
  }

 private:
  // The begin token and then numbers that are the same everywhere.
  std::vector<TokenId> Prompt(uint32_t n) const {
    const formats::ModelFile& model = loaded_->model();
    std::mt19937 random(kPromptSeed);
    std::vector<TokenId> ids(n);
    for (TokenId& id : ids) id = static_cast<TokenId>(random() % model.shape.vocab_size);
    if (model.tokenizer.bos != kNoToken) ids.front() = model.tokenizer.bos;
    return ids;
  }

  Expected<Sample> Run(const Test& test) {
    THIMBLE_ASSIGN(Session* const session, loaded_->OpenSession(*plan_));
    const std::vector<TokenId> prompt = Prompt(std::max(test.n_prompt, 1u));
    const CardCounts before = CardCounts::Of(loaded_->ledger());
    const DraftCounts drafts_before = loaded_->ledger().draft;
    const auto start = std::chrono::steady_clock::now();
    if (const auto prefilled = session->Prefill(prompt); !prefilled) return loaded_->Failure(prefilled.error());
    for (uint32_t i = 0; i < std::max(test.n_gen, 1u); ++i) {
      if (const auto next = session->Next(kGreedy); !next) return loaded_->Failure(next.error());
    }
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start);
    return Sample{.ns = static_cast<uint64_t>(ns.count()),
                  .counts = CardCounts::Of(loaded_->ledger()).Since(before),
                  .draft = loaded_->ledger().draft.Since(drafts_before)};
  }

  LoadedModel* loaded_;
  const plan::Plan* plan_;
};

// One row of the output.
struct Row {
  std::string model;
  ModelSize size;
  std::string board;
  std::string plan;
  uint32_t n_ctx = 0;
  Test test;
  CardCounts counts;  // of one repetition
  DraftCounts draft;  // likewise
  std::vector<uint64_t> samples_ns;
  std::vector<double> samples_ts;  // tokens a second

  double per_token(uint64_t count) const { return static_cast<double>(count) / test.tokens(); }
};

Row RowOf(const BenchArguments& arguments, const LoadedModel& loaded, const plan::Plan& plan, const Measured& m) {
  Row row = {.model = arguments.model.model,
             .size = SizeOf(loaded.model()),
             .board = loaded.board().name,
             .plan = plan::TileModeName(plan.options.tiles),
             .n_ctx = plan.n_ctx,
             .test = m.test,
             .counts = m.counts,
             .draft = m.draft,
             .samples_ns = m.samples_ns,
             .samples_ts = {}};
  for (const uint64_t ns : m.samples_ns) row.samples_ts.push_back(m.test.tokens() * 1e9 / static_cast<double>(ns));
  return row;
}

// Under llama-bench's names where it has them.
nlohmann::ordered_json RowJson(const Row& row) {
  const std::vector<double> ns(row.samples_ns.begin(), row.samples_ns.end());
  return {{"model_filename", row.model},
          {"model_size", row.size.bytes},
          {"model_n_params", row.size.parameters},
          {"board", row.board},
          {"plan", row.plan},
          {"n_ctx", row.n_ctx},
          {"kernels", math::BestKernels().name},
          {"measured_on", kMeasuredOn},
          {"test", row.test.name()},
          {"n_prompt", row.test.n_prompt},
          {"n_gen", row.test.n_gen},
          {"bytes_per_token", row.per_token(row.counts.card_bytes)},
          {"payload_bytes_per_token", row.per_token(row.counts.payload_bytes)},
          {"reads_per_token", row.per_token(row.counts.reads)},
          {"drafted", row.draft.drafted},
          {"accepted", row.draft.accepted},
          {"passes", row.draft.passes},
          {"avg_ns", MeanOf(ns)},
          {"stddev_ns", DeviationOf(ns)},
          {"avg_ts", MeanOf(row.samples_ts)},
          {"stddev_ts", DeviationOf(row.samples_ts)},
          {"samples_ns", row.samples_ns},
          {"samples_ts", row.samples_ts}};
}

void Print(const std::string& text) {
  WriteResult(text);
  FlushResult();
}

// Rows as they come. What is no table is begun and ended.
class Rows {
 public:
  virtual ~Rows() = default;
  virtual void Add(const Row& row) = 0;
  virtual void End() {}
};

class MarkdownRows final : public Rows {
 public:
  void Add(const Row& row) override {
    const auto cell = [](const std::string& text, size_t width, bool right) {
      return right ? fmt::format(" {:>{}} |", text, width) : fmt::format(" {:{}} |", text, width);
    };
    const std::vector<std::string> cells = {
        Escaped(row.model),
        fmt::format("{:.2f} MiB", static_cast<double>(row.size.bytes) / (1 << 20)),
        fmt::format("{:.2f} M", static_cast<double>(row.size.parameters) / 1e6),
        fmt::format("{}/{}", row.board, row.plan),
        row.test.name(),
        fmt::format("{:.2f} ± {:.2f}", MeanOf(row.samples_ts), DeviationOf(row.samples_ts)),
        fmt::format("{:.0f}", row.per_token(row.counts.card_bytes)),
        fmt::format("{:.2f}", row.per_token(row.counts.reads))};
    if (widths_.empty()) {
      std::string head = "|";
      std::string rule = "|";
      for (size_t i = 0; i < cells.size(); ++i) {
        widths_.push_back(std::max({cells[i].size(), std::string(kTitles[i]).size(), size_t{8}}));
        head += cell(kTitles[i], widths_[i], IsNumber(i));
        rule +=
            IsNumber(i) ? fmt::format(" {:->{}}: |", "", widths_[i] - 1) : fmt::format(" {:-<{}} |", "", widths_[i]);
      }
      Print(head + "\n" + rule + "\n");
    }
    std::string line = "|";
    for (size_t i = 0; i < cells.size(); ++i) line += cell(cells[i], widths_[i], IsNumber(i));
    Print(line + "\n");
    if (row.draft.drafted == 0) return;
    drafts_ += fmt::format("{}: {} of {} guesses came, {:.2f} tokens a pass over the weights.\n", row.test.name(),
                           row.draft.accepted, row.draft.drafted, TokensAPass(row.draft));
  }

  void End() override {
    Print(fmt::format("\nt/s: of {}. Bytes (whole blocks) and reads: as on the board.\n{}", kMeasuredOn, drafts_));
  }

 private:
  static constexpr const char* kTitles[] = {"model", "size",     "params",      "board/plan",
                                            "test",  "t/s ± sd", "bytes/token", "reads/token"};
  static bool IsNumber(size_t column) { return column == 1 || column == 2 || column > 4; }
  static std::string Escaped(const std::string& name) {
    std::string text;
    for (char c : Quote(name)) text += c == '|' ? "\\|" : std::string(1, c);
    return text;
  }

  std::vector<size_t> widths_;
  std::string drafts_;
};

// RFC 4180; lists, which a cell cannot hold, are left out.
class CsvRows final : public Rows {
 public:
  void Add(const Row& row) override {
    std::string head;
    std::string line;
    const nlohmann::ordered_json json = RowJson(row);
    for (const auto& [key, value] : json.items()) {
      if (value.is_array()) continue;
      head += (head.empty() ? "" : ",") + key;
      line += (line.empty() ? "" : ",") + (value.is_string() ? Quoted(value) : Dump(value));
    }
    if (!have_head_) Print(head + "\n");
    have_head_ = true;
    Print(line + "\n");
  }

 private:
  static std::string Quoted(const std::string& text) {
    std::string quoted = "\"";
    for (char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
    return quoted + "\"";
  }

  bool have_head_ = false;
};

class JsonRows final : public Rows {
 public:
  void Add(const Row& row) override { rows_.push_back(RowJson(row)); }
  void End() override { Print(Dump(rows_, 2) + "\n"); }

 private:
  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array();
};

std::unique_ptr<Rows> MakeRows(const std::string& form) {
  if (form == "csv") return std::make_unique<CsvRows>();
  if (form == "json") return std::make_unique<JsonRows>();
  return std::make_unique<MarkdownRows>();
}

// Prompts first. What was asked for must fit the context, the defaults are cut to it.
Expected<std::vector<Test>> TestsOf(const BenchArguments& arguments, uint32_t n_ctx) {
  const auto counts = [&](const std::vector<uint32_t>& asked, uint32_t otherwise) {
    return asked.empty() ? std::vector<uint32_t>{std::min(otherwise, n_ctx)} : asked;
  };
  std::vector<Test> tests;
  for (uint32_t n : counts(arguments.n_prompt, kDefaultPrompt)) tests.push_back({.n_prompt = n});
  for (uint32_t n : counts(arguments.n_gen, kDefaultGen)) tests.push_back({.n_gen = n});
  std::erase_if(tests, [](const Test& test) { return test.tokens() == 0; });
  if (tests.empty()) return Sentence("-p 0 and -n 0 leave nothing to measure: give one of them a number of tokens");
  for (const Test& test : tests) {
    if (test.tokens() <= n_ctx) continue;
    return Sentence(fmt::format("-{} {}: the context has {} positions: give fewer tokens, or a larger -c",
                                test.n_prompt != 0 ? 'p' : 'n', test.tokens(), n_ctx));
  }
  return tests;
}

Status RunBench(const BenchArguments& arguments) {
  ModelRequest model = arguments.model;
  THIMBLE_ASSIGN(const PlanStart start, ReadPlan(arguments.plan, model));
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(model));
  THIMBLE_ASSIGN(const plan::Plan plan, MakePlan(*loaded, start, kGreedy));
  NoteCache(plan);
  THIMBLE_ASSIGN(const std::vector<Test> tests, TestsOf(arguments, plan.n_ctx));
  Bench bench(*loaded, plan);
  const std::unique_ptr<Rows> rows = MakeRows(arguments.format);
  for (const Test& test : tests) {
    THIMBLE_ASSIGN(const Measured measured, bench.Measure(test, arguments.reps, !arguments.no_warmup));
    rows->Add(RowOf(arguments, *loaded, plan, measured));
  }
  rows->End();
  return {};
}

}  // namespace

void AddBenchCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<BenchArguments>();
  CLI::App* command = app.add_subcommand("bench", "Measure the speed on this computer, and count what a token reads");
  AddModelOptions(*command, arguments->model);
  const auto add_counts = [&](const char* name, std::vector<uint32_t>& counts, const char* what, uint32_t otherwise) {
    command->add_option(name, counts, what)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->take_all()
        ->default_str(std::to_string(otherwise))
        ->check(CLI::Range(uint32_t{0}, kMaxTokens));
  };
  add_counts("-p,--n-prompt", arguments->n_prompt, "tokens of the prompts, or a list: 16,256; 0: no prompt",
             kDefaultPrompt);
  add_counts("-n,--n-gen", arguments->n_gen, "tokens of the texts, or a list: 32,128; 0: no text", kDefaultGen);
  command->add_option("-r,--repetitions", arguments->reps, "How often each is measured, each time in a fresh session")
      ->capture_default_str()
      ->check(CLI::Range(uint32_t{1}, kMaxReps));
  command->add_flag("--no-warmup", arguments->no_warmup, "Measure from the first time on");
  command->add_option("--format", arguments->format, "md: a table; csv; json: all figures and each repetition's")
      ->transform(Choice({"md", "csv", "json"}))
      ->capture_default_str();
  AddPlanOptions(*command, arguments->plan, /*models_guess=*/true);
  command->footer(
      "ppN: a prompt of N tokens up to the first new one; tgN: a text of N tokens, the likeliest each time.\n"
      "\n"
      "Examples:\n"
      "  thimble bench -m tiny-llm.gguf\n"
      "  thimble bench -m card.img -p 16,256 -n 64 -r 10\n"
      "  thimble bench -m tiny-llm.gguf --plan original --format json > original.json");
  command->callback([arguments, &exit_code] {
    const Status result = RunBench(*arguments);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
