// Whether two Jinja templates say the same: a reader of their text that leaves out how it is written.
//
// Jinja 3's lexer (https://jinja.palletsprojects.com/templates), with trim_blocks and lstrip_blocks as transformers
// sets them for chat templates. Nothing is evaluated.
#ifndef THIMBLE_ENGINE_TEXT_JINJA_SHAPE_H_
#define THIMBLE_ENGINE_TEXT_JINJA_SHAPE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace thimble::text {

// Part of a template, in the order in which they stand.
struct JinjaPart {
  enum class Type : uint8_t {
    kEnd,      // of the template
    kBad,      // a tag or a string has no end; nothing follows
    kChar,     // `character` is put out: text between tags, or of a string in {{ }}
    kEmit,     // an operand of {{ }} that is no string begins: its tokens follow
    kEmitEnd,  // and ends
    kTag,      // {% begins; `token` is its first word
    kTagEnd,
    kToken,       // a word, a number, an operator
    kString,      // a string inside of a tag begins
    kStringChar,  // `character` of it
    kStringEnd,
  };
  Type type = Type::kEnd;
  char character = 0;
  std::string_view token = {};

  bool operator==(const JinjaPart&) const = default;
};

// Templates that give the same parts put out the same text for everything. The same are: x["a"] and x.a, x.strip() and
// x|trim, "a" + "b" and "a" ~ "b" and "ab" and text outside of tags, parentheses around such sums, comments, white
// space that Jinja drops. Parts are read one by one, in time that is linear in the text, without memory.
class JinjaReader {
 public:
  // `text` outlives this and the tokens.
  explicit JinjaReader(std::string_view text);

  JinjaPart Next();

 private:
  enum class Place : uint8_t { kData, kTag, kSum, kOther, kLiteral, kBad };

  void BeginData();
  void SkipSpace();
  bool IsAtClose(std::string_view close) const;
  void Close(bool is_block);
  bool IsSum() const;
  JinjaPart Bad();
  std::optional<JinjaPart> Step();
  std::optional<JinjaPart> OpenTag();
  JinjaPart Token();
  JinjaPart StringPart();
  bool TakeQuotedName(std::string_view& name);
  bool TakeStrip();

  std::string_view text_;
  size_t pos_ = 0;
  size_t data_end_ = 0;  // of the text between tags that is put out
  size_t tag_ = 0;       // where the next tag begins; npos: none
  Place place_ = Place::kData;
  char quote_ = 0;              // of the string that is being read; 0: none
  uint32_t depth_ = 0;          // of calls and subscripts in a sum
  bool in_operand_ = false;     // kEmit without its kEmitEnd
  bool after_value_ = false;    // so that [ and ( are of it
  std::string_view held_ = {};  // the next token
};

// What a hole of a known template took.
struct JinjaHole {
  std::array<char, 320> chars = {};
  size_t size = 0;

  std::string_view view() const { return {chars.data(), size}; }
};

// In a known template, where others may have anything: a text up to the character that the known one has next, or the
// inside of a string in a tag; the body of a branch that is never taken, tags in it included.
inline constexpr char kAnyText = '`';
inline constexpr char kAnyBody = '^';

// Whether `given` says the same as `known`, which has such marks. `hole` has then what stood for kAnyText between tags;
// it must have room for it.
bool IsSameJinja(std::string_view known, std::string_view given, JinjaHole& hole);

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_JINJA_SHAPE_H_
