// What a board would need for what this computer does.
#ifndef THIMBLE_HOST_COMMANDS_BOARD_TIME_H_
#define THIMBLE_HOST_COMMANDS_BOARD_TIME_H_

#include <atomic>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "host/models/loaded_model.h"
#include "host/studies/corner_clocks.h"
#include "host/support/errors.h"

namespace thimble::host {

class BoardTime {
 public:
  // Listens to what `loaded` does from now on, and must outlive that. Null where nobody knows what work costs on its
  // board, or how long a server takes that guesses; with `paced` that is a sentence, and OnToken() waits until the
  // board is as far, or for an interrupt.
  static Expected<std::unique_ptr<BoardTime>> Begin(LoadedModel& loaded, bool paced,
                                                    const std::atomic<bool>& interrupted);

  // A token was chosen.
  void OnToken();

  double waited_ms() const { return waited_ms_; }
  // A line, "modelled  on esp32-cam 5.5 s ..."; empty before the first token.
  std::string Text() const;
  // "16 s (15 to 21), 7.29 tokens/s (5.42 to 7.84)"; empty before the first token.
  std::string Brief() const;
  // {"first_token_s", "text_s", "tok_per_s"}; null before the first token.
  nlohmann::ordered_json Json() const;

 private:
  BoardTime(std::string board, const CornerConstants& constants, bool paced, const std::atomic<bool>& interrupted)
      : board_(std::move(board)), clocks_(constants), paced_(paced), interrupted_(&interrupted) {}

  std::string board_;
  CornerClocks clocks_;
  bool paced_;
  const std::atomic<bool>* interrupted_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();  // when the board began, too
  double waited_ms_ = 0;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_BOARD_TIME_H_
