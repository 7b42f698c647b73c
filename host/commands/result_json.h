// Results as the JSON that several commands print. Nothing reads it back.
#ifndef THIMBLE_HOST_COMMANDS_RESULT_JSON_H_
#define THIMBLE_HOST_COMMANDS_RESULT_JSON_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "host/boards/board_profile.h"
#include "host/models/run_request.h"
#include "host/studies/improvements.h"
#include "host/studies/quality.h"
#include "host/studies/simulator.h"

namespace thimble::host {

// What `run --json` prints but for the times.
nlohmann::ordered_json ToJson(const RunResult& result);

// By region.
nlohmann::ordered_json ToJson(const std::array<RunResult::Memory, kNumRegions>& memory);

// Null without a screen.
nlohmann::ordered_json ToJson(const std::optional<RunResult::Screen>& screen);

// {"low": ..., "typical": ..., "high": ...}
nlohmann::ordered_json ToJson(const Range& range);

// The object "modelled" that `simulate --json` and `plan --optimize --json` print.
nlohmann::ordered_json ToJson(const SampledRun& run, const SimulationSetup& setup);

// The array "modelled_ladder" of `simulate --json` and `plan --ladder --json`.
nlohmann::ordered_json ToJson(const std::vector<Improvement>& improvements);

// Under the names that `perplexity --json` has: tokens, ppl, ppl_error and, with a base, base_ppl, kld_mean, kld_p99,
// top_match, rms_dp.
nlohmann::ordered_json ToJson(const Quality& quality);

// One line, or several with an indent; always JSON and always UTF-8 (RFC 8259), whatever names and texts are: bytes
// that are not UTF-8 become U+FFFD, and what a terminal would obey is escaped (host/support/visible_text.h). Every JSON
// text that a command prints is made here.
std::string Dump(const nlohmann::ordered_json& json, int indent = -1);

// The same, and a newline, to stdout.
void PrintJson(const nlohmann::ordered_json& json, int indent = -1);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_RESULT_JSON_H_
