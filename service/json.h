// JSON (RFC 8259) for the service, the same on computers and on boards: a small face before a library. json_nlohmann.cc
// is over nlohmann's, json_cjson.cc over cJSON; a program links one of them, and the tests run with both.
#ifndef THIMBLE_SERVICE_JSON_H_
#define THIMBLE_SERVICE_JSON_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thimble::service {

enum class JsonType : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };

// Arrays and objects within each other, at most: what a parser or a destructor needs of the stack.
inline constexpr size_t kMaxJsonDepth = 24;

// One value of a JsonDocument, which outlives it.
class JsonView {
 public:
  JsonType type() const;
  // The value if it is of that type. An integer is a number without a fraction that int64 holds.
  std::optional<bool> AsBool() const;
  std::optional<double> AsNumber() const;
  std::optional<int64_t> AsInteger() const;
  std::optional<std::string_view> AsString() const;
  // Of an array, in its order; empty for all else.
  std::vector<JsonView> Elements() const;
  // Whether an array or an object has nothing in it.
  bool IsEmpty() const;
  // Of an object; of equal keys the last one. Nothing for all else.
  std::optional<JsonView> Find(std::string_view key) const;

 private:
  friend class JsonDocument;
  explicit JsonView(const void* node) : node_(node) {}
  const void* node_;  // the library's
};

// A text, parsed.
class JsonDocument {
 public:
  // Nothing if it is no JSON text of UTF-8, is deeper than kMaxJsonDepth, or spells the character U+0000.
  static std::optional<JsonDocument> Parse(std::string_view text);
  JsonDocument(JsonDocument&& o) noexcept : node_(o.node_) { o.node_ = nullptr; }
  JsonDocument& operator=(JsonDocument&&) = delete;
  ~JsonDocument();

  JsonView root() const { return JsonView(node_); }

 private:
  explicit JsonDocument(void* node) : node_(node) {}
  void* node_;
};

// A value that is being made.
class JsonValue {
 public:
  JsonValue();                       // null
  JsonValue(std::string_view text);  // NOLINT: a value like any other; bytes that are not UTF-8 become U+FFFD
  JsonValue(const std::string& text) : JsonValue(std::string_view(text)) {}  // NOLINT
  JsonValue(const char* text) : JsonValue(std::string_view(text)) {}         // NOLINT
  JsonValue(bool value);                                                     // NOLINT
  JsonValue(int64_t value);                                                  // NOLINT
  JsonValue(uint64_t value) : JsonValue(static_cast<int64_t>(value)) {}      // NOLINT
  JsonValue(uint32_t value) : JsonValue(int64_t{value}) {}                   // NOLINT
  JsonValue(int value) : JsonValue(int64_t{value}) {}                        // NOLINT
  JsonValue(double value);                                                   // NOLINT: null if it is not finite
  static JsonValue Object();
  static JsonValue Array();

  JsonValue(JsonValue&& o) noexcept : node_(o.node_) { o.node_ = nullptr; }
  JsonValue& operator=(JsonValue&& o) noexcept;
  ~JsonValue();

  // Of an object, in the order in which they are set; each key once.
  JsonValue& Set(std::string_view key, JsonValue value);
  // Of an array.
  JsonValue& Add(JsonValue value);

  // One line of ASCII or UTF-8.
  std::string Dump() const;

 private:
  struct Taken {};
  JsonValue(Taken, void* node) : node_(node) {}
  void* node_;
};

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_JSON_H_
