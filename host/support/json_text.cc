#include "host/support/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

namespace thimble::host {
namespace {

using nlohmann::json;

// Builds the document, and looks at what it would no longer show.
class Builder : public nlohmann::json_sax<json> {
 public:
  Builder(const std::string& path, std::span<const JsonStream> streams) : path_(path), streams_(streams) {}

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return true; }  // JSON has none
  bool start_object(std::size_t) override { return Enter(json::object()); }
  bool end_object() override { return Leave(); }
  bool start_array(std::size_t) override { return Enter(json::array()); }
  bool end_array() override { return Leave(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    if (level.stream == nullptr && level.value.contains(name)) {
      return Stop(fmt::format("{}: the key \"{}\" stands there twice", path_, Quote(name)));
    }
    level.key = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Stop(fmt::format("{} is not JSON: see byte {}", path_, position));
  }

  const std::string& sentence() const { return sentence_; }
  json& document() { return document_; }

 private:
  // An object or array that is not complete yet.
  struct Level {
    json value;
    std::string key;  // of the member that comes next
    const JsonStream* stream = nullptr;
  };

  bool Enter(json value) {
    constexpr size_t kMaxDepth = 64;
    if (levels_.size() == kMaxDepth) return Stop(fmt::format("{} is nested deeper than {} levels", path_, kMaxDepth));
    const auto is_here = [&](const JsonStream& stream) {
      return levels_.size() == 2 && levels_[0].key == stream.object && levels_[1].key == stream.key;
    };
    const auto stream = std::ranges::find_if(streams_, is_here);
    levels_.push_back({.value = std::move(value), .key = {}, .stream = stream == streams_.end() ? nullptr : &*stream});
    return true;
  }

  bool Leave() {
    json value = std::move(levels_.back().value);
    levels_.pop_back();
    return Add(std::move(value));
  }

  bool Add(json value) {
    if (levels_.empty()) {
      document_ = std::move(value);
      return true;
    }
    Level& level = levels_.back();
    if (level.stream != nullptr) {
      const Status taken = level.stream->take(level.key, value);
      return taken || Stop(taken.error());
    }
    if (level.value.is_array()) {
      level.value.push_back(std::move(value));
    } else {
      level.value[level.key] = std::move(value);
    }
    return true;
  }

  bool Stop(std::string sentence) {
    sentence_ = std::move(sentence);
    return false;
  }

  const std::string& path_;
  std::span<const JsonStream> streams_;
  std::vector<Level> levels_;
  json document_;
  std::string sentence_;
};

}  // namespace

Expected<json> ParseJsonObject(std::string_view text, const std::string& path, std::span<const JsonStream> streams) {
  Builder builder(path, streams);
  if (!json::sax_parse(text, &builder)) return Sentence(builder.sentence());
  if (!builder.document().is_object()) return Sentence(fmt::format("{} does not hold a JSON object", path));
  return std::move(builder.document());
}

const nlohmann::json* JsonKeys::Find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool JsonKeys::IsNull(const char* key) const {
  const auto found = object_.find(key);
  return found != object_.end() && found->is_null();
}

std::unexpected<std::string> JsonKeys::Refuse(const char* key, std::string_view what) const {
  return Sentence(fmt::format("{}: {} {}", path_, key, what));
}

Expected<std::optional<uint32_t>> JsonKeys::Size(const char* key, uint32_t max) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_unsigned() || value->get<uint64_t>() == 0 || value->get<uint64_t>() > max) {
    return Refuse(key, fmt::format("must be a whole number of 1 to {}, not {}", max, Quote(value->dump())));
  }
  return static_cast<uint32_t>(value->get<uint64_t>());
}

Expected<uint32_t> JsonKeys::RequiredSize(const char* key, uint32_t max) const {
  THIMBLE_ASSIGN(const std::optional<uint32_t> size, Size(key, max));
  if (!size) return Sentence(fmt::format("{} has no {}", path_, key));
  return *size;
}

Expected<bool> JsonKeys::Flag(const char* key, bool otherwise) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) return Refuse(key, fmt::format("must be true or false, not {}", Quote(value->dump())));
  return value->get<bool>();
}

Expected<std::optional<std::string>> JsonKeys::Text(const char* key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return Refuse(key, fmt::format("must be a text, not {}", Quote(value->dump())));
  return value->get<std::string>();
}

Expected<std::optional<double>> JsonKeys::Positive(const char* key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) {
    const auto number = value->get<double>();
    if (number >= double{std::numeric_limits<float>::min()} && number <= double{std::numeric_limits<float>::max()}) {
      return number;
    }
  }
  return Refuse(key, fmt::format("must be a positive number, not {}", Quote(value->dump())));
}

}  // namespace thimble::host
