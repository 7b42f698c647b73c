#include "host/commands/result_json.h"

#include <fmt/format.h>

#include "engine/plan/plan_file.h"
#include "host/support/messages.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

using Json = nlohmann::ordered_json;

// 0.8, not 0.800000012.
double Shortest(float value) { return Json::parse(fmt::format("{}", value)).get<double>(); }

Json SamplerJson(const head::SamplerOptions& o) {
  return {{"repeat_penalty", Shortest(o.repeat_penalty)},
          {"repeat_last_n", o.repeat_last_n},
          {"top_k", o.top_k},
          {"top_p", Shortest(o.top_p)},
          {"min_p", Shortest(o.min_p)},
          {"temp", Shortest(o.temperature)},
          {"seed", o.seed}};
}

}  // namespace

Json ToJson(const std::array<RunResult::Memory, kNumRegions>& memory) {
  Json json;
  for (size_t i = 0; i < kNumRegions; ++i) {
    json[RegionName(static_cast<Region>(i))] = {{"peak_bytes", memory[i].peak_bytes},
                                                {"capacity_bytes", memory[i].capacity_bytes}};
  }
  return json;
}

Json ToJson(const std::optional<RunResult::Screen>& screen) {
  if (!screen) return nullptr;
  const ScreenCounts& counts = screen->counts;
  const double certain = static_cast<double>(counts.tokens - counts.fallbacks);
  return {{"row_bytes", screen->size.first_bytes},
          {"second_bits", screen->size.second_bits},
          {"tokens", counts.tokens},
          {"survivors_mean", certain > 0 ? static_cast<double>(counts.survivors) / certain : 0.0},
          {"survivors_max", counts.survivors_most},
          {"swept_again", counts.swept_again},
          {"refined", counts.refined},
          {"rows_fetched", counts.rows_fetched},
          {"fallbacks", counts.fallbacks}};
}

Json ToJson(const RunResult& r) {
  Json json = {{"model", r.model},
               {"board", r.board},
               {"n_ctx", r.n_ctx},
               {"sampler", SamplerJson(r.sampler)},
               {"prompt_ids", r.prompt_ids},
               {"ids", r.ids},
               {"text", r.text},
               {"stop", StopReasonName(r.stop)},
               {"memory", ToJson(r.memory)},
               {"plan", plan::TileModeName(r.tiles)},
               {"card",
                {{"bytes", r.card.card_bytes},
                 {"payload_bytes", r.card.payload_bytes},
                 {"reads", r.card.reads},
                 {"bounced_blocks", r.card.bounced_blocks},
                 {"retries", r.retries},
                 {"psram_bytes", r.card.memory_bytes[static_cast<size_t>(Region::kPsram)]},
                 {"flash_bytes", r.card.memory_bytes[static_cast<size_t>(Region::kFlash)]}}},
               {"head", r.screen ? "screen" : "full"},
               {"screen", ToJson(r.screen)},
               {"draft",
                {{"mode", r.draft_mode},
                 {"drafted", r.draft.drafted},
                 {"accepted", r.draft.accepted},
                 {"passes", r.draft.passes}}},
               {"swap", {{"pages", r.swap.pages}, {"writes", r.swap.writes}, {"written_bytes", r.swap.written_bytes}}}};
  if (!r.drafter) return json;
  Json memory;
  for (size_t i = 0; i < kNumRegions; ++i) memory[RegionName(static_cast<Region>(i))] = r.drafter->peak_bytes[i];
  json["draft"]["by"] = r.drafter->description;
  json["draft"]["card_bytes"] = r.drafter->card_bytes;
  json["draft"]["memory"] = std::move(memory);
  json["draft"]["why_stopped"] = r.drafter->fault.empty() ? Json() : Json(r.drafter->fault);
  return json;
}

Json ToJson(const Range& range) {
  Json json;
  for (size_t i = 0; i < kCorners.size(); ++i) json[CornerName(kCorners[i])] = range[i];
  return json;
}

Json ToJson(const SampledRun& run, const SimulationSetup& setup) {
  const Simulated& s = run.simulated;
  const std::vector<Stage> stages = StagesOf(s);
  const Stage& token = stages.back();
  const auto share = [&](double ms) { return token.ms > 0 ? ms / token.ms : 0.0; };
  Json busy;
  for (size_t i = 0; i < kNumLanes; ++i) busy[LaneName(static_cast<Lane>(i))] = share(token.busy_ms[i]);
  Json zones;
  for (const Stage& stage : stages) {
    if (&stage == &token) continue;
    Json json = {{"ms", stage.ms}, {"waited_ms", stage.waited_ms}, {"stalled_ms", stage.stalled_ms}};
    for (size_t lane = 0; lane < kNumLanes; ++lane) {
      json[fmt::format("{}_ms", LaneName(static_cast<Lane>(lane)))] = stage.busy_ms[lane];
    }
    json["card_bytes"] = stage.card_bytes;
    json["reads"] = stage.reads;
    json["psram_bytes"] = stage.psram_bytes;
    json["flash_bytes"] = stage.flash_bytes;
    zones[stage.name] = json;
  }
  return {{"sampler", run.sampler},
          {"constants", setup.profile().is_simulated()    ? "simulated constants"
                        : setup.profile().is_calibrated() ? "measured constants"
                                                          : "published constants"},
          {"card_mode", setup.card_mode},
          {"tok_per_s", ToJson(s.tok_per_s)},
          {"first_token_s", ToJson(s.first_token_s)},
          {"busy", busy},
          {"waited", share(token.waited_ms)},
          {"stalled", share(token.stalled_ms)},
          {"a_token_by_zone", zones}};
}

Json ToJson(const std::vector<Improvement>& improvements) {
  Json json = Json::array();
  for (const Improvement& improvement : improvements) {
    if (!improvement.refused.empty()) {
      json.push_back({{"what", improvement.what}, {"refused", improvement.refused}});
      continue;
    }
    json.push_back({{"what", improvement.what},
                    {"tok_per_s", ToJson(improvement.simulated.tok_per_s)},
                    {"ms_of_token", improvement.simulated.ms_of_token()}});
  }
  return json;
}

Json ToJson(const Quality& quality) {
  Json json = {{"tokens", quality.tokens}, {"ppl", quality.ppl}, {"ppl_error", quality.ppl_error}};
  if (!quality.divergence) return json;
  const Divergence& d = *quality.divergence;
  json.update({{"base_ppl", d.base_ppl},
               {"kld_mean", d.kld_mean},
               {"kld_p99", d.kld_p99},
               {"top_match", d.top_match},
               {"rms_dp", d.rms_dp}});
  return json;
}

std::string Dump(const Json& json, int indent) {
  return VisibleJson(json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace));
}

void PrintJson(const Json& json, int indent) { WriteResult(Dump(json, indent) + "\n"); }

}  // namespace thimble::host
