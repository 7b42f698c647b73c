#include "host/boards/board_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <sstream>
#include <vector>

#include "host/support/numbers.h"

namespace thimble::host {
namespace {

constexpr std::string_view kMark = "thimble:";
constexpr size_t kMaxMeasurements = 1'000'000;
constexpr double kMaxUs = 1e9;
constexpr uint64_t kMaxReadBytes = 1 << 24;

using Samples = std::vector<double>;

// What a log holds.
struct Log {
  std::string name;
  std::string like;
  std::string card_mode;
  bool is_simulated = false;
  std::map<std::string, Samples> costs;
  std::map<uint64_t, Samples> reads;   // by sectors: microseconds of reads that go on where the last one ended
  std::map<uint64_t, Samples> random;  // of reads from elsewhere
};

double Percentile(Samples samples, double percent) {
  std::sort(samples.begin(), samples.end());
  const double at = percent / 100 * static_cast<double>(samples.size() - 1);
  return samples[static_cast<size_t>(std::lround(at))];
}

bool Parse(const std::string& text, uint64_t& value) {
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end;
}

bool Parse(const std::string& text, double& value) {
  const std::optional<double> number = NumberOf(text);
  value = number.value_or(0);
  return number.has_value();
}

class LogParser {
 public:
  explicit LogParser(const std::string& path) : path_(path) {}

  Expected<Log> Run(std::string_view text) {
    while (!text.empty()) {
      ++line_;
      const size_t end = std::min(text.find('\n'), text.size());
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      // Whatever else the board prints is not for us.
      const size_t mark = line.find(kMark);
      if (mark == line.npos) continue;
      std::istringstream words{std::string(line.substr(mark + kMark.size()))};
      std::vector<std::string> list;
      for (std::string word; words >> word;) list.push_back(word);
      THIMBLE_TRY(TakeLine(list));
    }
    return log_;
  }

 private:
  std::unexpected<std::string> Refuse(std::string_view what) const {
    return Sentence(fmt::format("{}: line {}: {}", path_, line_, what));
  }

  Status TakeLine(const std::vector<std::string>& words) {
    if (words.size() == 2 && (words[0] == "name" || words[0] == "like" || words[0] == "card_mode")) {
      constexpr std::string_view kOfModes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
      if (words[0] == "card_mode" && words[1].find_first_not_of(kOfModes) != std::string::npos) {
        return Refuse(
            fmt::format("{} is no mode of a card: it has other than letters, digits and hyphens", Quote(words[1])));
      }
      (words[0] == "name" ? log_.name : words[0] == "like" ? log_.like : log_.card_mode) = words[1];
      return {};
    }
    if (words.size() == 1 && words[0] == "simulated") {
      log_.is_simulated = true;
      return {};
    }
    if (words.size() == 3 && words[0] == "cost") {
      double value = 0;
      if (!Parse(words[2], value) || !(value >= 0 && value <= kMaxUs)) {
        return Refuse(fmt::format("{} is no figure of 0 to {}", Quote(words[2]), kMaxUs));
      }
      return Keep(log_.costs[words[1]], value);
    }
    if (words.size() == 4 && words[0] == "read" && (words[2] == "next" || words[2] == "random")) {
      uint64_t bytes = 0;
      double us = 0;
      if (!Parse(words[1], bytes) || bytes == 0 || bytes % kSectorBytes != 0 || bytes > kMaxReadBytes) {
        return Refuse(fmt::format("{} bytes are no whole sectors of {} bytes, up to {}", Quote(words[1]), kSectorBytes,
                                  kMaxReadBytes));
      }
      if (!Parse(words[3], us) || !(us > 0 && us <= kMaxUs)) {
        return Refuse(fmt::format("{} is no figure above 0, up to {}", Quote(words[3]), kMaxUs));
      }
      return Keep((words[2] == "next" ? log_.reads : log_.random)[bytes / kSectorBytes], us);
    }
    return Refuse(
        "expected 'name NAME', 'like BOARD', 'card_mode MODE', 'simulated', 'cost KEY FIGURE' or 'read BYTES "
        "next|random "
        "MICROSECONDS'");
  }

  Status Keep(Samples& samples, double value) {
    if (++kept_ > kMaxMeasurements) return Refuse(fmt::format("more than {} measurements", kMaxMeasurements));
    samples.push_back(value);
    return {};
  }

  const std::string& path_;
  uint64_t line_ = 0;
  size_t kept_ = 0;
  Log log_;
};

Status CheckEnough(const std::string& what, const Samples& samples, const std::string& path) {
  if (samples.size() >= kMinMeasurements) return {};
  return Sentence(fmt::format("{}: {} was measured {} time{}: {} are the least", path, what, samples.size(),
                              samples.size() == 1 ? "" : "s", kMinMeasurements));
}

Cost CostOf(const Samples& samples, const std::string& path) {
  return {.low = Percentile(samples, 5),
          .typical = Percentile(samples, 50),
          .high = Percentile(samples, 95),
          .source = fmt::format("{} measurements in {}", samples.size(), path),
          .confidence = Confidence::kCalibrated};
}

// A line through the medians of the smallest and the largest read gives the sector; what is left of each read, the
// command.
Status AddReads(const Log& log, const std::string& mode, const std::string& path, std::map<std::string, Cost>& costs) {
  if (log.reads.empty() && log.random.empty()) return {};
  if (log.reads.size() < 2) {
    return Sentence(fmt::format("{}: reads of two sizes at least are needed, each with 'next'", path));
  }
  for (const auto& [sectors, samples] : log.reads) {
    THIMBLE_TRY(CheckEnough(fmt::format("a read of {} bytes", sectors * kSectorBytes), samples, path));
  }
  const auto& [least, least_us] = *log.reads.begin();
  const auto& [most, most_us] = *log.reads.rbegin();
  const double sector_us = (Percentile(most_us, 50) - Percentile(least_us, 50)) / static_cast<double>(most - least);
  if (sector_us <= 0) {
    return Sentence(fmt::format("{}: reads of {} bytes take no longer than reads of {}", path, most * kSectorBytes,
                                least * kSectorBytes));
  }
  const auto rests = [&](const std::map<uint64_t, Samples>& reads, double command_us) {
    Samples rest;
    for (const auto& [sectors, samples] : reads) {
      for (double us : samples) {
        rest.push_back(std::max(us - static_cast<double>(sectors) * sector_us - command_us, 0.0));
      }
    }
    return rest;
  };
  costs[fmt::format("card.{}.sector_us", mode)] = CostOf({sector_us}, path);
  const Cost command = CostOf(rests(log.reads, 0), path);
  costs[fmt::format("card.{}.command_us", mode)] = command;
  if (log.random.empty()) return {};
  const Samples random = rests(log.random, command.typical);
  THIMBLE_TRY(CheckEnough("a random read", random, path));
  costs["card.random_us"] = CostOf(random, path);
  return {};
}

}  // namespace

Expected<BoardProfile> BoardFromLog(std::string_view text, const std::string& path) {
  THIMBLE_ASSIGN(const Log log, LogParser(path).Run(text));
  if (log.name.empty() || log.like.empty()) {
    return Sentence(fmt::format("{}: the log needs lines 'thimble: name NAME' and 'thimble: like BOARD'", path));
  }
  const std::unique_ptr<BoardProfile> base = BuiltInProfile(log.like);
  if (!base) return Sentence(fmt::format("{}: there is no board {} to be like", path, Quote(log.like)));
  const std::string mode = log.card_mode.empty() ? base->card_mode : log.card_mode;
  std::map<std::string, Cost> costs;
  for (const auto& [key, samples] : log.costs) {
    THIMBLE_TRY(CheckEnough(Quote(key), samples, path));
    costs[key] = CostOf(samples, path);
  }
  THIMBLE_TRY(AddReads(log, mode, path, costs));
  if (costs.empty()) return Sentence(fmt::format("{}: nothing was measured", path));
  for (auto& [key, cost] : costs) {
    if (!log.is_simulated) break;
    cost.confidence = Confidence::kSimulated;
    cost.source += ", of a simulated board";
  }
  return MeasuredProfile(*base, log.name, mode, costs, path);
}

}  // namespace thimble::host
