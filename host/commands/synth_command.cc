#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "host/commands/command.h"
#include "host/formats/gguf_writer.h"
#include "host/support/atomic_file.h"
#include "host/support/file_system.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"
#include "host/synth/synth.h"

namespace thimble::host {
namespace {

struct SynthCommandOptions {
  std::string preset, out, shape, head = "plain";
  uint64_t seed = 1;
};

Expected<Checkpoint> Write(const SynthCommandOptions& options) {
  THIMBLE_ASSIGN(const SynthPreset preset, SynthShape(options.preset, options.shape));
  THIMBLE_ASSIGN(const SynthHead head, SynthHeadNamed(options.head, preset));
  Checkpoint checkpoint = MakeSynth(preset, options.seed, head);
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(options.out, {}));
  THIMBLE_TRY(WriteGguf(checkpoint, {.dtype = WrittenType::kKeep}, "synth", file.sink()));
  THIMBLE_TRY(file.Commit());
  return checkpoint;
}

}  // namespace

void AddSynthCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<SynthCommandOptions>();
  std::string presets;
  for (const SynthPreset& preset : SynthPresets()) presets += fmt::format("\n{}: {}", preset.name, preset.description);
  CLI::App* command = app.add_subcommand(
      "synth", "Write a made-up model of a given shape: noise for text, a real model's sizes and work");
  command->add_option("PRESET", options->preset, "The shape to start from:" + presets)->required();
  command->add_option("-o,--output", options->out, "The file to write; replaced if it is there")
      ->required()
      ->type_name("OUT.gguf");
  command->add_option("-s,--seed", options->seed, "The same seed gives the same file on every computer")
      ->capture_default_str();
  command
      ->add_option("--shape", options->shape,
                   "Changes to the preset, named as in config.json: vocab_size=512,hidden_size=64,head_dim=16, ...")
      ->type_name("KEY=N,...");
  command
      ->add_option("--head", options->head,
                   "plain: independent random numbers, float32. story, web: best logits lie as close together as those "
                   "of a trained model that is sure of itself (story) or less sure (web), and matrices are F16")
      ->type_name("plain|story|web")
      ->capture_default_str();
  command->footer(
      "Examples:\n"
      "  thimble synth tiny-llm -o synth.gguf\n"
      "  thimble synth tiny-llm --head web --seed 7 -o web.gguf\n"
      "  thimble synth stories15m --shape tie_word_embeddings=false --head story -o story.gguf");
  command->callback([options, &exit_code] {
    const auto checkpoint = Write(*options);
    if (!checkpoint) {
      exit_code = ReportFailure(checkpoint.error());
      return;
    }
    for (const std::string& note : checkpoint->notes) ReportNote(note);
    WriteResult(fmt::format("{}: {}\n", Visible(options->out), Megabytes(FileBytesOf(options->out))));
  });
}

}  // namespace thimble::host
