#include "engine/formats/flat_json.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <span>

#include "engine/base/exact.h"

namespace thimble::formats {
namespace {

constexpr size_t kMaxDigits = 40;
constexpr int kMaxExponent = 60;  // of the value's first digit

bool IsDigit(int c) { return c >= '0' && c <= '9'; }

void Append(char c, JsonText& text) {
  if (text.size == text.chars.size()) {
    text.is_cut = true;
    return;
  }
  text.chars[text.size++] = c;
}

void AppendUtf8(uint32_t c, JsonText& text) {
  const int tail = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr std::array<uint32_t, 4> kLead = {0, 0xC0, 0xE0, 0xF0};
  Append(static_cast<char>(kLead[static_cast<size_t>(tail)] | c >> (6 * tail)), text);
  for (int i = tail - 1; i >= 0; --i) Append(static_cast<char>(0x80 | (c >> (6 * i) & 0x3F)), text);
}

// A natural number below 2^512, which is more than any of the below comes to.
class Natural {
 public:
  explicit Natural(uint32_t value) : words_{value} {}

  // *this = *this * factor + addend.
  void MultiplyAdd(uint32_t factor, uint32_t addend) {
    uint64_t carry = addend;
    for (uint32_t& word : words_) {
      carry += uint64_t{word} * factor;
      word = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
  }
  void Subtract(const Natural& other) {
    uint64_t borrow = 0;
    for (size_t i = 0; i < words_.size(); ++i) {
      const uint64_t difference = uint64_t{words_[i]} - other.words_[i] - borrow;
      words_[i] = static_cast<uint32_t>(difference);
      borrow = difference >> 63;
    }
  }
  void ShiftLeft(int bits) {
    for (; bits >= 31; bits -= 31) MultiplyAdd(uint32_t{1} << 31, 0);
    MultiplyAdd(uint32_t{1} << bits, 0);
  }
  void Halve() {
    for (size_t i = 0; i + 1 < words_.size(); ++i) words_[i] = words_[i] >> 1 | words_[i + 1] << 31;
    words_.back() >>= 1;
  }
  bool IsLess(const Natural& other) const {
    return std::lexicographical_compare(words_.rbegin(), words_.rend(), other.words_.rbegin(), other.words_.rend());
  }
  bool IsZero() const { return BitCount() == 0; }
  int BitCount() const {
    for (size_t i = words_.size(); i > 0; --i) {
      if (words_[i - 1] != 0) return static_cast<int>(i) * 32 - std::countl_zero(words_[i - 1]);
    }
    return 0;
  }

 private:
  std::array<uint32_t, 16> words_;
};

// numerator / denominator, neither of them 0, to the nearest double; the result is known to be a normal number.
double Quotient(Natural numerator, Natural denominator) {
  constexpr int kBits = 53;
  // The quotient times 2^shift has 55 or 56 bits: those of a double, and some to round by.
  const int shift = 55 - (numerator.BitCount() - denominator.BitCount());
  (shift >= 0 ? numerator : denominator).ShiftLeft(shift >= 0 ? shift : -shift);
  constexpr int kMaxBits = 57;
  denominator.ShiftLeft(kMaxBits);
  uint64_t quotient = 0;
  for (int i = 0; i < kMaxBits; ++i) {
    denominator.Halve();
    quotient <<= 1;
    if (numerator.IsLess(denominator)) continue;
    numerator.Subtract(denominator);
    quotient |= 1;
  }
  const int extra = static_cast<int>(std::bit_width(quotient)) - kBits;
  const uint64_t rest = quotient & ((uint64_t{1} << extra) - 1);
  const uint64_t half = uint64_t{1} << (extra - 1);
  quotient >>= extra;
  const bool above_half = rest > half || (rest == half && !numerator.IsZero());
  if (above_half || (rest == half && (quotient & 1) != 0)) ++quotient;
  // quotient is in [2^52, 2^53]; adding it carries its highest bit into the exponent, whatever it was rounded to.
  const auto exponent = static_cast<uint64_t>(1023 + kBits - 1 + extra - shift - 1);
  return std::bit_cast<double>((exponent << (kBits - 1)) + quotient);
}

}  // namespace

std::optional<double> ParseDecimal(std::string_view text) {
  const bool is_negative = text.starts_with('-');
  if (is_negative) text.remove_prefix(1);
  const auto take = [&](std::string_view any_of) {
    const bool found = !text.empty() && any_of.find(text.front()) != any_of.npos;
    if (found) text.remove_prefix(1);
    return found;
  };
  Natural digits(0);
  size_t num_digits = 0;  // from the first that is not 0 on
  int exponent = 0;
  const auto take_digits = [&](bool is_fraction) {
    size_t n = 0;
    for (; !text.empty() && IsDigit(text.front()); ++n, text.remove_prefix(1)) {
      if (is_fraction && exponent > -1000) --exponent;
      if (num_digits == 0 && text.front() == '0') continue;
      if (++num_digits <= kMaxDigits) digits.MultiplyAdd(10, static_cast<uint32_t>(text.front() - '0'));
    }
    return n;
  };
  const bool starts_with_zero = text.starts_with('0');
  const size_t whole = take_digits(false);
  if (whole == 0 || (starts_with_zero && whole > 1)) return {};
  if (take(".") && take_digits(true) == 0) return {};
  if (take("eE")) {
    const bool is_minus = text.starts_with('-');
    take("+-");
    if (text.empty()) return {};
    int value = 0;
    for (; !text.empty() && IsDigit(text.front()); text.remove_prefix(1)) {
      value = std::min(value * 10 + (text.front() - '0'), 10000);
    }
    exponent += is_minus ? -value : value;
  }
  if (!text.empty() || num_digits > kMaxDigits) return {};
  if (num_digits == 0) return is_negative ? -0.0 : 0.0;
  const int first_digit = exponent + static_cast<int>(num_digits) - 1;
  if (first_digit < -kMaxExponent || first_digit >= kMaxExponent) return {};

  Natural denominator(1);
  for (; exponent > 0; --exponent) digits.MultiplyAdd(10, 0);
  for (; exponent < 0; ++exponent) denominator.MultiplyAdd(10, 0);
  const double value = Quotient(digits, denominator);
  return is_negative ? -value : value;
}

std::optional<uint64_t> JsonMember::Integer() const {
  if (type != Type::kNumber) return {};
  uint64_t value = 0;
  for (const char c : text.view()) {
    if (!IsDigit(c) || value > (std::numeric_limits<uint64_t>::max() - 9) / 10) return {};
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return value;
}

std::optional<double> JsonMember::Number() const {
  return type == Type::kNumber ? ParseDecimal(text.view()) : std::nullopt;
}

std::unexpected<Error> FlatJsonReader::Bad() const {
  return Fail({.code = Code::kCorrupt,
               .what = "{name} is no JSON object: byte {offset} of {need} is not what must stand there",
               .offset = size_bytes_ - left_,
               .need = size_bytes_});
}

Result<int> FlatJsonReader::Peek() {
  if (peeked_ != kNothing) return peeked_;
  if (left_ == 0) return peeked_ = kEnd;
  THIMBLE_ASSIGN(const uint8_t byte, bytes_.ReadLittleEndian<uint8_t>());
  --left_;
  return peeked_ = byte;
}

Result<int> FlatJsonReader::Take() {
  THIMBLE_ASSIGN(const int c, Peek());
  if (c != kEnd) peeked_ = kNothing;
  return c;
}

Result<int> FlatJsonReader::TakePastSpace() {
  while (true) {
    THIMBLE_ASSIGN(const int c, Take());
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return c;
  }
}

Result<void> FlatJsonReader::Expect(char wanted) {
  THIMBLE_ASSIGN(const int c, TakePastSpace());
  if (c != wanted) return Bad();
  return {};
}

Result<bool> FlatJsonReader::Next(JsonMember& member) {
  const bool is_first = !begun_;
  int c = 0;
  if (is_first) {
    begun_ = true;
    THIMBLE_ASSIGN(c, TakePastSpace());
    if (c == 0xEF && left_ + 1 == size_bytes_) {
      for (const int mark : {0xBB, 0xBF}) {
        THIMBLE_ASSIGN(c, Take());
        if (c != mark) return Bad();
      }
      THIMBLE_ASSIGN(c, TakePastSpace());
    }
    if (c != '{') return Bad();
  }
  THIMBLE_ASSIGN(c, TakePastSpace());
  if (c == '}') {
    THIMBLE_ASSIGN(c, TakePastSpace());
    if (c != kEnd) return Bad();
    return false;
  }
  if (!is_first) {
    if (c != ',') return Bad();
    THIMBLE_ASSIGN(c, TakePastSpace());
  }
  if (c != '"') return Bad();
  member = {};
  THIMBLE_TRY(ReadString(member.key));
  THIMBLE_TRY(Expect(':'));
  THIMBLE_ASSIGN(c, TakePastSpace());
  if (c == '{' || c == '[') {
    member.type = Type::kNested;
    THIMBLE_TRY(SkipNested(c));
    return true;
  }
  THIMBLE_ASSIGN(member.type, ReadScalar(c, member.text));
  return true;
}

// After the opening quotation mark.
Result<void> FlatJsonReader::ReadString(JsonText& text) {
  while (true) {
    THIMBLE_ASSIGN(const int c, Take());
    if (c == '"') return {};
    if (c < 0x20) return Bad();
    if (c != '\\') {
      Append(static_cast<char>(c), text);
      continue;
    }
    THIMBLE_ASSIGN(const uint32_t escaped, ReadEscape());
    AppendUtf8(escaped, text);
  }
}

// After the backslash.
Result<uint32_t> FlatJsonReader::ReadEscape() {
  THIMBLE_ASSIGN(const int c, Take());
  constexpr std::string_view kLetters = "\"\\/bfnrt";
  constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  if (c != 'u') {
    const size_t at = c < 0 ? kLetters.npos : kLetters.find(static_cast<char>(c));
    if (at == kLetters.npos) return Bad();
    return static_cast<uint32_t>(kMeanings[at]);
  }
  THIMBLE_ASSIGN(const uint32_t high, ReadFourHexDigits());
  if (high < 0xD800 || high > 0xDFFF) return high;
  THIMBLE_ASSIGN(const int backslash, Take());
  THIMBLE_ASSIGN(const int letter, Take());
  if (high > 0xDBFF || backslash != '\\' || letter != 'u') return Bad();
  THIMBLE_ASSIGN(const uint32_t low, ReadFourHexDigits());
  if (low < 0xDC00 || low > 0xDFFF) return Bad();
  return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

Result<uint32_t> FlatJsonReader::ReadFourHexDigits() {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    THIMBLE_ASSIGN(const int c, Take());
    const int lower = c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c;
    if (!IsDigit(c) && (lower < 'a' || lower > 'f')) return Bad();
    value = value << 4 | static_cast<uint32_t>(IsDigit(c) ? c - '0' : lower - 'a' + 10);
  }
  return value;
}

Result<void> FlatJsonReader::ReadDigits(JsonText& text) {
  THIMBLE_ASSIGN(int c, Peek());
  if (!IsDigit(c)) return Bad();
  while (IsDigit(c)) {
    Append(static_cast<char>(c), text);
    peeked_ = kNothing;
    THIMBLE_ASSIGN(c, Peek());
  }
  return {};
}

Result<void> FlatJsonReader::ReadNumber(char first, JsonText& text) {
  Append(first, text);
  if (first == '-') {
    THIMBLE_ASSIGN(const int c, Take());
    if (!IsDigit(c)) return Bad();
    first = static_cast<char>(c);
    Append(first, text);
  }
  THIMBLE_ASSIGN(int c, Peek());
  if (IsDigit(c)) {
    if (first == '0') return Bad();
    THIMBLE_TRY(ReadDigits(text));
    THIMBLE_ASSIGN(c, Peek());
  }
  if (c == '.') {
    Append('.', text);
    peeked_ = kNothing;
    THIMBLE_TRY(ReadDigits(text));
    THIMBLE_ASSIGN(c, Peek());
  }
  if (c == 'e' || c == 'E') {
    Append('e', text);
    peeked_ = kNothing;
    THIMBLE_ASSIGN(c, Peek());
    if (c == '+' || c == '-') {
      Append(static_cast<char>(c), text);
      peeked_ = kNothing;
    }
    THIMBLE_TRY(ReadDigits(text));
  }
  if (!text.is_cut) return {};
  return Fail({.code = Code::kUnsupported,
               .what = "{name} has a number of more than {need} characters before byte {offset}",
               .offset = size_bytes_ - left_,
               .need = kMaxJsonTextBytes});
}

// A string, number, true, false or null that begins with `first`, which is taken already.
Result<JsonMember::Type> FlatJsonReader::ReadScalar(int first, JsonText& text) {
  if (first == '"') {
    THIMBLE_TRY(ReadString(text));
    return Type::kString;
  }
  if (first == '-' || IsDigit(first)) {
    THIMBLE_TRY(ReadNumber(static_cast<char>(first), text));
    return Type::kNumber;
  }
  std::string_view rest;
  Type type = Type::kNull;
  if (first == 't') {
    rest = "rue";
    type = Type::kTrue;
  } else if (first == 'f') {
    rest = "alse";
    type = Type::kFalse;
  } else if (first == 'n') {
    rest = "ull";
  } else {
    return Bad();
  }
  for (const char wanted : rest) {
    THIMBLE_ASSIGN(const int c, Take());
    if (c != wanted) return Bad();
  }
  return type;
}

// What is left of an object or array whose bracket, `first`, is taken already.
Result<void> FlatJsonReader::SkipNested(int first) {
  uint64_t are_objects = 0;  // bit 0: of the innermost
  int depth = 0;
  int c = first;
  const auto closes = [&](int bracket) { return bracket == ((are_objects & 1) != 0 ? '}' : ']'); };
  while (true) {
    bool is_closed = false;
    if (c == '{' || c == '[') {
      if (depth == kMaxJsonDepth) {
        return Fail({.code = Code::kUnsupported,
                     .what = "{name} nests values more than {need} deep before byte {offset}",
                     .offset = size_bytes_ - left_,
                     .need = kMaxJsonDepth});
      }
      ++depth;
      are_objects = are_objects << 1 | (c == '{' ? 1 : 0);
      THIMBLE_ASSIGN(c, TakePastSpace());
      is_closed = closes(c);
    } else {
      JsonText ignored;
      THIMBLE_TRY(ReadScalar(c, ignored));
      THIMBLE_ASSIGN(c, TakePastSpace());
      is_closed = closes(c);
      if (!is_closed) {
        if (c != ',') return Bad();
        THIMBLE_ASSIGN(c, TakePastSpace());
      }
    }
    while (is_closed) {
      are_objects >>= 1;
      if (--depth == 0) return {};
      THIMBLE_ASSIGN(c, TakePastSpace());
      is_closed = closes(c);
      if (is_closed) continue;
      if (c != ',') return Bad();
      THIMBLE_ASSIGN(c, TakePastSpace());
    }
    if ((are_objects & 1) == 0) continue;
    if (c != '"') return Bad();
    JsonText ignored;
    THIMBLE_TRY(ReadString(ignored));
    THIMBLE_TRY(Expect(':'));
    THIMBLE_ASSIGN(c, TakePastSpace());
  }
}

}  // namespace thimble::formats
