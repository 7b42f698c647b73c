// thimble tokenize: a text as the model sees it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/text/tokenizer.h"
#include "host/command.h"
#include "host/input_file.h"
#include "host/loaded_model.h"

namespace thimble::host {
namespace {

struct Options {
  ModelChoice choice;
  std::string prompt;
  std::string prompt_file;
  bool ids_only = false;
  bool no_bos = false;
  bool from_stdin = false;
  bool json = false;
};

constexpr uint64_t kMaxTextBytes = 64 << 20;

Expected<std::string> ReadText(const Options& options) {
  if (options.from_stdin) return std::string(std::istreambuf_iterator<char>(std::cin), {});
  if (!options.prompt_file.empty()) return ReadWholeFile(options.prompt_file, kMaxTextBytes);
  return options.prompt;
}

Status Tokenize(const Options& options) {
  THIMBLE_ASSIGN(const std::string text, ReadText(options));
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(options.choice));
  const card::TokenizerRef& ref = loaded->model().tokenizer;
  if (!ref.present) return Sentence(fmt::format("{} has no tokenizer", options.choice.model));

  // Outside any plan: a text of any length, in this computer's memory.
  std::vector<std::byte> table(text::Tokenizer::TableBytes(ref) + 2 * kArenaAlign);
  const size_t skip = -reinterpret_cast<uintptr_t>(table.data()) % kArenaAlign;
  Arena arena(Region::kPsram, std::span(table).subspan(skip));
  std::vector<std::byte> buffer(1 << 16);
  card::ByteReader bytes(loaded->reader(), buffer);
  const auto tokenizer = text::Tokenizer::Load(ref, bytes, arena);
  if (!tokenizer) return loaded->Failure(tokenizer.error());
  std::vector<std::byte> work(text::Tokenizer::WorkspaceBytes(text.size()));
  std::vector<TokenId> ids(3 * text.size() + 8);
  const auto count = tokenizer->Encode(text, tokenizer->add_bos() && !options.no_bos, ids, work);
  if (!count) return loaded->Failure(count.error());
  ids.resize(*count);

  if (options.json) {
    nlohmann::ordered_json pieces = nlohmann::ordered_json::array();
    for (TokenId id : ids) pieces.push_back(std::string(tokenizer->Piece(id)));
    const nlohmann::ordered_json json = {{"ids", ids}, {"pieces", pieces}};
    std::puts(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else if (options.ids_only) {
    std::puts(nlohmann::json(ids).dump().c_str());
  } else {
    for (TokenId id : ids) {
      const nlohmann::json piece = std::string(tokenizer->Piece(id));
      std::puts(
          fmt::format("{:>6} -> {}", id, piece.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)).c_str());
    }
  }
  return {};
}

}  // namespace

void AddTokenizeCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* tokenize = app.add_subcommand("tokenize", "Show the tokens of a text");
  AddModelOptions(*tokenize, ModelArgument::kFlag, options->choice);
  auto* prompt = tokenize->add_option("-p,--prompt", options->prompt, "The text");
  auto* file = tokenize->add_option("-f,--file", options->prompt_file, "Read the text from this file, all of it")
                   ->excludes(prompt);
  tokenize->add_flag("--stdin", options->from_stdin, "Read the text from standard input")
      ->excludes(prompt)
      ->excludes(file);
  tokenize->add_flag("--ids", options->ids_only, "Only the ids: [1, 2, 3]");
  tokenize->add_flag("--no-bos", options->no_bos, "Without the begin token");
  tokenize->add_flag("--json", options->json, "One JSON object: ids and pieces");
  tokenize->footer(
      "Examples:\n"
      "  thimble tokenize -m stories.gguf -p \"Once upon a time\"\n"
      "  thimble tokenize -m card.img -f prompt.txt --ids");
  tokenize->callback([options, &exit_code] {
    const Status result = Tokenize(*options);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
