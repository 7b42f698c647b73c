#include "engine/formats/flat_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "host/devices/ram_device.h"

namespace thimble::formats {
namespace {

using Type = JsonMember::Type;
using testing::ElementsAre;
using testing::HasSubstr;

// "key=value" of each member of a text; the sentence of a failure at the end.
std::vector<std::string> Read(const std::string& text) {
  const std::string padded = "before" + text + "{\"behind\":1}";
  const host::RamDevice contents(std::as_bytes(std::span(padded)));
  host::RamDevice device = contents;
  const storage::Extent extent = {0, 0, padded.size()};
  Ledger ledger;
  storage::FileReader file(device, {{&extent, 1}, padded.size()}, ledger);
  alignas(64) std::byte buffer[1024];
  storage::ByteReader bytes(file, buffer);
  EXPECT_TRUE(bytes.Seek(6));
  FlatJsonReader reader(bytes, text.size());
  std::vector<std::string> members;
  JsonMember member;
  while (true) {
    const Result<bool> found = reader.Next(member);
    if (!found) {
      char sentence[300];
      members.emplace_back(sentence, FormatError(found.error().Named("it"), sentence));
      return members;
    }
    if (!*found) return members;
    std::string line(member.key.view());
    if (member.key.is_cut) line += "...";
    switch (member.type) {
      case Type::kNull:
        line += "=null";
        break;
      case Type::kFalse:
        line += "=false";
        break;
      case Type::kTrue:
        line += "=true";
        break;
      case Type::kNumber:
        line += "=#" + std::string(member.text.view());
        break;
      case Type::kString:
        line += "='" + std::string(member.text.view()) + (member.text.is_cut ? "..." : "'");
        break;
      case Type::kNested:
        line += "=nested";
        break;
    }
    members.push_back(line);
  }
}

TEST(FlatJson, ReadsEveryKindOfMember) {
  EXPECT_THAT(Read("{}"), ElementsAre());
  EXPECT_THAT(Read(" \t\r\n{ \n} \n"), ElementsAre());
  EXPECT_THAT(Read("\xEF\xBB\xBF{\"a\":1}"), ElementsAre("a=#1"));
  EXPECT_THAT(Read(R"({"a":null,"b" : true ,"c":false,"d":-1.5e+07,"e":"x","f":[],"g":{},"":0})"),
              ElementsAre("a=null", "b=true", "c=false", "d=#-1.5e+07", "e='x'", "f=nested", "g=nested", "=#0"));
  EXPECT_THAT(Read(R"({"a":1,"a":2})"), ElementsAre("a=#1", "a=#2"));
}

TEST(FlatJson, UndoesEscapes) {
  EXPECT_THAT(Read(R"({"\u0061\"\\\/\b\f\n\r\t":"\u00e4\u20ac\ud83d\ude00"})"),
              ElementsAre("a\"\\/\b\f\n\r\t='\u00e4\u20ac\U0001F600'"));
  EXPECT_THAT(Read("{\"\u00e4\":\"\u20ac\"}"), ElementsAre("\u00e4='\u20ac'"));
}

TEST(FlatJson, PassesOverNestedValues) {
  EXPECT_THAT(Read(R"({"a":[1,"]",{"b":[[],{}, {"c":null}]},true],"d":{"e":{"f":[0]},"g":"}"},"h":1})"),
              ElementsAre("a=nested", "d=nested", "h=#1"));
  const auto nested = [](int depth) {
    const auto n = static_cast<size_t>(depth);
    return "{\"a\":" + std::string(n, '[') + std::string(n, ']') + ",\"b\":1}";
  };
  EXPECT_THAT(Read(nested(kMaxJsonDepth)), ElementsAre("a=nested", "b=#1"));
  EXPECT_THAT(Read(nested(kMaxJsonDepth + 1)), ElementsAre(HasSubstr("nests values more than 32 deep")));
}

TEST(FlatJson, CutsLongTextsAndRefusesLongNumbers) {
  const std::string full(kMaxJsonTextBytes, 'k');
  EXPECT_THAT(Read("{\"" + full + "\":\"" + full + "\"}"), ElementsAre(full + "='" + full + "'"));
  EXPECT_THAT(Read("{\"" + full + "k\":\"" + full + "k\"}"), ElementsAre(full + "...='" + full + "..."));
  const std::string number(kMaxJsonTextBytes, '1');
  EXPECT_THAT(Read("{\"a\":" + number + "}"), ElementsAre("a=#" + number));
  EXPECT_THAT(Read("{\"a\":" + number + "1}"), ElementsAre(HasSubstr("it has a number of more than 64 characters")));
}

TEST(FlatJson, RefusesWhatIsNoObject) {
  for (const char* text : {"",
                           " ",
                           "[]",
                           "1",
                           "\"a\"",
                           "null",
                           "{",
                           "{\"",
                           "{\"a",
                           "{\"a\"",
                           "{\"a\":",
                           "{\"a\":1",
                           "{\"a\":1,",
                           "{\"a\":1,}",
                           "{,}",
                           "{a:1}",
                           "{'a':1}",
                           "{\"a\" 1}",
                           "{\"a\":1 \"b\":2}",
                           "{\"a\":}",
                           "{\"a\":tru}",
                           "{\"a\":truE}",
                           "{\"a\":nul}",
                           "{\"a\":+1}",
                           "{\"a\":01}",
                           "{\"a\":-}",
                           "{\"a\":.5}",
                           "{\"a\":1.}",
                           "{\"a\":1e}",
                           "{\"a\":1e+}",
                           "{\"a\":0x1}",
                           "{\"a\":NaN}",
                           "{\"a\":\"\x01\"}",
                           "{\"a\":\"\n\"}",
                           "{\"a\":\"\\x\"}",
                           "{\"a\":\"\\u12g4\"}",
                           "{\"a\":\"\\ud800\"}",
                           "{\"a\":\"\\ud800x\"}",
                           "{\"a\":\"\\ud800\\u0041\"}",
                           "{\"a\":\"\\udc00\\ud800\"}",
                           "{\"a\":[1,]}",
                           "{\"a\":[,1]}",
                           "{\"a\":[1 2]}",
                           "{\"a\":[1}",
                           "{\"a\":{\"b\"}}",
                           "{\"a\":{1:2}}",
                           "{\"a\":{\"b\":1,}}",
                           "{\"a\":[}",
                           "{\"a\":{]}",
                           "{\"a\":[[1]",
                           "{} x",
                           "{}}",
                           "\xEF\xBB{}",
                           " \xEF\xBB\xBF{}"}) {
    const std::vector<std::string> members = Read(text);
    ASSERT_FALSE(members.empty()) << text;
    EXPECT_THAT(members.back(), HasSubstr("it is no JSON object: byte ")) << text;
  }
}

TEST(FlatJson, IntegersAreWholeAndFit) {
  const auto integer = [](std::string_view text) {
    JsonMember member;
    member.type = Type::kNumber;
    for (const char c : text) member.text.chars[member.text.size++] = c;
    return member.Integer();
  };
  EXPECT_EQ(integer("0"), 0u);
  EXPECT_EQ(integer("4294967296"), 4294967296u);
  EXPECT_EQ(integer("18446744073709551600"), 18446744073709551600u);
  for (const char* text : {"-1", "1.0", "1e3", "18446744073709551616", "99999999999999999999"}) {
    EXPECT_FALSE(integer(text)) << text;
  }
  EXPECT_FALSE(JsonMember().Integer());
}

// Bit for bit what the C library, which is correctly rounded, makes of the same text.
void ExpectAsStrtod(const std::string& text) {
  const auto value = ParseDecimal(text);
  ASSERT_TRUE(value) << text;
  EXPECT_EQ(std::bit_cast<uint64_t>(*value), std::bit_cast<uint64_t>(std::strtod(text.c_str(), nullptr))) << text;
}

TEST(ParseDecimal, RoundsAsTheCLibrary) {
  for (const char* text : {"0",
                           "-0",
                           "0.0",
                           "1e-05",
                           "1e-5",
                           "1E-06",
                           "9.999999747378752e-06",
                           "10000",
                           "10000.0",
                           "500000.0",
                           "1000000",
                           "9007199254740993",
                           "9007199254740992.5",
                           "9007199254740991.5",
                           "0.1",
                           "3.4028234663852886e+38",
                           "1e59",
                           "1.175494350822287507968737e-38",
                           "1e-60",
                           "9999999999999999999999999999999999999999",
                           "0.00000000000000000000000000000000000000001",
                           "4503599627370496.5",
                           "4503599627370497.5",
                           "2.5e0"}) {
    ExpectAsStrtod(text);
  }
  std::mt19937_64 random(1);
  char text[64];
  for (int i = 0; i < 100000; ++i) {
    // Any double of the range, in 1 to 40 digits; half of 2^-53 off a float or a double, where rounding is hardest.
    const auto exponent = static_cast<uint64_t>(1023 - 190 + static_cast<int>(random() % 380));
    uint64_t bits = exponent << 52 | random() >> 12;
    if (i % 4 == 1) bits &= ~uint64_t{0x1FFFFFFF};
    if (i % 4 == 2) bits = (bits & ~uint64_t{0x1FFFFFFF}) | 0x10000000;
    const auto value = std::bit_cast<double>(bits);
    std::snprintf(text, sizeof(text), "%.*e", static_cast<int>(random() % 40), value);
    ExpectAsStrtod(text);
    if (i % 4 != 3) continue;
    // Exactly between two doubles of 53 bits: whole numbers of 54.
    const uint64_t odd = uint64_t{1} << 53 | random() >> 11 | 1;
    ExpectAsStrtod(std::to_string(odd));
  }
}

TEST(ParseDecimal, EveryFloatComesBack) {
  std::mt19937 random(2);
  char text[64];
  for (int i = 0; i < 100000; ++i) {
    const auto bits = static_cast<uint32_t>(0x00800000u + random() % 0x7F000000u);
    const auto value = std::bit_cast<float>(bits);
    std::snprintf(text, sizeof(text), "%.9g", double{value});
    const auto again = ParseDecimal(text);
    ASSERT_TRUE(again) << text;
    EXPECT_EQ(static_cast<float>(*again), value) << text;
  }
}

TEST(ParseDecimal, RefusesWhatItCannotRound) {
  for (const char* text : {"",
                           "-",
                           "+1",
                           " 1",
                           "1 ",
                           "01",
                           ".5",
                           "5.",
                           "1e",
                           "1e+",
                           "1e1.5",
                           "inf",
                           "nan",
                           "0x10",
                           "1e60",
                           "1e-61",
                           "1e400",
                           "1e-400",
                           "12345678901234567890123456789012345678901",
                           "1e99999999999"}) {
    EXPECT_FALSE(ParseDecimal(text)) << text;
  }
}

}  // namespace
}  // namespace thimble::formats
