#include "host/model_choice.h"

#include <CLI/CLI.hpp>

namespace thimble::host {

void AddModelOptions(CLI::App& command, ModelArgument argument, ModelChoice& choice) {
  command
      .add_option(argument == ModelArgument::kFlag ? "-m,--model" : "model", choice.model,
                  "A GGUF file, a tensor folder, a card's image, or anything 'thimble convert' reads (converted on "
                  "the fly)")
      ->required();
  command
      .add_option("--board", choice.board,
                  "The board it is for: a name (see 'thimble boards'), a board file, or a terminal's text with a "
                  "board's report")
      ->default_str(kDefaultBoard);
  command.add_option("--tokenizer", choice.tokenizer, "The tokenizer, where a model to be converted lacks one");
  command.add_option("--card-file", choice.file_on_card, "Which GGUF or tensor folder of a card with several");
}

}  // namespace thimble::host
