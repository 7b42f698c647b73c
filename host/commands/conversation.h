// thimble run --conversation: messages from standard input, answers to standard output.
#ifndef THIMBLE_HOST_COMMANDS_CONVERSATION_H_
#define THIMBLE_HOST_COMMANDS_CONVERSATION_H_

#include <atomic>
#include <string>

#include "engine/plan/plan.h"
#include "engine/session.h"
#include "host/commands/run_report.h"
#include "host/commands/server_help.h"
#include "host/models/loaded_model.h"
#include "host/models/run_request.h"
#include "host/support/errors.h"

namespace thimble::host {

struct ConversationRequest {
  RunRequest run;             // its prompt, a text, is the first message, unless it is empty
  std::string system_prompt;  // empty: none
  std::string chat_template;  // a kind's name; empty: the model's own
  bool json = false;          // an object for each answer, on a line of its own, instead of its text
  Detail detail = Detail::kLine;
  bool paced = false;          // text comes as fast as the board would make it
  ServerHelp* help = nullptr;  // who is asked first; null: nobody. Then the oldest messages without room are forgotten
};

// Talks until the person leaves, or standard input ends: the exit code. SIGINT, which sets `interrupted`, ends an
// answer; where a message is waited for it ends the conversation. A message that finds no room in the context, or is
// out of turn, is refused with a sentence, and the conversation goes on; the exit code says so in the end.
Expected<int> Converse(const ConversationRequest& request, LoadedModel& loaded, const plan::Plan& plan,
                       Session& session, std::atomic<bool>& interrupted);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_CONVERSATION_H_
