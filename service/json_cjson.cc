#include "service/json.h"

#if __has_include(<cjson/cJSON.h>)
#include <cjson/cJSON.h>
#else
#include <cJSON.h>  // as ESP-IDF and its registry have it
#endif

#include <cmath>
#include <cstdio>
#include <cstring>
#include <utility>

#include "service/json_text.h"

namespace thimble::service {
namespace {

const cJSON* NodeOf(const void* node) { return static_cast<const cJSON*>(node); }
cJSON* NodeOf(void* node) { return static_cast<cJSON*>(node); }

}  // namespace

JsonType JsonView::type() const {
  const cJSON* const node = NodeOf(node_);
  if (cJSON_IsBool(node)) return JsonType::kBool;
  if (cJSON_IsNumber(node)) return JsonType::kNumber;
  if (cJSON_IsString(node)) return JsonType::kString;
  if (cJSON_IsArray(node)) return JsonType::kArray;
  if (cJSON_IsObject(node)) return JsonType::kObject;
  return JsonType::kNull;
}

std::optional<bool> JsonView::AsBool() const {
  if (!cJSON_IsBool(NodeOf(node_))) return std::nullopt;
  return cJSON_IsTrue(NodeOf(node_)) != 0;
}

std::optional<double> JsonView::AsNumber() const {
  if (!cJSON_IsNumber(NodeOf(node_))) return std::nullopt;
  return NodeOf(node_)->valuedouble;
}

// Beyond 2^53 a double no longer tells one integer from the next.
std::optional<int64_t> JsonView::AsInteger() const {
  const std::optional<double> value = AsNumber();
  if (!value || !(std::abs(*value) < 0x1p53) || *value != std::floor(*value)) return std::nullopt;
  return static_cast<int64_t>(*value);
}

std::optional<std::string_view> JsonView::AsString() const {
  if (!cJSON_IsString(NodeOf(node_))) return std::nullopt;
  return NodeOf(node_)->valuestring;
}

std::vector<JsonView> JsonView::Elements() const {
  std::vector<JsonView> elements;
  const cJSON* const node = NodeOf(node_);
  if (!cJSON_IsArray(node)) return elements;
  for (const cJSON* element = node->child; element != nullptr; element = element->next) {
    elements.push_back(JsonView(element));
  }
  return elements;
}

bool JsonView::IsEmpty() const {
  const cJSON* const node = NodeOf(node_);
  return (cJSON_IsArray(node) || cJSON_IsObject(node)) && node->child == nullptr;
}

std::optional<JsonView> JsonView::Find(std::string_view key) const {
  const cJSON* const node = NodeOf(node_);
  if (!cJSON_IsObject(node)) return std::nullopt;
  const cJSON* found = nullptr;
  for (const cJSON* element = node->child; element != nullptr; element = element->next) {
    if (key == element->string) found = element;
  }
  return found == nullptr ? std::nullopt : std::optional(JsonView(found));
}

std::optional<JsonDocument> JsonDocument::Parse(std::string_view text) {
  if (!IsAcceptableJson(text)) return std::nullopt;
  const char* end = nullptr;
  cJSON* const node = cJSON_ParseWithLengthOpts(text.data(), text.size(), &end, /*require_null_terminated=*/0);
  if (node == nullptr) return std::nullopt;
  // What comes after the value may only be white space.
  const std::string_view rest = text.substr(static_cast<size_t>(end - text.data()));
  if (rest.find_first_not_of(" \t\r\n") != rest.npos) {
    cJSON_Delete(node);
    return std::nullopt;
  }
  return JsonDocument(node);
}

JsonDocument::~JsonDocument() { cJSON_Delete(NodeOf(node_)); }

JsonValue::JsonValue() : node_(cJSON_CreateNull()) {}
JsonValue::JsonValue(std::string_view text) : node_(cJSON_CreateString(WellFormed(text).c_str())) {}
JsonValue::JsonValue(bool value) : node_(cJSON_CreateBool(value)) {}
JsonValue::JsonValue(int64_t value) {
  char text[24];
  std::snprintf(text, sizeof(text), "%lld", static_cast<long long>(value));
  node_ = cJSON_CreateRaw(text);  // a number of cJSON is a double
}
JsonValue::JsonValue(double value) : node_(std::isfinite(value) ? cJSON_CreateNumber(value) : cJSON_CreateNull()) {}
JsonValue JsonValue::Object() { return {Taken(), cJSON_CreateObject()}; }
JsonValue JsonValue::Array() { return {Taken(), cJSON_CreateArray()}; }

JsonValue& JsonValue::operator=(JsonValue&& o) noexcept {
  std::swap(node_, o.node_);
  return *this;
}

JsonValue::~JsonValue() { cJSON_Delete(NodeOf(node_)); }

JsonValue& JsonValue::Set(std::string_view key, JsonValue value) {
  cJSON_AddItemToObject(NodeOf(node_), std::string(key).c_str(), NodeOf(std::exchange(value.node_, nullptr)));
  return *this;
}

JsonValue& JsonValue::Add(JsonValue value) {
  cJSON_AddItemToArray(NodeOf(node_), NodeOf(std::exchange(value.node_, nullptr)));
  return *this;
}

std::string JsonValue::Dump() const {
  char* const text = cJSON_PrintUnformatted(NodeOf(node_));
  std::string out = text == nullptr ? "null" : text;
  cJSON_free(text);
  return out;
}

}  // namespace thimble::service
