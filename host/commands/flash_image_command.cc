// thimble flash-image: what a board would write into its flash, as a file for esptool.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <string>

#include "engine/session.h"
#include "engine/storage/flash_writer.h"
#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/commands/plan_options.h"
#include "host/commands/sampler_options.h"
#include "host/devices/nor_flash.h"
#include "host/models/loaded_model.h"
#include "host/support/atomic_file.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

// Where the firmware's partition tables (firmware/partitions*.csv) have the one for weights.
constexpr uint32_t kWeightsOffset = 0x13f000;

struct FlashImageArguments {
  ModelRequest model;
  PlanRequest plan;
  SamplerArguments sampler;
  std::string output;
};

Status Run(const FlashImageArguments& arguments) {
  ModelRequest model = arguments.model;
  THIMBLE_ASSIGN(const PlanStart start, ReadPlan(arguments.plan, model));
  THIMBLE_ASSIGN(const head::SamplerOptions sampler, ResolveSampler(arguments.sampler));
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(model));
  if (loaded->is_converted()) {
    return Sentence(
        fmt::format("{} is not what a card would hold: convert it first, with 'thimble convert', and give "
                    "this command what goes onto the card",
                    model.model));
  }
  THIMBLE_ASSIGN(const plan::Plan plan, MakePlan(*loaded, start, sampler));
  const uint64_t content_bytes = plan.region_bytes(Region::kFlash);
  if (content_bytes == 0) {
    return Sentence(fmt::format(
        "this plan keeps nothing of {} in flash: give one that does with --plan; 'thimble plan {} --optimize "
        "-o best.plan' finds the best",
        model.model, model.model));
  }
  NorFlash flash(static_cast<size_t>(storage::FlashBytes(content_bytes)));
  THIMBLE_ASSIGN(const Arenas arenas, loaded->ArenasFor(plan));
  ArenaOf(arenas, Region::kFlash) = Arena(Region::kFlash, storage::FlashArenaMemory(flash));
  SessionParts parts = loaded->PartsFor(plan);
  parts.flash = &flash;
  const auto session = Session::Open(parts, arenas);
  if (!session) return loaded->Failure(session.error());

  const std::array<std::string, 2> inputs = {model.model, arguments.plan.file};
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(arguments.output, inputs));
  THIMBLE_TRY(file.sink().Write(flash.memory()));
  THIMBLE_TRY(file.Commit());
  WriteResult(
      fmt::format("{}: {} bytes for the partition 'weights' of {}\nwrite it with\n"
                  "  esptool write-flash {:#x} {}\n",
                  Visible(arguments.output), Grouped(flash.memory().size()), loaded->board().name, kWeightsOffset,
                  Visible(arguments.output)));
  return {};
}

}  // namespace

void AddFlashImageCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<FlashImageArguments>();
  CLI::App* command = app.add_subcommand(
      "flash-image", "Write what a board would keep of a model in its flash into a file, for esptool");
  AddModelOptions(*command, ModelArgument::kPositional, arguments->model);
  AddPlanOptions(*command, arguments->plan);
  AddSamplerOptions(*command, arguments->sampler);
  command->add_option("-o,--output", arguments->output, "The file to write")->required()->type_name("FILE");
  command->footer(
      "The board writes the same bytes itself when it first opens the model; this is faster. Give the model, the "
      "index\n"
      "beside it, the plan and the sampler's options as the board has them. It compares all of it with its card, and\n"
      "writes again what differs.\n"
      "\n"
      "Example:\n"
      "  thimble flash-image tiny-llm.gguf --board esp32-cam --plan best.plan -o weights.bin");
  command->callback([arguments, &exit_code] {
    const Status result = Run(*arguments);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
