// Which server helps, as the board keeps it beside its network.
#ifndef THIMBLE_FIRMWARE_NET_HELP_SETTINGS_H_
#define THIMBLE_FIRMWARE_NET_HELP_SETTINGS_H_

#include <string_view>

#include "engine/base/error.h"
#include "firmware/app/machine.h"
#include "service/model.h"
#include "service/offload.h"

namespace thimble::firmware {

// What a board takes of an answer, so that memory is bounded: a text that fills a context of a thousand tokens and
// more, and what llama-server says of one at its end.
inline constexpr service::HelpLimits kBoardHelpLimits = {
    .answer_bytes = 8 * 1024, .stream_bytes = 4 * 1024 * 1024, .event_bytes = 16 * 1024};

// The options that are kept; kNotFound: no server was told. What is kept and is none is kNotFound, too.
Result<service::HelpOptions> LoadHelp(Machine& machine);

// Changes one of "url", "mode", "model", "wait" (seconds, 1 to 600) and "key" as it was typed; a model or a key that is
// empty is none, and another URL forgets them. A sentence for what is no value, with nothing changed.
service::Answer<void> ChangeHelp(service::HelpOptions& options, std::string_view name, std::string_view value);

// Keeps them. Fails as the machine.
Result<void> SaveHelp(Machine& machine, const service::HelpOptions& options);
Result<void> ForgetHelp(Machine& machine);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_NET_HELP_SETTINGS_H_
