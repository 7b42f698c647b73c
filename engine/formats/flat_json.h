// Reading the members of one JSON object, one after the other, in a few hundred bytes of memory.
//
// Grammar: RFC 8259. Values that are objects or arrays are checked and passed over: who wants one can only be told that
// it is there. UTF-8 is not checked: bytes above 0x7F stand for themselves.
#ifndef THIMBLE_ENGINE_FORMATS_FLAT_JSON_H_
#define THIMBLE_ENGINE_FORMATS_FLAT_JSON_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "engine/base/error.h"
#include "engine/storage/file_reader.h"

namespace thimble::formats {

// Longest key, string and number that is kept, in bytes.
inline constexpr size_t kMaxJsonTextBytes = 64;

// Deepest nesting of a value that is passed over.
inline constexpr int kMaxJsonDepth = 32;

// Up to kMaxJsonTextBytes of a text whose escapes are undone.
struct JsonText {
  std::array<char, kMaxJsonTextBytes> chars = {};
  size_t size = 0;
  bool is_cut = false;  // the text is longer; it equals nothing

  std::string_view view() const { return {chars.data(), size}; }
  bool operator==(std::string_view other) const { return !is_cut && view() == other; }
};

struct JsonMember {
  enum class Type : uint8_t { kNull, kFalse, kTrue, kNumber, kString, kNested };

  JsonText key;
  Type type = Type::kNull;
  JsonText text;  // kString: the string; kNumber: the number as it is spelt, never cut

  // The number, if it is one without sign, fraction and exponent that fits.
  std::optional<uint64_t> Integer() const;
  // The number, if it is one: ParseDecimal().
  std::optional<double> Number() const;
};

// Reads a number as RFC 8259 spells it, correctly rounded: the double that is nearest to the exact decimal value, the
// even one of two. None for what is no such number, has more than 40 significant digits or, unless it is 0, lies
// outside 1e-60 to 1e60. The same double as strtod() and Python's float() give; rounding it once more, to float32, is
// what they and PyTorch make of a number in a config.json.
std::optional<double> ParseDecimal(std::string_view text);

// Reads the text that begins where `bytes` stands and is `size_bytes` long. A byte order mark before it is passed over.
class FlatJsonReader {
 public:
  // `bytes` must outlive this, and is used by nobody else while members are read.
  FlatJsonReader(storage::ByteReader& bytes, uint64_t size_bytes)
      : bytes_(bytes), left_(size_bytes), size_bytes_(size_bytes) {}

  // Reads the next member; false after the last, when nothing but white space is left. The same key may come twice:
  // that is the caller's to see. Fails with kCorrupt, naming the byte of the text in `offset`, where the text is no
  // JSON object, with kUnsupported for a number longer than kMaxJsonTextBytes and nesting deeper than kMaxJsonDepth,
  // and as `bytes` fails; the sentences want the text's name as the error's. After a failure or false there is nothing
  // more to read.
  Result<bool> Next(JsonMember& member);

 private:
  using Type = JsonMember::Type;

  std::unexpected<Error> Bad() const;
  Result<int> Peek();  // -1 at the end
  Result<int> Take();
  Result<int> TakePastSpace();
  Result<void> Expect(char wanted);
  Result<void> ReadString(JsonText& text);
  Result<uint32_t> ReadEscape();
  Result<uint32_t> ReadFourHexDigits();
  Result<void> ReadNumber(char first, JsonText& text);
  Result<void> ReadDigits(JsonText& text);
  Result<Type> ReadScalar(int first, JsonText& text);
  Result<void> SkipNested(int first);

  storage::ByteReader& bytes_;
  uint64_t left_;
  uint64_t size_bytes_;
  int peeked_ = kNothing;
  bool begun_ = false;

  static constexpr int kEnd = -1;
  static constexpr int kNothing = -2;
};

}  // namespace thimble::formats

#endif  // THIMBLE_ENGINE_FORMATS_FLAT_JSON_H_
