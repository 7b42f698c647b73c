#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "host/card_image.h"
#include "host/command.h"

namespace thimble::host {

void AddCardCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<CardOptions>();
  CLI::App* command =
      app.add_subcommand("card", "Write the image of a FAT32 card with a model on it, to run or to copy to a card");
  command->add_option("MODEL", options->model, "GGUF file, or whatever convert reads")->required();
  command->add_option("-o,--output", options->out, "The image to write; replaced if it is there")
      ->required()
      ->type_name("card.img");
  command->add_option("--name", options->name_on_card, "The model's name on the card, instead of its own")
      ->type_name("NAME.gguf");
  command->add_option("--tokenizer", options->tokenizer, "As for convert")->type_name("FILE");
  command->add_flag("--superfloppy", options->superfloppy, "Without a partition table");
  command->callback([options, &exit_code] {
    const auto card = WriteCardImage(*options);
    if (!card) {
      exit_code = ReportFailure(card.error());
      return;
    }
    fmt::print("{}: {:.1f} MB, FAT32 {}, {} of {:.1f} MB in {} piece{}\n", options->out,
               static_cast<double>(card->layout.image_bytes) / 1e6,
               options->superfloppy ? "without a partition table" : "in one partition", card->name_on_card,
               static_cast<double>(card->model_bytes) / 1e6, card->pieces, card->pieces == 1 ? "" : "s");
  });
}

}  // namespace thimble::host
