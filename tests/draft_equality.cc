// Usage: draft_equality [--tokens N] [--quick] [--models FOLDER]
//
// Texts with drafts against the same texts without, whoever guesses: models write in every way that a sampler can
// choose, until a limit or a stop text, and each text is written again with drafts that are right, wrong, neither, and
// no tokens at all, and with those of a smaller model, or of the model itself where there is no smaller one. Prints how
// many tokens a pass over the weights came to. Exits with 1 if anything differs: an id, a byte of text, the reason to
// stop, or what is left in the context.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate.h"
#include "engine/session.h"
#include "host/models/convert.h"
#include "host/models/draft_model.h"
#include "host/models/loaded_model.h"
#include "host/models/prepare.h"
#include "host/models/run_request.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "tests/support/checkpoints.h"
#include "tests/support/drafters.h"
#include "tests/support/sampler_modes.h"

namespace thimble::tests {
namespace {

using host::Expected;
using host::Status;

constexpr uint32_t kTextTokens = 100;  // of a text at most; then another one begins

struct Written {
  std::vector<TokenId> ids;
  std::string text;
  StopReason reason = StopReason::kLimit;
  std::vector<TokenId> past;  // what was run
  friend bool operator==(const Written&, const Written&) = default;
};

class Sink final : public TextSink {
 public:
  explicit Sink(Written& written) : written_(&written) {}
  void OnToken(TokenId id) override { written_->ids.push_back(id); }
  void OnText(std::string_view piece) override { written_->text += piece; }

 private:
  Written* written_;
};

struct Drafting {
  const char* name;
  plan::DraftMode mode;
  Guesses guesses = Guesses::kNothing;
  bool is_model = false;
};
constexpr Drafting kDraftings[] = {{"right", plan::DraftMode::kGiven, Guesses::kRight},
                                   {"wrong", plan::DraftMode::kGiven, Guesses::kWrong},
                                   {"at times", plan::DraftMode::kGiven, Guesses::kAtTimes},
                                   {"random", plan::DraftMode::kGiven, Guesses::kRandom},
                                   {"no tokens", plan::DraftMode::kGiven, Guesses::kNoIds},
                                   {"too many", plan::DraftMode::kGiven, Guesses::kTooMany},
                                   {"right, but late", plan::DraftMode::kGiven, Guesses::kRightLate},
                                   {"lookup", plan::DraftMode::kLookup},
                                   {"ngram", plan::DraftMode::kNgram},
                                   {"a model", plan::DraftMode::kGiven, Guesses::kNothing, true}};

struct Tally {
  uint64_t tokens = 0, texts = 0, differences = 0;
  DraftCounts counts;
};
using Tallies = std::map<std::string, Tally>;  // by Drafting::name

class Author {
 public:
  static Expected<Author> Open(const std::string& path, const std::string& drafter) {
    host::ModelRequest request;
    request.model = path;
    THIMBLE_ASSIGN(auto loaded, host::LoadedModel::Open(request));
    THIMBLE_ASSIGN(auto model, host::DraftModel::Open(drafter, *loaded));
    host::DraftModel& drafts = *model;
    loaded->set_drafts(std::move(model));
    return Author(std::move(loaded), drafts);
  }

  struct Asked {
    head::SamplerOptions sampler;
    std::vector<TokenId> prompt;
    int64_t tokens = 0;
    std::string stop;  // empty: none
  };

  // `all`: what the text will be, the prompt included, for those who are told.
  Expected<Written> Write(const Asked& asked, const Drafting& drafting, uint32_t draft_max,
                          std::span<const TokenId> all, DraftCounts& counts) {
    const auto n_ctx = static_cast<uint32_t>(asked.prompt.size()) + kTextTokens;
    const plan::PlanOptions options = {.n_ctx = n_ctx, .draft = drafting.mode, .draft_max = draft_max};
    const uint32_t block_bytes = loaded_->reader().block_bytes();
    std::optional<Board> board = loaded_->board();
    if (drafting.is_model) {
      THIMBLE_ASSIGN(board, drafts_->PlanBeside(*loaded_, block_bytes, options, asked.sampler));
    }
    const auto plan =
        PlanSession(model(), board.value_or(loaded_->board()), block_bytes, options, asked.sampler, loaded_->index());
    if (!plan) return loaded_->Failure(plan.error());
    TestDrafter drafter(drafting.guesses, all, model().shape.vocab_size);
    THIMBLE_ASSIGN(Session* const session, loaded_->OpenSession(*plan, drafting.is_model ? nullptr : &drafter));
    if (const auto begun = session->Prefill(asked.prompt); !begun) return loaded_->Failure(begun.error());
    Written written;
    Sink sink(written);
    const std::string_view stop = asked.stop;
    const DraftCounts before = loaded_->ledger().draft;
    const auto result = Generate(
        *session,
        {.sampler = asked.sampler, .n_predict = asked.tokens, .stops = {&stop, stop.empty() ? size_t{0} : size_t{1}}},
        sink);
    if (!result) return loaded_->Failure(result.error());
    const DraftCounts& after = loaded_->ledger().draft;
    counts = {.passes = after.passes - before.passes,
              .drafted = after.drafted - before.drafted,
              .accepted = after.accepted - before.accepted};
    written.reason = result->reason;
    written.past.assign(session->past().begin(), session->past().end());
    return written;
  }

  const formats::ModelFile& model() const { return loaded_->model(); }
  bool has_table() const {
    return loaded_->index() != nullptr && loaded_->index()->section(formats::Section::kDrafts).bytes != 0;
  }

 private:
  Author(std::unique_ptr<host::LoadedModel> loaded, host::DraftModel& drafts)
      : loaded_(std::move(loaded)), drafts_(&drafts) {}

  std::unique_ptr<host::LoadedModel> loaded_;
  host::DraftModel* drafts_;  // of loaded_
};

// One text, without drafts and with all kinds of them.
Status CompareText(Author& author, Author::Asked asked, uint32_t seed, Tallies& tallies) {
  DraftCounts none;
  THIMBLE_ASSIGN(Written want, author.Write(asked, {"none", plan::DraftMode::kNone}, 0, {}, none));
  if (seed % 2 == 0 && want.text.size() > 12) {  // it ends somewhere, in the middle of a token maybe
    asked.stop = want.text.substr(want.text.size() * 2 / 3, 4);
    THIMBLE_ASSIGN(want, author.Write(asked, {"none", plan::DraftMode::kNone}, 0, {}, none));
  }
  std::vector<TokenId> all = asked.prompt;
  all.insert(all.end(), want.ids.begin(), want.ids.end());
  for (const Drafting& drafting : kDraftings) {
    if (drafting.mode == plan::DraftMode::kNgram && !author.has_table()) continue;
    const uint32_t draft_max = 1 + (seed + static_cast<uint32_t>(&drafting - kDraftings)) % 7;
    Tally& tally = tallies[drafting.name];
    DraftCounts counts;
    THIMBLE_ASSIGN(const Written have, author.Write(asked, drafting, draft_max, all, counts));
    tally.tokens += have.ids.size();
    ++tally.texts;
    tally.differences += have != want;
    tally.counts.passes += counts.passes;
    tally.counts.drafted += counts.drafted;
    tally.counts.accepted += counts.accepted;
  }
  return {};
}

// `drafter`: the path of the model that guesses.
Expected<Tallies> CompareModel(const std::string& path, const std::string& drafter, uint64_t tokens) {
  THIMBLE_ASSIGN(Author author, Author::Open(path, drafter));
  Tallies tallies;
  std::mt19937 random(1);
  uint32_t seed = 0;
  for (const SamplerMode& mode : SamplerModes()) {
    for (uint64_t done = 0; done < tokens; done += kTextTokens) {
      Author::Asked asked = {.sampler = mode.sampler,
                             .prompt = {1, static_cast<TokenId>(random() % author.model().shape.vocab_size)},
                             .tokens = static_cast<int64_t>(std::min<uint64_t>(kTextTokens, tokens - done)),
                             .stop = {}};
      asked.sampler.seed = ++seed;
      THIMBLE_TRY(CompareText(author, asked, seed, tallies));
    }
  }
  return tallies;
}

Expected<uint64_t> Run(uint64_t tokens, uint32_t draft_tokens, const std::string& models) {
  const TemporaryFolder folder;
  const std::string bundled = THIMBLE_ROOT "/model/thimble-stories";
  struct Subject {
    std::string name, source, tokenizer;
    std::string drafter = {};  // empty: the model itself
    host::Quant quant = host::Quant::kNone;
    bool is_screened = true;
  };
  const std::string student = folder / "student.gguf";
  THIMBLE_TRY(host::Convert({.source = bundled + "-flash", .out = student}));
  std::vector<Subject> subjects = {{"bundled", bundled, "", student},
                                   {"bundled in Q8_0, scanned", bundled, "", student, host::Quant::kAll, false}};
  if (models.empty()) {
    fmt::print(stderr, "stories260K is left out: THIMBLE_REAL_MODELS or --models names no folder\n");
  } else {
    const std::string small = models + "/stories260K/";
    subjects.push_back({"stories260K", small + "stories260K.bin", small + "tok512.bin"});
  }
  uint64_t compared = 0;
  uint64_t differences = 0;
  fmt::print("| model | guesses | texts | tokens | texts that differ | guessed | came | tokens a pass |\n");
  fmt::print("|---|---|---|---|---|---|---|---|\n");
  for (size_t i = 0; i < subjects.size(); ++i) {
    const Subject& subject = subjects[i];
    const std::string path = folder / fmt::format("{}.gguf", i);
    THIMBLE_TRY(host::Convert(
        {.source = subject.source, .out = path, .tokenizer = subject.tokenizer, .types = {.quant = subject.quant}}));
    if (subject.is_screened)
      THIMBLE_TRY(host::Prepare({.model = path, .screen = {36, 4}, .draft_tokens = draft_tokens}));
    THIMBLE_ASSIGN(const Tallies tallies, CompareModel(path, subject.drafter.empty() ? path : subject.drafter, tokens));
    for (const auto& [name, t] : tallies) {
      fmt::print("| {} | {} | {} | {} | {} | {} | {} | {:.2f} |\n", subject.name, name, t.texts,
                 host::Grouped(t.tokens), t.differences, host::Grouped(t.counts.drafted),
                 host::Grouped(t.counts.accepted), host::TokensAPass(t.counts));
      compared += t.tokens;
      differences += t.differences;
    }
  }
  fmt::print(stderr, "{} tokens compared, {} texts differ\n", host::Grouped(compared), differences);
  return differences;
}

int Main(int argc, char** argv) {
  CLI::App app("Compares texts with drafts with the same texts without");
  uint64_t tokens = 300;
  const char* const folder = std::getenv("THIMBLE_REAL_MODELS");
  std::string models = folder == nullptr ? "" : folder;
  bool quick = false;
  app.add_option("--tokens", tokens, "Of each of 27 ways to choose (9 modes, 3 penalties), of each model and drafter")
      ->capture_default_str();
  app.add_option("--models", models, "A folder with stories260K (default: $THIMBLE_REAL_MODELS)");
  app.add_flag("--quick", quick, "16 tokens of each");
  CLI11_PARSE(app, argc, argv);

  const Expected<uint64_t> differences = quick ? Run(16, 500, models) : Run(tokens, 60'000, models);
  if (!differences) {
    host::WriteMessage("draft_equality", differences.error());
    return 1;
  }
  return *differences == 0 ? 0 : 1;
}

}  // namespace
}  // namespace thimble::tests

int main(int argc, char** argv) { return thimble::tests::Main(argc, argv); }
