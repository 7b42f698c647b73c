#include "firmware/app/command_line.h"

#include <algorithm>

#include "engine/formats/flat_json.h"

namespace thimble::firmware {
namespace {

bool IsBlank(char c) { return c == ' ' || c == '\t'; }
bool IsControl(char c) { return (static_cast<unsigned char>(c) < ' ' && c != '\t') || c == '\x7f'; }

std::unexpected<Error> Refuse(const char* what) { return Fail({.code = Code::kInvalidArgument, .what = what}); }

}  // namespace

Error LineTooLong(uint64_t bytes) {
  return {.code = Code::kInvalidArgument,
          .what = "a line of {have} bytes is longer than the {need} that can be typed",
          .have = bytes,
          .need = kMaxLineBytes};
}

Result<void> CommandLine::Parse(std::string_view line) {
  num_words_ = 0;
  line_bytes_ = 0;
  while (!line.empty() && IsBlank(line.back()) && !line.ends_with("\\ ")) line.remove_suffix(1);
  if (line.size() > kMaxLineBytes) return Fail(LineTooLong(line.size()));
  if (std::ranges::any_of(line, IsControl)) return Refuse("the line has a control character in it");
  std::ranges::copy(line, line_.begin());
  line_bytes_ = line.size();

  size_t out = 0, num_words = 0;
  for (size_t i = 0; i < line.size();) {
    if (IsBlank(line[i])) {
      ++i;
      continue;
    }
    const size_t begin = out, typed_begin = i;
    bool is_quoted = false;
    for (; i < line.size() && (is_quoted || !IsBlank(line[i])); ++i) {
      char c = line[i];
      if (c == '"') {
        is_quoted = !is_quoted;
        continue;
      }
      if (c == '\\') {
        if (++i == line.size()) return Refuse("the line ends with a backslash: it needs a character after it");
        c = line[i] == 'n' ? '\n' : line[i] == 't' ? '\t' : line[i];
      }
      text_[out++] = c;
    }
    if (is_quoted) return Refuse("a quote is not closed: end it with another \"");
    if (num_words == kMaxWords) continue;
    words_[num_words++] = {static_cast<uint16_t>(begin), static_cast<uint16_t>(out),
                           static_cast<uint16_t>(typed_begin)};
  }
  num_words_ = num_words;
  return {};
}

std::string_view CommandLine::word(size_t i) const {
  if (i >= num_words_) return {};
  return {text_.data() + words_[i].begin, size_t{words_[i].end} - words_[i].begin};
}

std::string_view CommandLine::RestFrom(size_t i) const {
  if (i >= num_words_) return {};
  if (i + 1 == num_words_) return word(i);
  return {line_.data() + words_[i].typed_begin, line_bytes_ - words_[i].typed_begin};
}

std::optional<int64_t> ParseWhole(std::string_view text, int64_t least, int64_t most) {
  const bool is_negative = text.starts_with('-');
  if (is_negative) text.remove_prefix(1);
  if (text.empty()) return std::nullopt;
  int64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    const int digit = is_negative ? '0' - c : c - '0';
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit, &value)) return std::nullopt;
  }
  if (value < least || value > most) return std::nullopt;
  return value;
}

std::optional<float> ParseFloat(std::string_view text) {
  const std::optional<double> value = formats::ParseDecimal(text);
  if (!value || !(*value >= -1e30 && *value <= 1e30)) return std::nullopt;
  return static_cast<float>(*value);
}

}  // namespace thimble::firmware
