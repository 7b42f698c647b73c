#include "host/formats/pre_tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/unicode_classes.h"

namespace thimble::host {
namespace {

using formats::PreTokenizer;
using nlohmann::json;

constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kNumber = R"(\p{N})";
constexpr std::string_view kNumbers = R"(\p{N}+)";
constexpr std::string_view kLineEnd = "[\r\n]";
constexpr std::string_view kEastAsian = "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+";
constexpr std::string_view kThreeDigits = "[0-9][0-9][0-9]";
constexpr std::string_view kPunctuation = R"([\p{P}\$\+<=>\^~\|`]+)";
constexpr std::string_view kCasedLetters = "DeepSeek LLM's letters";  // its class is too long to be spelled here

struct Shape {
  PreTokenizer pre;
  std::vector<std::string_view> patterns;
};

const std::vector<Shape>& Shapes() {
  static const std::vector<Shape> shapes = {
      {PreTokenizer::kGpt2, {kGpt2}},
      {PreTokenizer::kSmollm, {kNumber, kGpt2}},
      {PreTokenizer::kLlamaBpe, {kLlama3}},
      {PreTokenizer::kQwen2, {kQwen2}},
      {PreTokenizer::kDeepseekLlm,
       {kLineEnd, kCasedLetters, "\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+", R"(\s+$)",
        kEastAsian, kNumbers}},
      {PreTokenizer::kDeepseekCoder, {kLineEnd, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kEastAsian, kNumber}},
      {PreTokenizer::kFalcon, {kPunctuation, kGpt2, kThreeDigits}},
  };
  return shapes;
}

std::string TypeOfStep(const json& step) {
  const json type = step.is_object() ? step.value("type", json()) : json();
  return type.is_string() ? type.get<std::string>() : std::string();
}

// Whether `pattern` is \s?[...]+ with exactly the code points of UnicodeClass::kCasedLetter.
bool IsCasedLetters(std::string_view pattern) {
  constexpr std::string_view kBegin = R"(\s?[)";
  constexpr std::string_view kEnd = "]+";
  if (!pattern.starts_with(kBegin) || !pattern.ends_with(kEnd) || pattern.size() > 4096) return false;
  pattern.remove_prefix(kBegin.size());
  pattern.remove_suffix(kEnd.size());
  const auto take = [&] {
    const text::CodePoint first = text::FirstCodePoint(pattern);
    pattern.remove_prefix(first.bytes);
    return first.value;
  };
  std::vector<bool> listed(0x110000);
  while (!pattern.empty()) {
    const uint32_t first = take();
    uint32_t last = first;
    if (pattern.starts_with('-')) {
      pattern.remove_prefix(1);
      if (pattern.empty()) return false;
      last = take();
    }
    for (uint32_t c = first; c <= last; ++c) listed[c] = true;
  }
  for (uint32_t c = 0; c < listed.size(); ++c) {
    if (listed[c] != (text::ClassOf(c) == text::UnicodeClass::kCasedLetter)) return false;
  }
  return true;
}

// The expression by which a step divides; nothing for a step that is not known.
std::optional<std::string> PatternOf(const json& step) {
  const std::string type = TypeOfStep(step);
  if (type == "Digits") {
    return std::string(step.value("individual_digits", json(false)) == true ? kNumber : kNumbers);
  }
  if (type == "Punctuation" && step.value("behavior", json("Isolated")) == "Contiguous") {
    return std::string(kPunctuation);
  }
  if (type != "Split") return std::nullopt;
  const json pattern = step.value("pattern", json());
  const json regex = pattern.is_object() ? pattern.value("Regex", json()) : json();
  if (!regex.is_string()) return std::nullopt;
  const std::string text = regex.get<std::string>();
  const json behavior = step.value("behavior", json());
  const bool invert = step.value("invert", json(false)) == true;
  // Where the expression leaves nothing between its matches, to remove what is not matched is the same.
  const bool leaves_nothing = text == kGpt2 || text == kLlama3 || text == kQwen2;
  if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert && leaves_nothing)) return std::nullopt;
  return IsCasedLetters(text) ? std::string(kCasedLetters) : text;
}

}  // namespace

bool IsByteLevel(std::span<const json* const> steps) {
  return std::ranges::any_of(steps, [](const json* step) { return TypeOfStep(*step) == "ByteLevel"; });
}

Expected<PreTokenizer> ReadPreTokenizer(std::span<const json* const> steps, const std::string& path) {
  constexpr std::string_view kWhere = "docs/tokenizer.md has the ways of dividing texts that are read";
  std::vector<std::string> patterns;
  bool after_letters = false;
  for (const json* step : steps) {
    const auto refuse = [&](std::string_view what) {
      return Sentence(fmt::format("{}: pre_tokenizer {} {}; {}", path, Quote(step->dump()), what, kWhere));
    };
    if (TypeOfStep(*step) == "ByteLevel") {
      if (after_letters) return refuse("is the second ByteLevel");
      after_letters = true;
      if (step->value("add_prefix_space", json(true)) != false) {
        return refuse("puts a space before a text (add_prefix_space), which is not supported");
      }
      if (step->value("use_regex", json(true)) != false) patterns.emplace_back(kGpt2);
      continue;
    }
    const std::optional<std::string> pattern = PatternOf(*step);
    // What comes after ByteLevel divides letters that stand for bytes; of these, digits are digits.
    if (!pattern || (after_letters && *pattern != kThreeDigits)) return refuse("is not read");
    patterns.push_back(*pattern);
  }
  for (const Shape& shape : Shapes()) {
    if (std::ranges::equal(shape.patterns, patterns)) return shape.pre;
  }
  return Sentence(fmt::format("{}: pre_tokenizer divides texts by {}, which together are not read; {}", path,
                              Quote(fmt::format("{}", fmt::join(patterns, " , then "))), kWhere));
}

}  // namespace thimble::host
