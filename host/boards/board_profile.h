// What a board's work costs, as data with sources: the constants of the board's clock (host/boards/clock.h).
//
// A board file is JSON; format: docs/formats/board.md. The built-in boards are such files, in host/boards/.
#ifndef THIMBLE_HOST_BOARDS_BOARD_PROFILE_H_
#define THIMBLE_HOST_BOARDS_BOARD_PROFILE_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/board.h"
#include "host/boards/clock.h"
#include "host/support/errors.h"

namespace thimble::host {

// How well a figure is known. In board files: "measured" (by its source), "documented", "derived" (by arithmetic from
// one of these), "estimate", "calibrated" (on a board of the user's own), "simulated" (by a program that plays a board,
// firmware/simulated: of no board).
enum class Confidence : uint8_t { kMeasured, kDocumented, kDerived, kEstimate, kCalibrated, kSimulated };
const char* ConfidenceName(Confidence confidence);  // static lifetime

// One constant. All are costs, so that `low` makes the fastest board and `high` the slowest.
struct Cost {
  double low = 0;
  double typical = 0;
  double high = 0;
  std::string source;
  Confidence confidence = Confidence::kEstimate;
};

// Which end of every range a clock takes. Named after the speed that comes out: kLow is the slowest board.
enum class Corner : uint8_t { kLow, kTypical, kHigh };
inline constexpr std::array<Corner, 3> kCorners = {Corner::kLow, Corner::kTypical, Corner::kHigh};
const char* CornerName(Corner corner);  // "low", "typical", "high"; static lifetime

// A figure at the three corners, in the order of kCorners. Rises.
using Range = std::array<double, 3>;
inline constexpr size_t kTypical = 1;
std::string DurationText(const Range& seconds);  // "21 s (16 to 33)", in minutes, hours or days where that is long
std::string RangeText(const Range& range);       // "6.08 (3.90 to 7.91)": typical, low to high

struct BoardProfile {
  std::string name;
  std::string description;
  Board memory;  // its name and description are not this profile's: see BoardOf()
  uint32_t cores = 0;
  uint32_t cpu_mhz = 0;
  uint32_t cache_bytes = 0;
  uint32_t line_bytes = 0;
  std::string card_mode;              // the one that is used unless another is asked for
  std::map<std::string, Cost> costs;  // by key, as in board files

  std::vector<std::string> card_modes() const;
  bool is_simulated() const;   // some constant was: then nothing that comes out is measured
  bool is_calibrated() const;  // some constant was, and none is simulated
};

// The engine's view of the board. Refers to the profile's texts.
Board BoardOf(const BoardProfile& profile);

// The unit of a cost, from its key: "us", "cycles".
std::string UnitOf(std::string_view key);

// The board file in what a terminal kept: what stands between the two lines that `doctor --report` prints around it, of
// the last one that is whole. All of `text` if it has none of these lines. Fails for one whose end is missing.
inline constexpr std::string_view kReportBegin = "--- thimble board file ---";
inline constexpr std::string_view kReportEnd = "--- end of the board file ---";
Expected<std::string_view> BoardFileIn(std::string_view text, const std::string& path);

// Parses a board file's text; `path` stands in the sentences. What it refuses: docs/formats/board.md.
Expected<BoardProfile> ParseBoardProfile(std::string_view text, const std::string& path);

// The board `like` with another name, card mode and some costs, under the checks of a board file.
Expected<BoardProfile> MeasuredProfile(const BoardProfile& like, const std::string& name, const std::string& card_mode,
                                       const std::map<std::string, Cost>& costs, const std::string& path);

// A board as --board names it.
struct FoundBoard {
  Board board;                                  // refers to the profile, if there is one
  std::shared_ptr<const BoardProfile> profile;  // null for a board whose costs nobody knows: "host"
};

// A name, or a board file, or what a terminal kept in which there is one. The sentence of a failure lists the names.
Expected<FoundBoard> FindBoard(const std::string& name_or_file);

std::vector<std::string> ProfileNames();

// The built-in profile of this name, or null: a board may have none, as "host".
std::unique_ptr<BoardProfile> BuiltInProfile(std::string_view name);

// The card mode that means: no card; the model is in the board's flash (Board::model_partition_bytes), which a core
// reads like memory and copies.
inline constexpr char kFlashMode[] = "flash";

// For a person: "card 4bit-40", "no card, the model in flash".
std::string PlaceText(const std::string& card_mode);

// The constants of one corner. `card_mode` empty: the profile's. Fails for a mode that the board does not have.
Expected<ClockConstants> ConstantsOf(const BoardProfile& profile, const std::string& card_mode, Corner corner);

// Costs as they stand in a board file.
nlohmann::ordered_json CostsJson(const std::map<std::string, Cost>& costs);

// The profile as a board file.
nlohmann::ordered_json ToJson(const BoardProfile& profile);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_BOARDS_BOARD_PROFILE_H_
