#include "host/models/run_request.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "host/support/messages.h"

namespace thimble::host {

void NoteSpecialText(const chat::SpecialTokens& special, std::string_view text) {
  const std::string_view name = special.FirstIn(text);
  if (name.empty()) return;
  ReportNote(fmt::format(
      "the prompt spells the special token {}, which is read as text; --special reads it as the token", Quote(name)));
}

Expected<Prompt> ReadPrompt(const RunRequest& request, LoadedModel& loaded, Session& session) {
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&request.prompt)) return Prompt{.text = "", .ids = *ids};
  Prompt prompt = {.text = std::get<std::string>(request.prompt), .ids = {}};
  THIMBLE_ASSIGN(const chat::SpecialTokens special, loaded.ReadSpecialTokens());
  if (request.special) {
    THIMBLE_ASSIGN(const LoadedTokenizer tokenizer, loaded.LoadTokenizer());
    auto ids =
        special.Encode(tokenizer.plain(), prompt.text, tokenizer.get().add_bos() ? tokenizer.get().bos() : kNoToken);
    if (!ids) return loaded.Failure(ids.error());
    prompt.ids = std::move(*ids);
    return prompt;
  }
  NoteSpecialText(special, prompt.text);
  const auto ids = session.Tokenize(prompt.text);
  if (!ids) {
    if (const std::string why = loaded.no_texts(); !why.empty()) {
      return Sentence(fmt::format("{}; give the prompt as ids with --ids 1,2,3", why));
    }
    return Sentence(
        fmt::format("{}{}", SentenceOf(ids.error()), session.tokenizer().size() != 0 ? "" : " with --ids 1,2,3"));
  }
  prompt.ids.assign(ids->begin(), ids->end());
  return prompt;
}

double TokensAPass(const DraftCounts& counts) {
  return counts.passes == 0 ? 0.0
                            : static_cast<double>(counts.passes + counts.accepted) / static_cast<double>(counts.passes);
}

const char* DraftModeOf(const LoadedModel& loaded, const plan::Plan& plan) {
  const bool is_given = plan.options.draft == plan::DraftMode::kGiven && loaded.drafts() != nullptr;
  return is_given ? loaded.drafts()->kind() : plan::DraftModeName(plan.options.draft);
}

RunResult ResultOf(LoadedModel& loaded, const plan::Plan& plan, const RunRequest& request,
                   std::vector<TokenId> prompt_ids, std::vector<TokenId> ids, std::string text, StopReason stop) {
  RunResult result = {.model = loaded.description(),
                      .board = loaded.board().name,
                      .n_ctx = plan.n_ctx,
                      .sampler = request.sampler,
                      .prompt = "",
                      .prompt_ids = std::move(prompt_ids),
                      .ids = std::move(ids),
                      .text = std::move(text),
                      .stop = stop,
                      .tiles = plan.options.tiles,
                      .card = loaded.ledger().total(),
                      .retries = loaded.ledger().retries,
                      .draft_mode = DraftModeOf(loaded, plan),
                      .draft = loaded.ledger().draft,
                      .swap = loaded.ledger().swap};
  if (const auto* prompt = std::get_if<std::string>(&request.prompt)) result.prompt = *prompt;
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    result.memory[i] = {.peak_bytes = loaded.peak_bytes(region), .capacity_bytes = loaded.board().capacity(region)};
  }
  if (plan.options.draft == plan::DraftMode::kGiven && loaded.drafts() != nullptr) {
    const DraftSource& drafts = *loaded.drafts();
    result.drafter = {.description = drafts.description(),
                      .card_bytes = loaded.ledger().zones[static_cast<size_t>(Zone::kDraft)].card_bytes,
                      .fault = drafts.fault()};
    for (size_t i = 0; i < kNumRegions; ++i) {
      result.drafter->peak_bytes[i] = drafts.peak_bytes(static_cast<Region>(i));
    }
  }
  if (!plan.screened) return result;
  result.screen.emplace();
  result.screen->counts = loaded.ledger().screen;
  const formats::ScreenInfo& screen = loaded.index()->screen;
  result.screen->size = {screen.record_bytes[0], screen.second_bits};
  return result;
}

}  // namespace thimble::host
