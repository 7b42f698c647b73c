// thimble flash-image: what a board would write into its flash, or a whole model for it, as a file for esptool.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <string>

#include "engine/session.h"
#include "engine/storage/flash_writer.h"
#include "host/boards/board_profile.h"
#include "host/cards/flash_volume.h"
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

// Where the firmware's partition tables (firmware/partitions.csv, partitions_8mb.csv) have those for weights and for a
// model.
constexpr uint32_t kWeightsOffset = 0x13f000;
constexpr uint32_t kModelOffset = 0xb8000;

struct FlashImageArguments {
  ModelRequest model;
  PlanRequest plan;
  SamplerArguments sampler;
  std::string output;
  bool whole = false;
  CardContents contents;
};

void SayHowToWrite(const FlashImageArguments& arguments, uint64_t bytes, const char* partition, const char* board,
                   uint32_t offset) {
  WriteResult(fmt::format("{}: {} bytes for the partition '{}' of {}\nwrite it with\n  esptool write-flash {:#x} {}\n",
                          Visible(arguments.output), Grouped(bytes), partition, board, offset,
                          Visible(arguments.output)));
}

Status WriteWholeModel(const FlashImageArguments& arguments) {
  THIMBLE_ASSIGN(const FoundBoard found, FindBoard(arguments.model.board_or_default()));
  const uint64_t room_bytes = found.board.model_partition_bytes;
  if (room_bytes == 0) {
    return Sentence(fmt::format("the board {} has no room in its flash for a model beside its application: take a card",
                                found.board.name));
  }
  CardContents contents = arguments.contents;
  contents.model = arguments.model.model;
  contents.tokenizer = arguments.model.tokenizer;
  contents.plan = arguments.plan.file;
  THIMBLE_ASSIGN(const FlashVolume volume, WriteFlashVolume(contents, arguments.output, room_bytes));
  SayHowToWrite(arguments, volume.image_bytes, "model", found.board.name, kModelOffset);
  for (const std::string& name : volume.others) WriteResult(fmt::format("with {}\n", Visible(name)));
  for (const std::string& note : volume.notes) ReportNote(note);
  return {};
}

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
  SayHowToWrite(arguments, flash.memory().size(), "weights", loaded->board().name, kWeightsOffset);
  return {};
}

}  // namespace

void AddFlashImageCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<FlashImageArguments>();
  CLI::App* command = app.add_subcommand(
      "flash-image", "Write what a board keeps of a model in its flash, or all of it, as a file for esptool");
  AddModelOptions(*command, arguments->model);
  AddPlanOptions(*command, arguments->plan);
  AddSamplerOptions(*command, arguments->sampler);
  command->add_option("-o,--output", arguments->output, "The file to write")->required()->type_name("FILE");
  command->add_flag("--whole", arguments->whole,
                    "All of the model, for the board's partition 'model': it then needs no card");
  command->add_option("--name", arguments->contents.name_on_card, "With --whole: the model's name, instead of its own")
      ->type_name("NAME.gguf");
  command->add_option("--autorun", arguments->contents.autorun, "With --whole: what the board runs when it starts")
      ->type_name("FILE");
  command->footer(
      "The board writes the same bytes itself when it first opens the model; this is faster. Give the model, the "
      "index\n"
      "beside it, the plan and the sampler's options as the board has them. It compares all of it with its card, and\n"
      "writes again what differs.\n"
      "With --whole the file is a small FAT32 volume, with the files beside the model that go onto a card, too.\n"
      "\n"
      "Examples:\n"
      "  thimble flash-image student.gguf --whole -o model.img\n"
      "  thimble flash-image tiny-llm.gguf --board esp32-cam --plan best.plan -o weights.bin");
  command->callback([arguments, &exit_code] {
    const Status result = arguments->whole ? WriteWholeModel(*arguments) : Run(*arguments);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
