// The same for both libraries.
#include "service/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace thimble::service {
namespace {

TEST(Json, IsReadAsItIsWritten) {
  JsonValue inner = JsonValue::Array();
  inner.Add(1).Add(-2.5).Add("a\"\\\n\x01\xc3\xa9").Add(true).Add(JsonValue()).Add(JsonValue::Object());
  JsonValue value = JsonValue::Object();
  value.Set("list", std::move(inner)).Set("large", int64_t{9007199254740991}).Set("nan", std::nan(""));
  const std::string text = value.Dump();
  EXPECT_EQ(text.find('\n'), text.npos);
  const auto document = JsonDocument::Parse(text);
  ASSERT_TRUE(document) << text;
  const JsonView root = document->root();
  EXPECT_EQ(root.type(), JsonType::kObject);
  const std::vector<JsonView> list = root.Find("list")->Elements();
  ASSERT_EQ(list.size(), 6u);
  EXPECT_EQ(list[0].AsInteger(), 1);
  EXPECT_EQ(list[1].AsNumber(), -2.5);
  EXPECT_EQ(list[1].AsInteger(), std::nullopt);
  EXPECT_EQ(list[2].AsString(), "a\"\\\n\x01\xc3\xa9");
  EXPECT_EQ(list[3].AsBool(), true);
  EXPECT_EQ(list[4].type(), JsonType::kNull);
  EXPECT_TRUE(list[5].IsEmpty());
  EXPECT_FALSE(root.IsEmpty());
  EXPECT_EQ(root.Find("large")->AsInteger(), 9007199254740991);
  EXPECT_EQ(root.Find("nan")->type(), JsonType::kNull);
  EXPECT_FALSE(root.Find("none"));
  EXPECT_FALSE(list[0].Find("none"));
  EXPECT_TRUE(list[0].Elements().empty());
}

TEST(Json, LargeIntegersAreWrittenExactly) {
  EXPECT_EQ(JsonValue(std::numeric_limits<int64_t>::max()).Dump(), "9223372036854775807");
  EXPECT_EQ(JsonValue(std::numeric_limits<int64_t>::min()).Dump(), "-9223372036854775808");
}

TEST(Json, BytesThatAreNoTextAreReplaced) { EXPECT_EQ(JsonValue("a\xff\xc3").Dump(), "\"a\xEF\xBF\xBD\xEF\xBF\xBD\""); }

TEST(Json, OfEqualKeysTheLastCounts) {
  const auto document = JsonDocument::Parse(R"({"a": 1, "a": 2})");
  ASSERT_TRUE(document);
  EXPECT_EQ(document->root().Find("a")->AsInteger(), 2);
}

TEST(Json, WhatIsNoneIsRefused) {
  const std::string deep = std::string(kMaxJsonDepth + 1, '[') + std::string(kMaxJsonDepth + 1, ']');
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("{} {}"), std::string("[1,]"), std::string("nul"),
        std::string("\"\\u0000\""), std::string("\"a\0b\"", 5), std::string("\"\xff\""), std::string("]"),
        std::string("\"\\"), std::string("{\"a\"}"), std::string(100000, '['), deep}) {
    EXPECT_FALSE(JsonDocument::Parse(text)) << text.substr(0, 20);
  }
  // As deep as may be; and an escaped backslash before what only looks like the character.
  EXPECT_TRUE(JsonDocument::Parse(deep.substr(1, 2 * kMaxJsonDepth)));
  const auto document = JsonDocument::Parse(R"( "\\u0000" )");
  ASSERT_TRUE(document);
  EXPECT_EQ(document->root().AsString(), "\\u0000");
}

}  // namespace
}  // namespace thimble::service
