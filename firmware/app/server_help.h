// Help from a server as the console has it: firmware/net, where the firmware is built with a network.
#ifndef THIMBLE_FIRMWARE_APP_SERVER_HELP_H_
#define THIMBLE_FIRMWARE_APP_SERVER_HELP_H_

#include <optional>
#include <string_view>

#include "engine/base/error.h"
#include "engine/generate.h"
#include "engine/session.h"

namespace thimble::firmware {

// Of the console's task. What it prints, it prints on the machine's terminal; never a key.
class ServerHelp {
 public:
  // Reads what the board keeps: at the start, and after all was forgotten.
  virtual void Load() = 0;
  // Whether a server is asked for texts.
  virtual bool is_on() const = 0;
  // Says which server is asked, and how.
  virtual void Tell() = 0;
  // Asks this server from now on, and keeps that; another one than before has no model and no key. An empty `mode`: as
  // it was, or "remote-else-local". False: one is none, which is said, and nothing is changed.
  virtual bool Choose(std::string_view url, std::string_view mode) = 0;
  // The same for one of "model", "wait" (seconds) and "key".
  virtual bool Set(std::string_view name, std::string_view value) = 0;
  // No server is asked any more.
  virtual void Forget() = 0;

  // Begins another text.
  virtual void Begin() = 0;
  // Goes on with the text, behind `typed`: shows `sink` what the server makes and, where that is slow or gone and the
  // mode allows it, what `session` makes then; and says who made it. What the session made; none: nothing. Fails as the
  // session does; what a server is to blame for is said here.
  virtual Result<std::optional<GenerateResult>> Continue(Session& session, std::string_view typed,
                                                         const head::SamplerOptions& sampler, int64_t n_predict,
                                                         TextSink& sink) = 0;

 protected:
  ~ServerHelp() = default;  // never deleted through this interface
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_SERVER_HELP_H_
