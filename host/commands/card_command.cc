// thimble card: a model onto a card, as an image of one or into a card that is mounted.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "engine/storage/swap_file.h"
#include "host/cards/card_folder.h"
#include "host/cards/card_image.h"
#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

struct CardCommandOptions {
  CardOptions image;
  std::string to;
};

std::string Pieces(size_t n) { return fmt::format("in {} piece{}", n, n == 1 ? "" : "s"); }

// What went with the model: of a CardImage or a CardFolderCopy.
void WriteOthers(const auto& card) {
  if (card.index_bytes != 0) WriteResult(fmt::format("with its index, {}\n", Megabytes(card.index_bytes)));
  for (const std::string& name : card.others) WriteResult(fmt::format("with {}\n", Visible(name)));
  for (const std::string& note : card.notes) ReportNote(note);
}

Status WriteImage(const CardOptions& options) {
  THIMBLE_ASSIGN(const CardImage card, WriteCardImage(options));
  WriteResult(fmt::format("{}: {}, FAT32 {}, {} of {} {}\n", Visible(options.out), Megabytes(card.layout.image_bytes),
                          options.superfloppy ? "without a partition table" : "in one partition",
                          Visible(card.name_on_card), Megabytes(card.model_bytes), Pieces(card.pieces)));
  WriteOthers(card);
  return {};
}

Status CopyToFolder(const CardCommandOptions& options) {
  THIMBLE_ASSIGN(const CardFolderCopy copy,
                 CopyToCardFolder({.contents = options.image.contents, .folder = options.to}));
  WriteResult(fmt::format("{}: {}, written and read back{}\n", Visible(copy.path), Megabytes(copy.model_bytes),
                          copy.pieces ? ", " + Pieces(*copy.pieces) : ""));
  WriteOthers(copy);
  return {};
}

}  // namespace

void AddCardCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<CardCommandOptions>();
  CLI::App* command =
      app.add_subcommand("card", "Put a model on a card: as the image of a FAT32 card, or onto a card that is mounted");
  AddModelOption(*command, options->image.contents.model, "A GGUF file, or anything 'thimble convert' reads");
  CLI::Option_group* where = command->add_option_group("Where");
  where->add_option("-o,--output", options->image.out, "The image to write; replaced if it is there")
      ->type_name("card.img");
  CLI::Option* to = where->add_option("--to", options->to, "The folder that a card is mounted at")->type_name("DIR");
  where->require_option(1);
  command
      ->add_option("--name", options->image.contents.name_on_card, "The model's name on the card, instead of its own")
      ->type_name("NAME.gguf");
  command
      ->add_option("--plan", options->image.contents.plan,
                   "The plan file that goes with it, instead of MODEL.plan beside the model")
      ->type_name("FILE");
  command
      ->add_option("--autorun", options->image.contents.autorun,
                   "What the board runs when it starts, instead of autorun.txt beside the model")
      ->type_name("FILE");
  command
      ->add_option(
          "--swap", options->image.contents.swap_bytes,
          "Bytes, as in 64M, of a swap file: where a board's memory has no room for a whole context, it writes "
          "keys and values of earlier positions there, and nowhere else; the text is the same")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(uint64_t{8192}, storage::kMostSwapBytes))
      ->type_name("SIZE");
  command->add_option("--tokenizer", options->image.contents.tokenizer, "As for convert")->type_name("FILE");
  command->add_flag("--superfloppy", options->image.superfloppy, "An image without a partition table")->excludes(to);
  command->footer(
      "With the model go the files beside it that a board looks for: its index, MODEL.thimble; its plan file,\n"
      "MODEL.plan; and autorun.txt, unless that names another model. Onto a mounted card all of them go as one: "
      "written\n"
      "under other names and read back, before the first takes the place of an old one.\n"
      "\n"
      "Examples:\n"
      "  thimble card tiny-llm.gguf -o card.img\n"
      "  thimble card tiny-llm.gguf --plan best.plan --to /media/$USER/CARD\n"
      "  thimble card smollm2-135m.gguf --swap 64M -o card.img");
  command->callback([options, &exit_code] {
    const Status done = options->to.empty() ? WriteImage(options->image) : CopyToFolder(*options);
    exit_code = done ? 0 : ReportFailure(done.error());
  });
}

}  // namespace thimble::host
