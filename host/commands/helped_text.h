// thimble run --server: a text that a server makes, or the model here.
#ifndef THIMBLE_HOST_COMMANDS_HELPED_TEXT_H_
#define THIMBLE_HOST_COMMANDS_HELPED_TEXT_H_

#include <atomic>

#include "engine/plan/plan.h"
#include "engine/session.h"
#include "host/commands/run_report.h"
#include "host/commands/server_help.h"
#include "host/models/loaded_model.h"
#include "host/models/run_request.h"
#include "host/support/errors.h"

namespace thimble::host {

// Continues the request's prompt, a text, and shows all that `thimble run` shows, and who made it: the exit code. The
// beginning of a prompt that has no room in the context is left out, with a note. Where the session goes on with a
// server's text, it makes the text that it would make of the prompt and that text together. With `json`, one object.
Expected<int> MakeHelpedText(const RunRequest& request, bool json, Detail detail, LoadedModel& loaded,
                             const plan::Plan& plan, Session& session, ServerHelp& help,
                             const std::atomic<bool>& interrupted);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_HELPED_TEXT_H_
