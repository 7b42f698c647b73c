#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "host/command.h"
#include "host/convert.h"

namespace thimble::host {

void AddConvertCommand(CLI::App& app, int& exit_code) {
  struct Options : ConvertOptions {
    std::string type = "f32";
    std::string to = "gguf";
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "convert", "Write a model as one GGUF file, or as a tensor folder, every number exactly as it was stored");
  command->add_option("SRC", options->source, "Hugging Face folder, GGUF file, card with one, or llama2.c .bin file")
      ->required();
  command->add_option("-o,--output", options->out, "The file or folder to write; replaced if it is there")
      ->required()
      ->type_name("OUT");
  command
      ->add_option("--to", options->to,
                   "gguf: one file; folder: one float32 file for each tensor, named as esp32_float32_weights/ has them")
      ->check(CLI::IsMember({"gguf", "folder"}))
      ->capture_default_str();
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "SentencePiece's tokenizer.model, Hugging Face's tokenizer.json or llama2.c's tokenizer.bin, "
                   "instead of the one that the model brings")
      ->type_name("FILE");
  command
      ->add_option("--dtype", options->type,
                   "keep: matrices as they are stored, F32, F16 or BF16; f32: all expanded to float32")
      ->check(CLI::IsMember({"keep", "f32"}))
      ->capture_default_str();
  command->footer(
      "Examples:\n"
      "  thimble convert Tiny-LLM -o tiny-llm.gguf\n"
      "  thimble convert stories15M.bin --tokenizer tokenizer.bin -o stories15M.gguf\n"
      "  thimble convert somebody-elses.gguf -o aligned.gguf --dtype keep\n"
      "  thimble convert Tiny-LLM --to folder -o esp32_float32_weights");
  command->callback([options, &exit_code] {
    options->dtype = options->type == "keep" ? WrittenType::kKeep : WrittenType::kF32;
    options->to_folder = options->to == "folder";
    if (options->to_folder && options->type == "keep") {
      exit_code = ReportFailure("--dtype keep: a tensor folder is float32; leave it out, or write a GGUF file.");
      return;
    }
    const auto notes = Convert(*options);
    if (!notes) {
      exit_code = ReportFailure(notes.error());
      return;
    }
    for (const std::string& note : *notes) ReportNote(note);
  });
}

}  // namespace thimble::host
