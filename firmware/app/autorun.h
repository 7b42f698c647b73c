// The automatic run: a prompt that is continued when the board starts, and what came of it in lines that another
// computer can compare.
//
// Every line begins with "autorun "; the format is in docs/firmware.md of this product.
#ifndef THIMBLE_FIRMWARE_APP_AUTORUN_H_
#define THIMBLE_FIRMWARE_APP_AUTORUN_H_

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "firmware/app/card_model.h"
#include "firmware/app/machine.h"
#include "firmware/app/run_settings.h"

namespace thimble::firmware {

struct AutorunOptions {
  std::string_view model;   // empty: the first on the card; a part of the text it was parsed from
  std::string_view prompt;  // the same
  RunSettings run = {.start = {}, .n = 16};
};

// `key = value` lines: `model`, `prompt` and the names of AllRunSettings(). kCorrupt, the line in {have}: what is no
// such line, or a value that is none.
Result<AutorunOptions> ParseAutorun(std::string_view text);

// Opens the model, continues the prompt and writes the lines. The last is "autorun PASS" or "autorun FAIL: "
// with what was wrong. Returns whether it passed. With head = full the sums are of all logits of each token, else of
// the hidden states.
bool Autorun(CardModel& model, Machine& machine, const AutorunOptions& options);

// Autorun() of the card's file (formats::kAutorunFile), or of `preset`, if it is not empty, whose lines may also be
// separated by ';'. False, and nothing is written, when there is neither, also where the card cannot be read; otherwise
// `passed` says how it went.
bool AutorunIfAsked(CardModel& model, Machine& machine, std::string_view preset, bool& passed);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_AUTORUN_H_
