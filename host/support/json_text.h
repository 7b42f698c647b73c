// JSON from a file, read strictly.
#ifndef THIMBLE_HOST_SUPPORT_JSON_TEXT_H_
#define THIMBLE_HOST_SUPPORT_JSON_TEXT_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "host/support/errors.h"

namespace thimble::host {

// A part of a document that is too large to keep: an object or array whose members are handed out one by one.
struct JsonStream {
  std::string_view object, key;  // of an object at the top, and in that: {"model": {"vocab": {...}}}
  // Called with each member, in their order; `name` is empty for an array's. What fails ends the parsing.
  std::function<Status(const std::string& name, const nlohmann::json& member)> take;
};

// Parses `text` (RFC 8259, UTF-8), an object. Refused, with `path` in the sentence: what is not JSON, an object that
// has one key twice, nesting deeper than 64, anything but an object at the top. What `streams` took stands there empty,
// an object or an array; that no key of it is there twice is up to who takes them.
Expected<nlohmann::json> ParseJsonObject(std::string_view text, const std::string& path,
                                         std::span<const JsonStream> streams = {});

// Typed access to the keys of one object; sentences start with `path`. A key that is null reads as one that is absent.
// Refers to both, which must outlive it.
class JsonKeys {
 public:
  JsonKeys(const nlohmann::json& object, const std::string& path) : object_(object), path_(path) {}

  const std::string& path() const { return path_; }

  const nlohmann::json* Find(const char* key) const;
  // Whether it is there and null, which Find() does not tell from not there.
  bool IsNull(const char* key) const;

  // "PATH: KEY WHAT".
  std::unexpected<std::string> Refuse(const char* key, std::string_view what) const;

  // A whole number of 1 to `max`.
  Expected<std::optional<uint32_t>> Size(const char* key, uint32_t max) const;
  Expected<uint32_t> RequiredSize(const char* key, uint32_t max) const;

  Expected<bool> Flag(const char* key, bool otherwise) const;

  Expected<std::optional<std::string>> Text(const char* key) const;

  // A positive number that float32 can hold.
  Expected<std::optional<double>> Positive(const char* key) const;

 private:
  const nlohmann::json& object_;
  const std::string& path_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_JSON_TEXT_H_
