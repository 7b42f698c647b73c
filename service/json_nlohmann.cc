#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "service/json.h"
#include "service/json_text.h"

namespace thimble::service {
namespace {

using Node = nlohmann::ordered_json;

const Node& NodeOf(const void* node) { return *static_cast<const Node*>(node); }
Node& NodeOf(void* node) { return *static_cast<Node*>(node); }

}  // namespace

JsonType JsonView::type() const {
  const Node& node = NodeOf(node_);
  if (node.is_boolean()) return JsonType::kBool;
  if (node.is_number()) return JsonType::kNumber;
  if (node.is_string()) return JsonType::kString;
  if (node.is_array()) return JsonType::kArray;
  if (node.is_object()) return JsonType::kObject;
  return JsonType::kNull;
}

std::optional<bool> JsonView::AsBool() const {
  const bool* value = NodeOf(node_).get_ptr<const bool*>();
  return value == nullptr ? std::nullopt : std::optional(*value);
}

std::optional<double> JsonView::AsNumber() const {
  const Node& node = NodeOf(node_);
  if (!node.is_number()) return std::nullopt;
  return node.get<double>();
}

std::optional<int64_t> JsonView::AsInteger() const {
  const Node& node = NodeOf(node_);
  if (node.is_number_unsigned()) {
    const auto value = node.get<uint64_t>();
    if (value > uint64_t{std::numeric_limits<int64_t>::max()}) return std::nullopt;
    return static_cast<int64_t>(value);
  }
  if (node.is_number_integer()) return node.get<int64_t>();
  if (!node.is_number_float()) return std::nullopt;
  const auto value = node.get<double>();
  if (!(std::abs(value) < 0x1p53) || value != std::floor(value)) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::optional<std::string_view> JsonView::AsString() const {
  const auto* value = NodeOf(node_).get_ptr<const std::string*>();
  return value == nullptr ? std::nullopt : std::optional<std::string_view>(*value);
}

std::vector<JsonView> JsonView::Elements() const {
  std::vector<JsonView> elements;
  const Node& node = NodeOf(node_);
  if (!node.is_array()) return elements;
  elements.reserve(node.size());
  for (const Node& element : node) elements.push_back(JsonView(&element));
  return elements;
}

bool JsonView::IsEmpty() const { return NodeOf(node_).is_structured() && NodeOf(node_).empty(); }

std::optional<JsonView> JsonView::Find(std::string_view key) const {
  const Node& node = NodeOf(node_);
  if (!node.is_object()) return std::nullopt;
  const auto found = node.find(key);
  if (found == node.end()) return std::nullopt;
  return JsonView(&*found);
}

std::optional<JsonDocument> JsonDocument::Parse(std::string_view text) {
  if (!IsAcceptableJson(text)) return std::nullopt;
  Node node = Node::parse(text, nullptr, /*allow_exceptions=*/false);
  if (node.is_discarded()) return std::nullopt;
  return JsonDocument(new Node(std::move(node)));
}

JsonDocument::~JsonDocument() { delete static_cast<Node*>(node_); }

JsonValue::JsonValue() : node_(new Node()) {}
JsonValue::JsonValue(std::string_view text) : node_(new Node(WellFormed(text))) {}
JsonValue::JsonValue(bool value) : node_(new Node(value)) {}
JsonValue::JsonValue(int64_t value) : node_(new Node(value)) {}
JsonValue::JsonValue(double value) : node_(std::isfinite(value) ? new Node(value) : new Node()) {}
JsonValue JsonValue::Object() { return {Taken(), new Node(Node::object())}; }
JsonValue JsonValue::Array() { return {Taken(), new Node(Node::array())}; }

JsonValue& JsonValue::operator=(JsonValue&& o) noexcept {
  std::swap(node_, o.node_);
  return *this;
}

JsonValue::~JsonValue() { delete static_cast<Node*>(node_); }

JsonValue& JsonValue::Set(std::string_view key, JsonValue value) {
  NodeOf(node_)[std::string(key)] = std::move(NodeOf(value.node_));
  return *this;
}

JsonValue& JsonValue::Add(JsonValue value) {
  NodeOf(node_).push_back(std::move(NodeOf(value.node_)));
  return *this;
}

std::string JsonValue::Dump() const { return NodeOf(node_).dump(); }

}  // namespace thimble::service
