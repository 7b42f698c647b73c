#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "host/command.h"
#include "host/convert.h"

namespace thimble::host {

void AddConvertCommand(CLI::App& app, int& exit_code) {
  struct Options {
    std::string source, out, tokenizer;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "convert", "Write a model as one GGUF file, every number exactly as it was stored, expanded to float32");
  command->add_option("SRC", options->source, "Hugging Face folder, or a llama2.c .bin file")->required();
  command->add_option("-o,--output", options->out, "The file to write; replaced if it is there")
      ->required()
      ->type_name("OUT.gguf");
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "llama2.c's tokenizer.bin, or SentencePiece's tokenizer.model, instead of the one beside the model")
      ->type_name("FILE");
  command->callback([options, &exit_code] {
    const auto notes = Convert(options->source, options->tokenizer, options->out);
    if (!notes) {
      exit_code = ReportFailure(notes.error());
      return;
    }
    for (const std::string& note : *notes) ReportNote(note);
  });
}

}  // namespace thimble::host
