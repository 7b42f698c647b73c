#include "engine/text/jinja_shape.h"

namespace thimble::text {
namespace {

using Type = JinjaPart::Type;

constexpr size_t kNone = std::string_view::npos;

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

bool IsWord(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<uint8_t>(c) >= 0x80;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsQuote(char c) { return c == '\'' || c == '"'; }

size_t WordBytes(std::string_view text) {
  size_t n = 0;
  while (n < text.size() && IsWord(text[n])) ++n;
  return n;
}

// Words that are no values.
bool IsOperatorWord(std::string_view word) {
  constexpr std::string_view kWords[] = {"if", "else", "and", "or", "not", "in", "is", "elif", "for", "recursive"};
  for (const std::string_view one : kWords) {
    if (word == one) return true;
  }
  return false;
}

JinjaPart Part(Type type, std::string_view token = {}) { return {.type = type, .token = token}; }
JinjaPart Character(Type type, char c) { return {.type = type, .character = c}; }

}  // namespace

JinjaReader::JinjaReader(std::string_view text) : text_(text) {
  // Jinja drops one line feed at the end.
  if (text_.ends_with('\n')) text_.remove_suffix(1);
  if (text_.ends_with('\r')) text_.remove_suffix(1);
  BeginData();
}

void JinjaReader::BeginData() {
  place_ = Place::kData;
  tag_ = kNone;
  for (size_t at = pos_; at + 1 < text_.size(); ++at) {
    const char next = text_[at + 1];
    if (text_[at] != '{' || (next != '{' && next != '%' && next != '#')) continue;
    tag_ = at;
    break;
  }
  data_end_ = tag_ == kNone ? text_.size() : tag_;
  if (tag_ == kNone) return;
  const char sign = tag_ + 2 < text_.size() ? text_[tag_ + 2] : '\0';
  size_t end = data_end_;
  if (sign == '-') {
    while (end > pos_ && IsSpace(text_[end - 1])) --end;
    data_end_ = end;
  } else if (sign != '+' && text_[tag_ + 1] != '{') {
    while (end > pos_ && IsSpace(text_[end - 1]) && text_[end - 1] != '\n') --end;
    if (end == 0 || text_[end - 1] == '\n') data_end_ = end;
  }
}

void JinjaReader::SkipSpace() {
  while (pos_ < text_.size() && IsSpace(text_[pos_])) ++pos_;
}

bool JinjaReader::IsAtClose(std::string_view close) const {
  std::string_view rest = text_.substr(pos_);
  if (rest.starts_with('-') || (rest.starts_with('+') && close[0] == '%')) rest.remove_prefix(1);
  return rest.starts_with(close);
}

// Past what IsAtClose() saw.
void JinjaReader::Close(bool is_block) {
  const char sign = text_[pos_];
  pos_ += sign == '-' || sign == '+' ? 3 : 2;
  if (sign == '-') {
    SkipSpace();
  } else if (is_block && sign != '+') {
    if (text_.substr(pos_).starts_with("\r\n")) ++pos_;
    if (text_.substr(pos_).starts_with('\n')) ++pos_;
  }
  BeginData();
}

JinjaPart JinjaReader::Bad() {
  place_ = Place::kBad;
  return Part(Type::kBad);
}

// Whether {{ }} has values and strings only, with + and ~ between them, so that each is put out by itself.
bool JinjaReader::IsSum() const {
  enum class Before : uint8_t { kOperator, kValue, kLiteral, kGroup };
  Before before = Before::kOperator;
  uint64_t is_call = 0;  // of the open parentheses, the innermost in the lowest bit
  uint32_t open = 0;
  uint32_t calls = 0;
  for (size_t at = pos_; at < text_.size();) {
    const char c = text_[at];
    const std::string_view rest = text_.substr(at);
    if (IsSpace(c)) {
      ++at;
    } else if (rest.starts_with("}}") || rest.starts_with("-}}")) {
      return open == 0 && before != Before::kOperator;
    } else if (IsQuote(c)) {
      if (before != Before::kOperator) return false;
      for (++at; at < text_.size() && text_[at] != c; ++at) {
        if (text_[at] == '\\') ++at;
      }
      ++at;
      before = calls == 0 ? Before::kLiteral : Before::kValue;
    } else if (IsWord(c)) {
      const std::string_view word = rest.substr(0, WordBytes(rest));
      if (IsOperatorWord(word) || before != Before::kOperator || (calls == 0 && IsDigit(c))) return false;
      at += word.size();
      before = Before::kValue;
    } else if (c == '(' || c == '[') {
      const bool is_of_value = before == Before::kValue;
      if (open == 64 || (c == '[' && !is_of_value) || (!is_of_value && calls != 0)) return false;
      is_call = is_call << 1 | (is_of_value ? 1 : 0);
      ++open;
      calls += is_of_value ? 1 : 0;
      before = Before::kOperator;
      ++at;
    } else if (c == ')' || c == ']') {
      if (open == 0) return false;
      const bool was_call = (is_call & 1) != 0;
      if (!was_call && (c == ']' || before == Before::kOperator)) return false;
      is_call >>= 1;
      --open;
      calls -= was_call ? 1 : 0;
      before = was_call ? Before::kValue : Before::kGroup;
      ++at;
    } else if (c == '.' || c == '|') {
      if (before != Before::kValue) return false;
      before = Before::kOperator;
      ++at;
    } else if (c == '+' || c == '~') {
      if (before == Before::kOperator) return false;
      before = Before::kOperator;
      ++at;
    } else if (calls != 0 && (c == ',' || c == ':' || c == '-')) {
      before = Before::kOperator;
      ++at;
    } else {
      return false;
    }
  }
  return false;
}

std::optional<JinjaPart> JinjaReader::OpenTag() {
  const char kind = text_[tag_ + 1];
  pos_ = tag_ + 2;
  if (pos_ < text_.size() && (text_[pos_] == '-' || text_[pos_] == '+')) ++pos_;
  depth_ = 0;
  in_operand_ = after_value_ = false;
  if (kind == '#') {
    const size_t end = text_.find("#}", pos_);
    if (end == kNone) return Bad();
    pos_ = end > pos_ && (text_[end - 1] == '-' || text_[end - 1] == '+') ? end - 1 : end;
    Close(/*is_block=*/true);
    return std::nullopt;
  }
  if (kind == '%') {
    SkipSpace();
    const std::string_view word = text_.substr(pos_, WordBytes(text_.substr(pos_)));
    pos_ += word.size();
    place_ = Place::kTag;
    return Part(Type::kTag, word);
  }
  place_ = IsSum() ? Place::kSum : Place::kOther;
  if (place_ == Place::kOther) return Part(Type::kEmit);
  return std::nullopt;
}

// Inside of a string; its end is taken, too.
JinjaPart JinjaReader::StringPart() {
  if (pos_ == text_.size()) return Bad();
  if (text_[pos_] == quote_) {
    ++pos_;
    quote_ = 0;
    after_value_ = true;
    return Part(Type::kStringEnd);
  }
  const char c = text_[pos_++];
  if (c != '\\') return Character(Type::kStringChar, c);
  if (pos_ == text_.size()) return Bad();
  const char escaped = text_[pos_++];
  switch (escaped) {
    case 'n':
      return Character(Type::kStringChar, '\n');
    case 't':
      return Character(Type::kStringChar, '\t');
    case 'r':
      return Character(Type::kStringChar, '\r');
    case '\\':
    case '\'':
    case '"':
      return Character(Type::kStringChar, escaped);
    default:  // Python's others, which no known template has
      return Bad();
  }
}

// ["name"], which is .name.
bool JinjaReader::TakeQuotedName(std::string_view& name) {
  std::string_view rest = text_.substr(pos_ + 1);
  if (rest.empty() || !IsQuote(rest[0])) return false;
  const char quote = rest[0];
  rest.remove_prefix(1);
  const size_t bytes = WordBytes(rest);
  if (bytes == 0 || IsDigit(rest[0]) || bytes + 1 >= rest.size() || rest[bytes] != quote || rest[bytes + 1] != ']') {
    return false;
  }
  name = rest.substr(0, bytes);
  pos_ += bytes + 4;
  return true;
}

// .strip(), which is |trim.
bool JinjaReader::TakeStrip() {
  constexpr std::string_view kStrip = ".strip()";
  if (!text_.substr(pos_).starts_with(kStrip)) return false;
  pos_ += kStrip.size();
  return true;
}

JinjaPart JinjaReader::Token() {
  if (!held_.empty()) {
    const std::string_view token = held_;
    held_ = {};
    after_value_ = true;
    return Part(Type::kToken, token);
  }
  if (pos_ == text_.size()) return Bad();
  const char c = text_[pos_];
  const std::string_view rest = text_.substr(pos_);
  if (IsQuote(c)) {
    quote_ = c;
    ++pos_;
    return Part(Type::kString);
  }
  if (IsWord(c)) {
    const std::string_view word = rest.substr(0, WordBytes(rest));
    pos_ += word.size();
    after_value_ = !IsOperatorWord(word);
    return Part(Type::kToken, word);
  }
  if (c == '[' && after_value_ && TakeQuotedName(held_)) return Part(Type::kToken, ".");
  if (c == '.' && TakeStrip()) {
    held_ = "trim";
    return Part(Type::kToken, "|");
  }
  if (c == '(' || c == '[') ++depth_;
  if ((c == ')' || c == ']') && depth_ != 0) --depth_;
  after_value_ = c == ')' || c == ']';
  constexpr std::string_view kTwo[] = {"==", "!=", "<=", ">=", "//", "**"};
  size_t bytes = 1;
  for (const std::string_view two : kTwo) {
    if (rest.starts_with(two)) bytes = 2;
  }
  pos_ += bytes;
  return Part(Type::kToken, rest.substr(0, bytes));
}

JinjaPart JinjaReader::Next() {
  while (true) {
    if (const std::optional<JinjaPart> part = Step()) return *part;
  }
}

// The next part, or nothing yet.
std::optional<JinjaPart> JinjaReader::Step() {
  if (place_ == Place::kBad) return Part(Type::kBad);
  if (place_ == Place::kLiteral) {
    const JinjaPart part = StringPart();
    if (part.type == Type::kStringChar) return Character(Type::kChar, part.character);
    if (part.type == Type::kBad) return part;
    place_ = Place::kSum;
    return std::nullopt;
  }
  if (quote_ != 0) return StringPart();
  if (place_ == Place::kData) {
    if (pos_ == data_end_) return tag_ == kNone ? Part(Type::kEnd) : OpenTag();
    const char c = text_[pos_++];
    if (c == '\r' && pos_ < data_end_ && text_[pos_] == '\n') return std::nullopt;
    return Character(Type::kChar, c);
  }
  if (!held_.empty()) return Token();
  SkipSpace();
  if (pos_ == text_.size()) return Bad();
  const bool is_block = place_ == Place::kTag;
  if (place_ != Place::kSum) {
    if (!IsAtClose(is_block ? "%}" : "}}")) return Token();
    Close(is_block);
    return Part(is_block ? Type::kTagEnd : Type::kEmitEnd);
  }

  const char c = text_[pos_];
  const bool is_close = depth_ == 0 && IsAtClose("}}");
  const bool is_plus = !is_close && depth_ == 0 && (c == '+' || c == '~');
  if ((is_close || is_plus) && in_operand_) {
    in_operand_ = false;
    return Part(Type::kEmitEnd);
  }
  if (is_close) {
    Close(/*is_block=*/false);
    return std::nullopt;
  }
  if (is_plus || (depth_ == 0 && (c == ')' || (c == '(' && !after_value_)))) {
    after_value_ = false;
    ++pos_;
    return std::nullopt;
  }
  if (in_operand_) return Token();
  if (IsQuote(c)) {
    quote_ = c;
    ++pos_;
    place_ = Place::kLiteral;
    return std::nullopt;
  }
  in_operand_ = true;
  after_value_ = false;
  return Part(Type::kEmit);
}

namespace {

// Past the body of a branch: `part`, the first of it, becomes the tag that ends it.
void SkipBody(JinjaReader& reader, JinjaPart& part) {
  for (uint32_t depth = 0; part.type != Type::kEnd && part.type != Type::kBad; part = reader.Next()) {
    if (part.type != Type::kTag) continue;
    const std::string_view word = part.token;
    const bool ends = word.starts_with("end");
    if (depth == 0 && (ends || word == "else" || word == "elif")) return;
    if (ends) --depth;
    if (word == "if" || word == "for" || word == "macro" || word == "call" || word == "filter" || word == "with") {
      ++depth;
    }
  }
}

}  // namespace

bool IsSameJinja(std::string_view known, std::string_view given, JinjaHole& hole) {
  JinjaReader known_reader(known);
  JinjaReader given_reader(given);
  hole.size = 0;
  JinjaPart a = known_reader.Next();
  JinjaPart b = given_reader.Next();
  while (true) {
    if (a.type == Type::kChar && a.character == kAnyText) {
      a = known_reader.Next();
      for (; b.type == Type::kChar && b.character != a.character; b = given_reader.Next()) {
        if (hole.size == hole.chars.size()) return false;
        hole.chars[hole.size++] = b.character;
      }
    } else if (a.type == Type::kChar && a.character == kAnyBody) {
      a = known_reader.Next();
      SkipBody(given_reader, b);
    } else if (a.type == Type::kStringChar && a.character == kAnyText) {
      a = known_reader.Next();
      while (b.type == Type::kStringChar) b = given_reader.Next();
    }
    if (a != b || a.type == Type::kBad) return false;
    if (a.type == Type::kEnd) return true;
    a = known_reader.Next();
    b = given_reader.Next();
  }
}

}  // namespace thimble::text
