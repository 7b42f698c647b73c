#include "engine/plan/plan_file.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "engine/base/key_values.h"
#include "engine/base/text_buffer.h"

namespace thimble::plan {
namespace {

constexpr std::string_view kSwapKey = "swap_bytes";  // written only where there is one, as the cache's types are

// The keys whose values are numbers, in the order of the file.
struct NumberKey {
  std::string_view name;
  uint32_t PlanOptions::* member;
  std::string_view comment;
};
constexpr std::array kNumberKeys = {
    NumberKey{"n_ctx", &PlanOptions::n_ctx, "positions of context; 0: the model's"},
    NumberKey{"tile_buffer_bytes", &PlanOptions::tile_buffer_bytes, "a tile buffer; 0: the board's"},
    NumberKey{"attention_chunks", &PlanOptions::attention_chunks, "pieces of q, k, v, o each; 0: as few as fit"},
    NumberKey{"ffn_chunks", &PlanOptions::ffn_chunks, "pieces of gate, up, down each; 0: as few as fit"},
    NumberKey{"head_chunks", &PlanOptions::head_chunks, "pieces of the LM head; 0: as few as fit"},
    NumberKey{"prompt_batch", &PlanOptions::prompt_batch, "positions of a prompt at once; 0: as memory allows"},
    NumberKey{"draft_max", &PlanOptions::draft_max, "tokens guessed at once; 0: 3"},
    NumberKey{"draft_worth_percent", &PlanOptions::draft_worth_percent, "guesses that come less often are not run"},
    NumberKey{"psram_weights_percent", &PlanOptions::psram_weights_percent, "of the layers' rows, kept in PSRAM"},
    NumberKey{"flash_weights_percent", &PlanOptions::flash_weights_percent, "of the layers' rows, kept in flash"},
    NumberKey{"screen_card_percent", &PlanOptions::screen_card_percent,
              "of the screen's first stage, left on the card"},
    NumberKey{kSwapKey, &PlanOptions::swap_bytes, "of a file on the card for keys and values; 0: none"},
};
constexpr std::string_view kBoardKey = "board";
constexpr std::string_view kTilesKey = "tiles";
constexpr std::string_view kDraftKey = "draft";
constexpr std::string_view kKeysKey = "cache_type_k";
constexpr std::string_view kValuesKey = "cache_type_v";

std::optional<uint32_t> ParseNumber(std::string_view digits) {
  if (digits.empty() || digits.size() > 10) return std::nullopt;
  uint64_t number = 0;
  for (char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<uint64_t>(c - '0');
  }
  if (number > std::numeric_limits<uint32_t>::max()) return std::nullopt;
  return static_cast<uint32_t>(number);
}

std::optional<TileMode> ParseTileMode(std::string_view name) {
  for (TileMode mode : {TileMode::kStreamed, TileMode::kBounced}) {
    if (name == TileModeName(mode)) return mode;
  }
  return std::nullopt;
}

std::optional<DraftMode> ParseDraftMode(std::string_view name) {
  for (DraftMode mode : {DraftMode::kNone, DraftMode::kLookup, DraftMode::kNgram}) {
    if (name == DraftModeName(mode)) return mode;
  }
  return std::nullopt;
}

// Stores the value of one key; false if it is none that the key can have.
bool SetValue(std::string_view key, std::string_view value, PlanFile& file) {
  if (key == kBoardKey) {
    file.board = value;
    return !value.empty();
  }
  if (key == kTilesKey) {
    const std::optional<TileMode> mode = ParseTileMode(value);
    file.options.tiles = mode.value_or(file.options.tiles);
    return mode.has_value();
  }
  if (key == kDraftKey) {
    const std::optional<DraftMode> mode = ParseDraftMode(value);
    file.options.draft = mode.value_or(file.options.draft);
    return mode.has_value();
  }
  if (key == kKeysKey || key == kValuesKey) {
    const std::optional<DType> type = ParseCacheType(value);
    DType& member = key == kKeysKey ? file.options.cache.k : file.options.cache.v;
    member = type.value_or(member);
    return type.has_value();
  }
  const auto number_key = std::ranges::find(kNumberKeys, key, &NumberKey::name);
  const std::optional<uint32_t> number = ParseNumber(value);
  file.options.*number_key->member = number.value_or(0);
  return number.has_value();
}

constexpr size_t kWordKeys = 5;  // whose values are words

// Index of a key among all there are, or nothing.
std::optional<size_t> IndexOf(std::string_view key) {
  if (key == kBoardKey) return 0;
  if (key == kTilesKey) return 1;
  if (key == kDraftKey) return 2;
  if (key == kKeysKey) return 3;
  if (key == kValuesKey) return 4;
  const auto number_key = std::ranges::find(kNumberKeys, key, &NumberKey::name);
  if (number_key == kNumberKeys.end()) return std::nullopt;
  return kWordKeys + static_cast<size_t>(number_key - kNumberKeys.begin());
}

std::unexpected<Error> FailAt(uint64_t line, const char* what, std::string_view name) {
  return Fail(Error{.code = Code::kCorrupt, .what = what, .have = line}.Named(name));
}

}  // namespace

const char* CacheTypeName(DType type) { return type == DType::kQ8_0 ? "q8_0" : type == DType::kF16 ? "f16" : "f32"; }

std::optional<DType> ParseCacheType(std::string_view name) {
  for (const DType type : kCacheTypes) {
    if (name == CacheTypeName(type)) return type;
  }
  return std::nullopt;
}

const char* TileModeName(TileMode mode) { return mode == TileMode::kStreamed ? "streamed" : "bounced"; }

Result<PlanFile> ParsePlanFile(std::string_view text) {
  if (text.size() > kMaxPlanFileBytes) {
    return Fail({.code = Code::kCorrupt,
                 .what =
                     "a plan of {have} bytes is longer than the {need} that one can have: write it with 'thimble plan "
                     "-o'",
                 .have = text.size(),
                 .need = kMaxPlanFileBytes});
  }
  PlanFile file;
  std::array<bool, kWordKeys + kNumberKeys.size()> seen = {};
  KeyValues lines(text);
  for (KeyValueLine line; lines.Next(line);) {
    if (!line.has_key) {
      return FailAt(line.number, "line {have} of the plan, '{name}', is not 'key = value'", line.text);
    }
    const std::optional<size_t> index = IndexOf(line.key);
    if (!index) {
      return FailAt(line.number, "line {have} of the plan has the key '{name}', which is unknown", line.key);
    }
    if (std::exchange(seen[*index], true)) {
      return FailAt(line.number, "line {have} of the plan gives '{name}' again", line.key);
    }
    if (!SetValue(line.key, line.value, file)) {
      return FailAt(line.number, "line {have} of the plan has a value that is none for its key: '{name}'", line.text);
    }
  }
  if (file.board.empty()) {
    return Fail({.code = Code::kCorrupt, .what = "the plan names no board: it needs a line like 'board = esp32-cam'"});
  }
  return file;
}

size_t FormatPlanFile(const PlanFile& file, std::span<char> out) {
  TextBuffer text(out);
  const auto line = [&](std::string_view key, auto value, std::string_view comment) {
    text.Append(key);
    text.Append(" = ");
    text.Append(value);
    if (!comment.empty()) text.Append("  # ");
    text.Append(comment);
    text.Append("\n");
  };
  line(kBoardKey, file.board, "");
  line(kTilesKey, std::string_view(TileModeName(file.options.tiles)), "streamed or bounced");
  line(kDraftKey, std::string_view(DraftModeName(file.options.draft)), "who guesses tokens: none, lookup or ngram");
  // Only where somebody chose it: who knows no such key can read all other plans.
  const auto cache_line = [&](std::string_view key, DType type) {
    if (type != DType::kF32) line(key, std::string_view(CacheTypeName(type)), "f32, f16 or q8_0; lossy but for f32");
  };
  cache_line(kKeysKey, file.options.cache.k);
  cache_line(kValuesKey, file.options.cache.v);
  for (const NumberKey& key : kNumberKeys) {
    if (key.name == kSwapKey && file.options.swap_bytes == 0) continue;
    line(key.name, uint64_t{file.options.*key.member}, key.comment);
  }
  return text.size();
}

}  // namespace thimble::plan
