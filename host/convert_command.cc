#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "host/command.h"

namespace thimble::host {

void AddConvertCommand(CLI::App& app, int& exit_code) {
  struct Options {
    std::string source, out, tokenizer;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert", "Write a model as one GGUF file");
  command->add_option("SRC", options->source, "Hugging Face folder, or a llama2.c .bin file")->required();
  command->add_option("-o,--output", options->out, "The file to write")->required()->type_name("OUT.gguf");
  command->add_option("--tokenizer", options->tokenizer, "llama2.c's tokenizer.bin, or tokenizer.model")
      ->type_name("FILE");
  command->callback([options, &exit_code] { exit_code = ReportFailure("convert is not there yet."); });
}

}  // namespace thimble::host
