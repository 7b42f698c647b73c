#include "host/support/json_text.h"

#include <fmt/format.h>

#include <limits>
#include <set>
#include <utility>
#include <vector>

namespace thimble::host {
namespace {

// Looks for what a parsed document no longer shows.
class Inspector : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Inspector(const std::string& path) : path_(path) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_array() override { return Leave(); }

  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    return Stop(fmt::format("{}: the key \"{}\" stands there twice", path_, Quote(name)));
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Stop(fmt::format("{} is not JSON: see byte {}", path_, position));
  }

  const std::string& sentence() const { return sentence_; }

 private:
  bool Enter() {
    constexpr size_t kMaxDepth = 64;
    if (keys_.size() == kMaxDepth) return Stop(fmt::format("{} is nested deeper than {} levels", path_, kMaxDepth));
    keys_.emplace_back();
    return true;
  }

  bool Leave() {
    keys_.pop_back();
    return true;
  }

  bool Stop(std::string sentence) {
    sentence_ = std::move(sentence);
    return false;
  }

  const std::string& path_;
  std::vector<std::set<std::string>> keys_;
  std::string sentence_;
};

}  // namespace

Expected<nlohmann::json> ParseJsonObject(std::string_view text, const std::string& path) {
  Inspector inspector(path);
  if (!nlohmann::json::sax_parse(text, &inspector)) return Sentence(inspector.sentence());
  nlohmann::json parsed = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return Sentence(fmt::format("{} does not hold a JSON object", path));
  return parsed;
}

const nlohmann::json* JsonKeys::Find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
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
