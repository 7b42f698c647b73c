#include "host/commands/model_options.h"

#include <CLI/CLI.hpp>

namespace thimble::host {

void AddModelOptions(CLI::App& command, ModelArgument argument, ModelRequest& request) {
  command
      .add_option(argument == ModelArgument::kFlag ? "-m,--model" : "model", request.model,
                  "A GGUF file, a tensor folder, a card's image, or anything 'thimble convert' reads (converted on "
                  "the fly)")
      ->required();
  command
      .add_option("--board", request.board,
                  "The board it is for: a name (see 'thimble boards'), a board file, or a terminal's text with a "
                  "board's report")
      ->default_str(kDefaultBoard);
  command.add_option("--tokenizer", request.tokenizer, "The tokenizer, where a model to be converted lacks one");
  command.add_option("--card-file", request.file_on_card, "Which GGUF or tensor folder of a card with several");
}

}  // namespace thimble::host
