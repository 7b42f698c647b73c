// thimble boards: the boards there are, and what everything costs on one of them.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "host/boards/board_log.h"
#include "host/boards/board_memory.h"
#include "host/boards/board_profile.h"
#include "host/boards/published.h"
#include "host/commands/command.h"
#include "host/commands/result_json.h"
#include "host/support/input_file.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMaxLogBytes = 64 << 20;

struct BoardsCommandOptions {
  std::string board;
  bool json = false;
  bool published = false;
  std::string log;
};

std::string ListText() {
  std::string out;
  for (const std::string& name : BoardNames()) {
    const Board board = *FindMemory(name);
    out += fmt::format("{:15} {}\n", name, board.description);
  }
  return out + "\n'thimble boards NAME' shows a board's memory and what its clock is made of.\n";
}

// [{"name": ..., "description": ...}, ...]
nlohmann::ordered_json ListJson() {
  auto list = nlohmann::ordered_json::array();
  for (const std::string& name : BoardNames()) {
    list.push_back({{"name", name}, {"description", FindMemory(name)->description}});
  }
  return list;
}

std::string BoardText(const FoundBoard& chosen) {
  const Board& board = chosen.board;
  std::string out = fmt::format("{}: {}\n\n{:10} {:>14}\n", board.name, Visible(board.description), "memory", "bytes");
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    if (board.capacity(region) != 0) {
      out += fmt::format("{:10} {:>14}\n", RegionName(region), Grouped(board.capacity(region)));
    }
  }
  if (!chosen.profile) return out + "\nNobody knows what work costs here: this board has no clock.\n";
  const BoardProfile& profile = *chosen.profile;
  out += fmt::format(
      "\n{} core{} of {} MHz, {} bytes of cache each in lines of {}; the card is used as {}\n\n"
      "{:30} {:>9} {:>9} {:>9} {:7} {:10}  {}\n",
      profile.cores, profile.cores == 1 ? "" : "s", profile.cpu_mhz, Grouped(profile.cache_bytes), profile.line_bytes,
      Visible(profile.card_mode), "cost", "low", "typical", "high", "unit", "known by", "source");
  for (const auto& [key, cost] : profile.costs) {
    out += fmt::format("{:30} {:>9} {:>9} {:>9} {:7} {:10}  {}\n", Visible(key), cost.low, cost.typical, cost.high,
                       UnitOf(key), ConfidenceName(cost.confidence), Visible(cost.source));
  }
  return out;
}

Status Run(const BoardsCommandOptions& options) {
  if (options.published) {
    THIMBLE_ASSIGN(const std::vector<Published> all, PredictPublished());
    WriteResult(PublishedText(all));
    return {};
  }
  if (options.board.empty() && options.log.empty()) {
    if (options.json) {
      PrintJson(ListJson(), 2);
      return {};
    }
    WriteResult(ListText());
    return {};
  }
  if (!options.log.empty()) {
    THIMBLE_ASSIGN(const std::string text, ReadGiven(options.log, kMaxLogBytes));
    THIMBLE_ASSIGN(const BoardProfile profile, BoardFromLog(text, NameOfGiven(options.log)));
    PrintJson(ToJson(profile), 2);
    return {};
  }
  THIMBLE_ASSIGN(const FoundBoard chosen, FindBoard(options.board));
  if (!options.json) {
    WriteResult(BoardText(chosen));
    return {};
  }
  if (!chosen.profile) return Sentence(fmt::format("the board {} has no board file: it has no clock", options.board));
  PrintJson(ToJson(*chosen.profile), 2);
  return {};
}

}  // namespace

void AddBoardsCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<BoardsCommandOptions>();
  CLI::App* command =
      app.add_subcommand("boards", "List the boards, or show one: its memory, its costs, their sources");
  command->add_option("board", options->board, "A name, a board file, or a terminal's text with a board's report");
  command->add_flag("--json", options->json,
                    "The board as a board file, whole: a start for one of your own; without a board, the list");
  command->add_flag("--published", options->published,
                    "What others measured on such boards, beside what the clock makes of their set-up");
  command->add_option("--from-log", options->log, "Print the board file that this log of measurements makes")
      ->type_name("LOG");
  command->footer(
      "Examples:\n"
      "  thimble boards esp32-cam\n"
      "  thimble boards esp32-cam --json > mine.json\n"
      "  thimble boards --from-log serial.log > mine.json     then: thimble simulate MODEL --board mine.json\n"
      "  thimble boards capture.txt                           what 'doctor --report' printed on a board of yours");
  command->callback([options, &exit_code] {
    const Status result = Run(*options);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
