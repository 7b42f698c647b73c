#include "host/commands/run_report.h"

#include <fmt/format.h>

#include "host/commands/sampler_options.h"
#include "host/models/plan_request.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

double PerSecond(uint64_t n, double ms) { return ms > 0 ? static_cast<double>(n) * 1000.0 / ms : 0.0; }

std::string DescribeModel(const formats::ModelFile& model, const Board& board) {
  const ModelSize size = SizeOf(model);
  const uint64_t float32_bytes = size.parameters * sizeof(float);
  const ModelShape& s = model.shape;
  std::string text = fmt::format("{} {}, hidden size {}, vocabulary {}; {} parameters, {} in float32",
                                 s.num_hidden_layers, s.num_hidden_layers == 1 ? "layer" : "layers", s.hidden_size,
                                 Grouped(s.vocab_size), Grouped(size.parameters), Megabytes(float32_bytes));
  const uint64_t psram = board.capacity(Region::kPsram);
  if (psram != 0 && float32_bytes > psram) {
    text += fmt::format(" ({:.1f} x the PSRAM)", static_cast<double>(float32_bytes) / static_cast<double>(psram));
  }
  if (size.bytes != float32_bytes) text += fmt::format(", {} as stored", Megabytes(size.bytes));
  return text;
}

// "115 tokens, at the model's end of text; esp32-cam, modelled: 16 s, 7.29 tokens/s; seed 1; -v tells more"
std::string Line(const LoadedModel& loaded, const head::SamplerOptions& sampler, const Timings& t,
                 const std::string& stop, const BoardTime* board) {
  std::string line = fmt::format("\n{} {}", t.predicted_n, t.predicted_n == 1 ? "token" : "tokens");
  if (!stop.empty()) line += ", " + stop;
  if (board != nullptr && !board->Brief().empty()) {
    line += fmt::format("; {}, modelled: {}", loaded.board().name, board->Brief());
  } else {
    line += fmt::format("; {:.0f} tokens/s on this computer", PerSecond(t.predicted_n, t.predicted_ms));
  }
  if (sampler.temperature != 0.0f) line += fmt::format("; seed {}", sampler.seed);
  return line + "; -v tells more\n";
}

}  // namespace

void Output::OnToken(TokenId id) {
  if (board_ != nullptr) board_->OnToken();
  if (show_ids_) Write(fmt::format("{}{}", ids_.empty() ? "" : " ", id));
  ids_.push_back(id);
}

void Output::OnText(std::string_view text) {
  text_ += text;
  if (show_text_) Write(text);
}

void Output::Write(std::string_view text) {
  WriteResult(text);
  FlushResult();
}

double MillisecondsSince(std::chrono::steady_clock::time_point begun) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count();
}

nlohmann::ordered_json TimingsJson(const Timings& t) {
  return {{"prompt_n", t.prompt_n},
          {"prompt_ms", t.prompt_ms},
          {"predicted_n", t.predicted_n},
          {"predicted_ms", t.predicted_ms}};
}

void PrintHeader(Detail detail, LoadedModel& loaded, const Session& session, const head::SamplerOptions& sampler) {
  if (detail != Detail::kAll) return;
  const model::CacheTypes& cache = session.plan().options.cache;
  WriteAside(fmt::format(
      "model     {}\n          {}\nboard     {}: {}\ncontext   {} of the model's {} positions{}\nsampler   {}\n\n",
      Visible(loaded.description()), DescribeModel(loaded.model(), loaded.board()), loaded.board().name,
      Visible(loaded.board().description), session.n_ctx(), loaded.model().shape.max_position_embeddings,
      cache.is_exact() ? "" : "; " + CacheText(cache), SamplerText(sampler)));
}

void PrintSummary(Detail detail, LoadedModel& loaded, const plan::Plan& plan, const head::SamplerOptions& sampler,
                  const Timings& t, const std::string& stop, const BoardTime* board) {
  if (detail == Detail::kQuiet) return;
  if (detail == Detail::kLine) return WriteAside(Line(loaded, sampler, t, stop, board));
  const Ledger& ledger = loaded.ledger();
  std::string out = stop.empty() ? "\n" : fmt::format("\nstopped   {}\n", stop);
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    const uint64_t capacity_bytes = loaded.board().capacity(region);
    if (capacity_bytes == 0) continue;
    out += fmt::format("{:9} {:9} {:>11} of {:>14} bytes at peak\n", i == 0 ? "memory" : "", RegionName(region),
                       Grouped(loaded.peak_bytes(region)), Grouped(capacity_bytes));
  }
  const ZoneCounts total = ledger.total();
  out += fmt::format("card      {} in {} reads, {} retries; a new token reads {} in {}\n", Megabytes(total.card_bytes),
                     Grouped(total.reads), ledger.retries, Megabytes(plan.token_cost.card_bytes),
                     Grouped(plan.token_cost.reads));
  if (total.bounced_blocks != 0) {
    out += fmt::format("          the reads became {} of one block each, because their buffers are in PSRAM\n",
                       Grouped(total.bounced_blocks));
  }
  if (plan.screened) {
    const ScreenCounts& screen = ledger.screen;
    out += fmt::format("screen    {} tokens from {} rows of the LM head, {} by a scan of all rows\n", screen.tokens,
                       Grouped(screen.rows_fetched), screen.fallbacks);
  }
  if (plan.swaps()) {
    out +=
        fmt::format("swap      {} positions in memory; {} written in {} pages of {} positions\n", Grouped(plan.window),
                    Megabytes(ledger.swap.written_bytes), Grouped(ledger.swap.pages), plan.swap.page_positions);
  }
  if (plan.draft_max != 0) {
    const DraftCounts& draft = ledger.draft;
    out += fmt::format(
        "drafts    {} guessed, {} of them came; {:.2f} tokens a pass over the weights, {} of the card a token\n",
        Grouped(draft.drafted), Grouped(draft.accepted), TokensAPass(draft),
        Megabytes(t.predicted_bytes / std::max<uint64_t>(t.predicted_n, 1)));
  }
  if (plan.options.draft == plan::DraftMode::kGiven && loaded.drafts() != nullptr) {
    const DraftSource& drafts = *loaded.drafts();
    out += fmt::format("          by {}", Visible(drafts.description()));
    std::string memory;
    for (size_t i = 0; i < kNumRegions; ++i) {
      const auto region = static_cast<Region>(i);
      if (drafts.peak_bytes(region) == 0) continue;
      memory += fmt::format(", {} of {}", Grouped(drafts.peak_bytes(region)), RegionName(region));
    }
    if (!memory.empty()) {
      out += fmt::format(": {} of what was read of the card{}, both counted above",
                         Megabytes(ledger.zones[static_cast<size_t>(Zone::kDraft)].card_bytes), memory);
    }
    out += "\n";
  }
  out += fmt::format("prompt    {:>4} tokens, {:.1f} tokens/s on this computer, not on a board\n", t.prompt_n,
                     PerSecond(t.prompt_n, t.prompt_ms));
  out += fmt::format("text      {:>4} tokens, {:.1f} tokens/s on this computer, not on a board\n", t.predicted_n,
                     PerSecond(t.predicted_n, t.predicted_ms));
  if (board != nullptr) out += board->Text();
  WriteAside(out);
}

void NoteDrafts(const LoadedModel& loaded) {
  if (loaded.drafts() == nullptr) return;
  if (const std::string fault = loaded.drafts()->fault(); !fault.empty()) ReportNote(fault);
}

std::string StopText(StopReason reason, const Session& session, const RunRequest& request) {
  switch (reason) {
    case StopReason::kEndOfSequence:
      return "at the model's end of text";
    case StopReason::kLimit:
      return fmt::format("after {} tokens (-n)", request.n_predict);
    case StopReason::kStopText:
      return "at a stop text";
    case StopReason::kContextFull:
      return fmt::format("with the context of {} positions full (-c)", session.n_ctx());
    case StopReason::kCancelled:
      return "at your interrupt";
  }
  return "";
}

}  // namespace thimble::host
