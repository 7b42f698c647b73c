#include "host/commands/model_options.h"

#include <CLI/CLI.hpp>

#include "host/commands/help.h"

namespace thimble::host {

void AddModelOption(CLI::App& command, std::string& model, const std::string& description) {
  command.add_option("-m,--model,MODEL", model, description + "; -m may be left out")->type_name("MODEL")->required();
}

void AddModelOptions(CLI::App& command, ModelRequest& request) {
  const OptionGroup group(command, "Model and board");
  AddModelOption(command, request.model,
                 "A GGUF file, a tensor folder, a card's image, or anything 'thimble convert' reads (converted on the "
                 "fly)");
  command
      .add_option("--board", request.board,
                  "The board it is for: a name (see 'thimble boards'), a board file, or a terminal's text with a "
                  "board's report")
      ->type_name("BOARD")
      ->default_str(kDefaultBoard);
  command.add_option("--tokenizer", request.tokenizer, "The tokenizer, where a model to be converted lacks one")
      ->type_name("FILE");
  command.add_option("--card-file", request.file_on_card, "Which GGUF or tensor folder of a card with several")
      ->type_name("NAME");
}

}  // namespace thimble::host
