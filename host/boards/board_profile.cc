#include "host/boards/board_profile.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

#include "host/boards/board_files.h"
#include "host/boards/board_memory.h"
#include "host/support/input_file.h"
#include "host/support/json_text.h"
#include "host/support/numbers.h"
#include "host/support/paths.h"
#include "host/support/suggestion.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

using nlohmann::json;

constexpr uint32_t kVersion = 1;
constexpr uint64_t kMaxProfileBytes = 1 << 20;
constexpr uint64_t kMaxCaptureBytes = 64 << 20;
constexpr uint32_t kMaxMemoryBytes = 1u << 30;  // of one region
constexpr double kMaxCost = 1e9;
constexpr size_t kMaxCosts = 256;

constexpr std::array<Confidence, 6> kConfidences = {Confidence::kMeasured,   Confidence::kDocumented,
                                                    Confidence::kDerived,    Confidence::kEstimate,
                                                    Confidence::kCalibrated, Confidence::kSimulated};

constexpr char kCardPrefix[] = "card.";
constexpr char kCommand[] = ".command_us";
constexpr char kSector[] = ".sector_us";
constexpr char kRandom[] = "card.random_us";
constexpr char kWrite[] = "card.write_us";
constexpr char kFork[] = "fork_us";
constexpr char kPsramLine[] = "psram.line_us";
constexpr char kPsramWrite[] = "psram.write_us";
constexpr char kFlashLine[] = "flash.line_us";

bool Has(const BoardProfile& profile, Confidence confidence) {
  return std::ranges::any_of(profile.costs, [&](const auto& entry) { return entry.second.confidence == confidence; });
}

std::string KernelKey(Kernel kernel) { return fmt::format("kernel.{}_cycles", KernelName(kernel)); }

std::string CardKey(std::string_view mode, const char* what) { return fmt::format("{}{}{}", kCardPrefix, mode, what); }

std::vector<std::string> RequiredKeys(const BoardProfile& profile) {
  std::vector<std::string> keys = {kFork, kRandom, kWrite, CardKey(profile.card_mode, kCommand),
                                   CardKey(profile.card_mode, kSector)};
  if (profile.memory.capacity(Region::kPsram) != 0) keys.insert(keys.end(), {kPsramLine, kPsramWrite});
  if (profile.memory.capacity(Region::kFlash) != 0) keys.emplace_back(kFlashLine);
  for (size_t i = 0; i < kNumKernels; ++i) keys.push_back(KernelKey(static_cast<Kernel>(i)));
  for (const std::string& mode : profile.card_modes()) keys.push_back(CardKey(mode, kSector));
  return keys;
}

bool IsKnownKey(std::string_view key) {
  for (const char* known : {kRandom, kWrite, kFork, kPsramLine, kPsramWrite, kFlashLine}) {
    if (key == known) return true;
  }
  for (size_t i = 0; i < kNumKernels; ++i) {
    if (key == KernelKey(static_cast<Kernel>(i))) return true;
  }
  if (!key.starts_with(kCardPrefix) || !(key.ends_with(kCommand) || key.ends_with(kSector))) return false;
  key.remove_prefix(std::string_view(kCardPrefix).size());
  // A mode may have a point in it: "4bit-26.7".
  const size_t end = key.rfind('.');
  return end != key.npos && end >= 1 && end <= 20;
}

Status CheckKey(const std::string& key, const std::string& path) {
  if (IsKnownKey(key)) return {};
  return Sentence(
      fmt::format("{}: there is no cost {}: 'thimble boards esp32-cam --json' shows all of them", path, Quote(key)));
}

// The name, and the memory of a built-in board of this name: its sizes are the engine's.
Status SetName(const std::string& name, bool has_description, const std::string& path, BoardProfile& profile) {
  constexpr char kNameLetters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  if (name.empty() || name.size() > 40 || name.find_first_not_of(kNameLetters) != name.npos) {
    return Sentence(fmt::format("{}: name must be 1 to 40 letters, digits, '-', '_' or '.'", path));
  }
  profile.name = name;
  if (const auto memory = FindMemory(name)) {
    profile.memory = *memory;
    if (!has_description) profile.description = memory->description;
  }
  return {};
}

// The keys of `object` are all among `known`.
Status CheckKeys(const json& object, std::initializer_list<const char*> known, const std::string& path) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return Sentence(fmt::format("{}: there is no key {}: known are {}", path, Quote(key), fmt::join(known, ", ")));
    }
  }
  return {};
}

Expected<Cost> ParseCost(const json& value, const std::string& key, const std::string& path) {
  const auto refuse = [&](std::string_view what) { return Sentence(fmt::format("{}: {} {}", path, Quote(key), what)); };
  if (!value.is_object()) return refuse("must be an object with low, typical, high, source and confidence");
  const std::string place = fmt::format("{}: {}", path, Quote(key));
  THIMBLE_TRY(CheckKeys(value, {"low", "typical", "high", "source", "confidence"}, place));
  Cost cost;
  for (const auto& [name, number] : {std::pair{"low", &cost.low}, {"typical", &cost.typical}, {"high", &cost.high}}) {
    const auto it = value.find(name);
    if (it == value.end() || !it->is_number() || !(it->get<double>() >= 0 && it->get<double>() <= kMaxCost)) {
      return refuse(fmt::format("needs a number {} of 0 to {}", name, kMaxCost));
    }
    *number = it->get<double>();
  }
  if (cost.low > cost.typical || cost.typical > cost.high) {
    return refuse("must have low <= typical <= high: they are costs, and low is the fastest board");
  }
  const JsonKeys keys(value, place);
  THIMBLE_ASSIGN(const std::optional<std::string> source, keys.Text("source"));
  if (!source || source->empty()) return refuse("needs a source: where the figure comes from");
  cost.source = *source;
  THIMBLE_ASSIGN(const std::optional<std::string> confidence, keys.Text("confidence"));
  for (Confidence c : kConfidences) {
    if (confidence && *confidence == ConfidenceName(c)) {
      cost.confidence = c;
      return cost;
    }
  }
  return refuse("needs a confidence: measured, documented, derived, estimate, calibrated or simulated");
}

Status ParseMemory(const json& object, const std::string& path, Board& board) {
  const auto it = object.find("memory");
  if (it == object.end()) return {};
  const std::string place = path + ": memory";
  if (!it->is_object()) return Sentence(place + " must be an object of bytes by region");
  THIMBLE_TRY(CheckKeys(*it, {"sram_dma", "sram", "psram", "flash", "tile_buffer_bytes", "dma_align"}, place));
  const auto bytes = [&](const char* key, uint64_t otherwise) -> Expected<uint64_t> {
    const auto found = it->find(key);
    if (found == it->end()) return otherwise;
    if (!found->is_number_unsigned() || found->get<uint64_t>() > kMaxMemoryBytes) {
      return Sentence(fmt::format("{}: {} must be a whole number of 0 to {}", place, key, kMaxMemoryBytes));
    }
    return found->get<uint64_t>();
  };
  for (size_t i = 0; i < kNumRegions; ++i) {
    THIMBLE_ASSIGN(board.capacity_bytes[i], bytes(RegionName(static_cast<Region>(i)), board.capacity_bytes[i]));
  }
  THIMBLE_ASSIGN(const uint64_t tile, bytes("tile_buffer_bytes", board.tile_buffer_bytes));
  THIMBLE_ASSIGN(const uint64_t align, bytes("dma_align", board.dma_align));
  if (tile % 512 != 0 || tile == 0) return Sentence(place + ": tile_buffer_bytes must be a multiple of 512");
  if (align == 0 || align > 512 || (align & (align - 1)) != 0) {
    return Sentence(place + ": dma_align must be a power of two up to 512");
  }
  board.tile_buffer_bytes = static_cast<uint32_t>(tile);
  board.dma_align = static_cast<uint32_t>(align);
  return {};
}

Status ParseCpu(const json& object, const std::string& path, BoardProfile& profile) {
  const auto it = object.find("cpu");
  if (it == object.end()) return {};
  const std::string place = path + ": cpu";
  if (!it->is_object()) return Sentence(place + " must be an object");
  THIMBLE_TRY(CheckKeys(*it, {"cores", "mhz", "cache_bytes", "line_bytes", "source"}, place));
  const JsonKeys keys(*it, place);
  const auto size = [&](const char* key, uint32_t max, uint32_t& value) -> Status {
    THIMBLE_ASSIGN(const std::optional<uint32_t> given, keys.Size(key, max));
    if (given) value = *given;
    return {};
  };
  THIMBLE_TRY(size("cores", 2, profile.cores));
  THIMBLE_TRY(size("mhz", 10'000, profile.cpu_mhz));
  THIMBLE_TRY(size("cache_bytes", kMaxMemoryBytes, profile.cache_bytes));
  return size("line_bytes", 4096, profile.line_bytes);
}

Status ParseCosts(const json& object, const std::string& path, BoardProfile& profile) {
  const auto it = object.find("costs");
  if (it == object.end()) return {};
  if (!it->is_object()) return Sentence(path + ": costs must be an object");
  if (it->size() > kMaxCosts) return Sentence(fmt::format("{}: costs has more than {} entries", path, kMaxCosts));
  for (const auto& [key, value] : it->items()) {
    THIMBLE_TRY(CheckKey(key, path));
    THIMBLE_ASSIGN(profile.costs[key], ParseCost(value, key, path));
  }
  return {};
}

Status CheckWhole(const BoardProfile& profile, const std::string& path) {
  if (profile.cores == 0 || profile.cpu_mhz == 0 || profile.line_bytes == 0) {
    return Sentence(path + ": cpu must have cores, mhz and line_bytes, or the file be \"like\" a board that has them");
  }
  for (const std::string& key : RequiredKeys(profile)) {
    const auto it = profile.costs.find(key);
    if (it == profile.costs.end()) {
      return Sentence(fmt::format("{}: the cost {} is missing: give it, or make the file \"like\" a board that has it",
                                  path, Quote(key)));
    }
  }
  return {};
}

}  // namespace

const char* ConfidenceName(Confidence confidence) {
  switch (confidence) {
    case Confidence::kMeasured:
      return "measured";
    case Confidence::kDocumented:
      return "documented";
    case Confidence::kDerived:
      return "derived";
    case Confidence::kEstimate:
      return "estimate";
    case Confidence::kCalibrated:
      return "calibrated";
    case Confidence::kSimulated:
      return "simulated";
  }
  return "";
}

const char* CornerName(Corner corner) {
  switch (corner) {
    case Corner::kLow:
      return "low";
    case Corner::kTypical:
      return "typical";
    case Corner::kHigh:
      return "high";
  }
  return "";
}

std::string DurationText(const Range& seconds) {
  struct Unit {
    const char* name;
    double seconds;
  };
  const double typical = seconds[kTypical];
  const Unit unit = typical < 120         ? Unit{"s", 1}
                    : typical < 7200      ? Unit{"min", 60}
                    : typical < 2 * 86400 ? Unit{"h", 3600}
                                          : Unit{"days", 86400};
  const auto in = [&](double value) { return Fixed(value / unit.seconds, value / unit.seconds < 10 ? 1 : 0); };
  return fmt::format("{} {} ({} to {})", in(typical), unit.name, in(seconds[0]), in(seconds[2]));
}

std::string RangeText(const Range& range) {
  return fmt::format("{:.2f} ({:.2f} to {:.2f})", range[kTypical], range[0], range[2]);
}

std::vector<std::string> BoardProfile::card_modes() const {
  std::vector<std::string> modes;
  for (const auto& [key, cost] : costs) {
    if (!key.starts_with(kCardPrefix) || !key.ends_with(kCommand)) continue;
    const size_t begin = std::string_view(kCardPrefix).size();
    modes.push_back(key.substr(begin, key.size() - begin - std::string_view(kCommand).size()));
  }
  return modes;
}

bool BoardProfile::is_simulated() const { return Has(*this, Confidence::kSimulated); }

bool BoardProfile::is_calibrated() const { return !is_simulated() && Has(*this, Confidence::kCalibrated); }

Board BoardOf(const BoardProfile& profile) {
  Board board = profile.memory;
  board.name = profile.name.c_str();
  board.description = profile.description.c_str();
  return board;
}

std::string UnitOf(std::string_view key) { return std::string(key.substr(key.rfind('_') + 1)); }

Expected<std::string_view> BoardFileIn(std::string_view text, const std::string& path) {
  const size_t first = text.find(kReportBegin);
  if (first == text.npos) return text;
  const size_t end = text.rfind(kReportEnd);
  if (end == text.npos || end < first) {
    return Sentence(
        fmt::format("{}: the board's report is not whole: let 'doctor --report' run until it prints '{}', "
                    "and save the terminal again",
                    path, kReportEnd));
  }
  text = text.substr(0, end);
  return text.substr(text.rfind(kReportBegin) + kReportBegin.size());
}

Expected<BoardProfile> ParseBoardProfile(std::string_view text, const std::string& path) {
  THIMBLE_ASSIGN(const json object, ParseJsonObject(text, path));
  THIMBLE_TRY(
      CheckKeys(object, {"thimble_board", "name", "description", "like", "memory", "cpu", "card_mode", "costs"}, path));
  const JsonKeys keys(object, path);
  THIMBLE_ASSIGN(const uint32_t version, keys.RequiredSize("thimble_board", 0xffffffff));
  if (version != kVersion) {
    return Sentence(fmt::format("{}: thimble_board is {}, and this program reads {}", path, version, kVersion));
  }
  THIMBLE_ASSIGN(const std::optional<std::string> name, keys.Text("name"));
  BoardProfile profile;
  THIMBLE_ASSIGN(const std::optional<std::string> like, keys.Text("like"));
  if (like) {
    const std::unique_ptr<BoardProfile> base = BuiltInProfile(*like);
    if (!base) {
      return Sentence(fmt::format("{}: there is no board {} to be like: choose one of {}", path, Quote(*like),
                                  fmt::join(ProfileNames(), ", ")));
    }
    profile = *base;
  }
  THIMBLE_ASSIGN(const std::optional<std::string> description, keys.Text("description"));
  if (description) profile.description = *description;
  THIMBLE_TRY(SetName(name.value_or(""), description.has_value(), path, profile));
  THIMBLE_TRY(ParseMemory(object, path, profile.memory));
  THIMBLE_TRY(ParseCpu(object, path, profile));
  THIMBLE_ASSIGN(const std::optional<std::string> mode, keys.Text("card_mode"));
  if (mode) profile.card_mode = *mode;
  THIMBLE_TRY(ParseCosts(object, path, profile));
  THIMBLE_TRY(CheckWhole(profile, path));
  return profile;
}

Expected<BoardProfile> MeasuredProfile(const BoardProfile& like, const std::string& name, const std::string& card_mode,
                                       const std::map<std::string, Cost>& costs, const std::string& path) {
  BoardProfile profile = like;
  THIMBLE_TRY(SetName(name, /*has_description=*/false, path, profile));
  profile.card_mode = card_mode;
  for (const auto& [key, cost] : costs) {
    THIMBLE_TRY(CheckKey(key, path));
    profile.costs[key] = cost;
  }
  THIMBLE_TRY(CheckWhole(profile, path));
  return profile;
}

Expected<FoundBoard> FindBoard(const std::string& name_or_file) {
  if (const std::optional<Board> memory = FindMemory(name_or_file)) {
    return FoundBoard{*memory, BuiltInProfile(name_or_file)};
  }
  if (name_or_file == "esp32-wifi") return Sentence(kNoWifiWithoutPsram);
  if (name_or_file != kStandardInput && (!Exists(name_or_file) || IsFolder(name_or_file))) {
    const std::vector<std::string> names = BoardNames();
    return Sentence(fmt::format("there is no board named {}: choose one of {}, or give a board file{}",
                                Quote(name_or_file), fmt::join(names, ", "), DidYouMean(name_or_file, names)));
  }
  const std::string name = NameOfGiven(name_or_file);
  THIMBLE_ASSIGN(const std::string text, ReadGiven(name_or_file, kMaxCaptureBytes));
  THIMBLE_ASSIGN(const std::string_view file, BoardFileIn(text, name));
  if (file.size() > kMaxProfileBytes) {
    return Sentence(
        fmt::format("{}: {} bytes are no board file: it has {} at most", name, file.size(), kMaxProfileBytes));
  }
  THIMBLE_ASSIGN(BoardProfile parsed, ParseBoardProfile(file, name));
  auto profile = std::make_shared<const BoardProfile>(std::move(parsed));
  return FoundBoard{BoardOf(*profile), profile};
}

std::vector<std::string> ProfileNames() {
  std::vector<std::string> names;
  for (const BoardFile& file : kBoardFiles) names.emplace_back(file.name);
  return names;
}

std::unique_ptr<BoardProfile> BuiltInProfile(std::string_view name) {
  for (const BoardFile& file : kBoardFiles) {
    if (name != file.name) continue;
    auto profile = ParseBoardProfile(file.text, fmt::format("the built-in board {}", file.name));
    return profile ? std::make_unique<BoardProfile>(std::move(*profile)) : nullptr;  // a test parses all of them
  }
  return nullptr;
}

std::string PlaceText(const std::string& card_mode) {
  return card_mode == kFlashMode ? "no card, the model in flash" : fmt::format("card {}", Visible(card_mode));
}

Expected<ClockConstants> ConstantsOf(const BoardProfile& profile, const std::string& card_mode, Corner corner) {
  const std::string& mode = card_mode.empty() ? profile.card_mode : card_mode;
  std::vector<std::string> modes = profile.card_modes();
  if (profile.memory.model_partition_bytes != 0) modes.emplace_back(kFlashMode);
  if (std::find(modes.begin(), modes.end(), mode) == modes.end()) {
    return Sentence(fmt::format("the board {} has no card mode {}: choose one of {}", profile.name, Quote(mode),
                                fmt::join(modes, ", ")));
  }
  const auto value = [&](const std::string& key) {
    const auto it = profile.costs.find(key);
    if (it == profile.costs.end()) return 0.0;  // of a memory that the board does not have
    const Cost& cost = it->second;
    return corner == Corner::kLow ? cost.high : corner == Corner::kHigh ? cost.low : cost.typical;
  };
  const auto ns = [&](const std::string& key) { return 1000.0 * value(key); };
  ClockConstants constants = {.cores = profile.cores,
                              .cpu_mhz = static_cast<double>(profile.cpu_mhz),
                              .line_bytes = profile.line_bytes,
                              .cache_bytes = profile.cache_bytes,
                              .fork_ns = ns(kFork),
                              .command_ns = ns(CardKey(mode, kCommand)),
                              .random_ns = ns(kRandom),
                              .sector_ns = ns(CardKey(mode, kSector)),
                              .write_ns = ns(kWrite),
                              .psram_line_ns = ns(kPsramLine),
                              .psram_write_ns = ns(kPsramWrite),
                              .flash_line_ns = ns(kFlashLine)};
  for (size_t i = 0; i < kNumKernels; ++i) constants.cycles[i] = value(KernelKey(static_cast<Kernel>(i)));
  if (mode == kFlashMode) {
    constants.reads_by_core = true;
    constants.command_ns = constants.random_ns = 0;
    const double bytes = static_cast<double>(kSectorBytes);
    constants.sector_ns = bytes / profile.line_bytes * constants.flash_line_ns +
                          bytes * constants.cycles[static_cast<size_t>(Kernel::kCopy)] * 1000.0 / profile.cpu_mhz;
  }
  return constants;
}

nlohmann::ordered_json CostsJson(const std::map<std::string, Cost>& costs) {
  nlohmann::ordered_json json;
  for (const auto& [key, cost] : costs) {
    json[key] = {{"low", cost.low},
                 {"typical", cost.typical},
                 {"high", cost.high},
                 {"source", cost.source},
                 {"confidence", ConfidenceName(cost.confidence)}};
  }
  return json;
}

nlohmann::ordered_json ToJson(const BoardProfile& profile) {
  nlohmann::ordered_json memory;
  for (size_t i = 0; i < kNumRegions; ++i) {
    memory[RegionName(static_cast<Region>(i))] = profile.memory.capacity_bytes[i];
  }
  memory["tile_buffer_bytes"] = profile.memory.tile_buffer_bytes;
  memory["dma_align"] = profile.memory.dma_align;
  return {{"thimble_board", kVersion},
          {"name", profile.name},
          {"description", profile.description},
          {"memory", memory},
          {"cpu",
           {{"cores", profile.cores},
            {"mhz", profile.cpu_mhz},
            {"cache_bytes", profile.cache_bytes},
            {"line_bytes", profile.line_bytes}}},
          {"card_mode", profile.card_mode},
          {"costs", CostsJson(profile.costs)}};
}

}  // namespace thimble::host
