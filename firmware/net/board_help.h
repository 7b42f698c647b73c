// Help from a server on the board (service/offload.h): the console's texts are made by the server that the board was
// told of and, where that is slow or gone, by the model on the card.
#ifndef THIMBLE_FIRMWARE_NET_BOARD_HELP_H_
#define THIMBLE_FIRMWARE_NET_BOARD_HELP_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/tensor.h"
#include "firmware/app/machine.h"
#include "firmware/app/server_help.h"
#include "service/offload.h"
#include "service/transport.h"

namespace thimble::firmware {

// A text is sent as the ids that it has here, its beginning left out where it has no room in the session's context, and
// no more tokens are asked for than have. Ctrl-C ends an answer, whoever makes it. Of the heap it keeps the text's ids,
// a context of them at most, and its last stretch; while a text is made, more (kBoardHelpLimits).
class BoardHelp final : public ServerHelp {
 public:
  // Both outlive this.
  BoardHelp(Machine& machine, service::Transport& transport) : machine_(&machine), transport_(&transport) {}

  void Load() override;
  bool is_on() const override { return options_.has_value(); }
  void Tell() override;
  bool Choose(std::string_view url, std::string_view mode) override;
  bool Set(std::string_view name, std::string_view value) override;
  void Forget() override;
  void Begin() override {
    ids_.clear();
    stretch_.clear();
  }
  Result<std::optional<GenerateResult>> Continue(Session& session, std::string_view typed,
                                                 const head::SamplerOptions& sampler, int64_t n_predict,
                                                 TextSink& sink) override;

 private:
  bool Take(const service::HelpOptions& changed, const service::Answer<void>& change);
  void Say(std::string_view what, std::string_view sentence);
  Result<std::vector<TokenId>> Ids(const text::Tokenizer& tokenizer, std::string_view begun) const;
  void Keep(std::string_view answer);

  Machine* machine_;
  service::Transport* transport_;
  std::optional<service::HelpOptions> options_;
  std::vector<TokenId> ids_;  // of the text before the last line that was typed
  std::string stretch_;       // that line and what was made behind it
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_NET_BOARD_HELP_H_
