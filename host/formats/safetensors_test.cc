#include "host/formats/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "host/support/input_file.h"
#include "tests/support/checkpoints.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::HasSubstr;
using testing::StartsWith;

Expected<SafetensorsEntries> Parse(std::string_view json, uint64_t data_bytes) {
  return ParseSafetensorsHeader(json, 1000, data_bytes, "FILE");
}

std::string Refusal(std::string_view json, uint64_t data_bytes = 8) {
  const auto entries = Parse(json, data_bytes);
  EXPECT_FALSE(entries) << json;
  const std::string sentence = entries ? "" : entries.error();
  EXPECT_THAT(sentence, StartsWith("FILE"));
  EXPECT_THAT(sentence, testing::Not(testing::EndsWith(".")));
  return sentence;
}

TEST(Safetensors, ReadsWhatTheFormatAllows) {
  const auto entries = Parse(
      R"({"__metadata__":{"format":"pt","x":"y"},"b":{"shape":[2,3],"data_offsets":[2,14],"dtype":"F16"},)"
      R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"scalar":{"dtype":"F64","shape":[],"data_offsets":[14,22]},)"
      R"("none":{"dtype":"I64","shape":[5,0,18446744073709551615],"data_offsets":[2,2]}}   )",
      22);
  ASSERT_TRUE(entries) << entries.error();
  ASSERT_EQ(entries->size(), 4u);
  const SafetensorsEntry& b = entries->at("b");
  EXPECT_EQ(b.dtype, "F16");
  EXPECT_EQ(b.shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(b.offset, 1002u);
  EXPECT_EQ(b.size_bytes, 12u);
  EXPECT_TRUE(entries->at("scalar").shape.empty());
  EXPECT_TRUE(Parse("{}", 0));
}

TEST(Safetensors, RefusesWhatTheFormatForbids) {
  const auto tensor = [](std::string_view fields) { return fmt::format("{{\"t\":{{{}}}}}", fields); };
  EXPECT_TRUE(Parse(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), 8));
  // Structure.
  for (const char* json :
       {"", " {}", "[]", "{", "{\"t\"", "1", "null", "{\"t\":1}", "{\"t\":[]}", "{\"t\":null}", "{\"t\":{}} x",
        "{\"t\":\"F32\"}", "{\"__metadata__\":1}", "{\"__metadata__\":{\"a\":1}}", "{\"__metadata__\":{\"a\":{}}}",
        "{\"__metadata__\":[]}", "{\"__metadata__\":{\"a\":[\"b\"]}}", "{\"\xff\":{}}"}) {
    Refusal(json);
  }
  EXPECT_THAT(Refusal(R"({"__metadata__":{},"__metadata__":{}})"), HasSubstr("twice"));
  EXPECT_THAT(Refusal(R"({"__metadata__":{"a":"b","a":"c"}})"), HasSubstr("twice"));
  EXPECT_THAT(Refusal(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                      R"("t":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
              HasSubstr("twice"));
  // Fields of a tensor.
  const std::vector<std::string> good = {R"("dtype":"F32")", R"("shape":[2])", R"("data_offsets":[0,8])"};
  for (size_t missing = 0; missing < good.size(); ++missing) {
    std::string fields;
    for (size_t i = 0; i < good.size(); ++i) {
      if (i != missing) fields += (fields.empty() ? "" : ",") + good[i];
    }
    EXPECT_THAT(Refusal(tensor(fields)), HasSubstr("has no"));
    EXPECT_THAT(Refusal(tensor(fields + "," + fields)), HasSubstr("twice"));
  }
  EXPECT_THAT(Refusal(tensor(good[0] + "," + good[1] + "," + good[2] + ",\"more\":1")), HasSubstr("more"));
  for (const char* dtype : {"\"F33\"", "\"\"", "\"f32\"", "32", "null", "[]", "{}", "true"}) {
    Refusal(tensor(fmt::format(R"("dtype":{},"shape":[2],"data_offsets":[0,8])", dtype)));
  }
  for (const char* shape :
       {"2", "[-2]", "[2.0]", "[[2]]", "[\"2\"]", "[null]", "{}", "[3]", "[1]", "[]", "[2,2]", "[18446744073709551615]",
        "[4611686018427387905]", "[4294967296,4294967296]", "[9223372036854775808,2]", "[18446744073709551616]",
        "[1e1]", "[true]", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]"}) {
    Refusal(tensor(fmt::format(R"("dtype":"F32","shape":{},"data_offsets":[0,8])", shape)));
  }
  for (const char* offsets : {"[0]", "[]", "[0,8,8]", "[8,0]", "[0,9]", "[1,9]", "[0,-8]", "[0,8.0]", "[-1,7]", "8",
                              "{}", "[0,\"8\"]", "[0,18446744073709551615]", "[18446744073709551608,0]", "[0,[8]]"}) {
    Refusal(tensor(fmt::format(R"("dtype":"F32","shape":[2],"data_offsets":{})", offsets)));
  }
  // Half a byte: three elements of four bits.
  EXPECT_THAT(Refusal(tensor(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])"), 1), HasSubstr("dtype and shape"));
}

TEST(Safetensors, DataHasNoHolesAndNoOverlaps) {
  const auto two = [](uint64_t a0, uint64_t a1, uint64_t b0, uint64_t b1) {
    return fmt::format(R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)"
                       R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                       a1 - a0, a0, a1, b1 - b0, b0, b1);
  };
  EXPECT_TRUE(Parse(two(0, 3, 3, 8), 8));
  EXPECT_TRUE(Parse(two(5, 8, 0, 5), 8));
  EXPECT_TRUE(Parse(two(0, 0, 0, 8), 8));
  EXPECT_TRUE(Parse(two(0, 8, 8, 8), 8));
  Refusal(two(0, 3, 4, 8));
  Refusal(two(0, 4, 3, 8));
  Refusal(two(0, 8, 0, 8));
  Refusal(two(1, 3, 3, 8));
  Refusal(two(0, 3, 3, 7));
  Refusal(two(0, 8, 4, 4));
}

TEST(Safetensors, TheLengthOfTheHeaderIsChecked) {
  const TemporaryFolder folder;
  const auto read = [&](const std::string& bytes) {
    WriteFile(folder / "x", bytes);
    const auto file = InputFile::Open(folder / "x");
    EXPECT_TRUE(file);
    return ReadSafetensorsHeader(*file);
  };
  EXPECT_TRUE(read(SafetensorsFile("{}", "")));
  EXPECT_FALSE(read(SafetensorsFile("{}", "x")));
  for (uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{3}, uint64_t{100'000'001}, ~uint64_t{0}, ~uint64_t{7}}) {
    const auto entries = read(Bytes(length) + "{}");
    ASSERT_FALSE(entries);
    EXPECT_THAT(entries.error(), StartsWith(folder / "x"));
  }
  for (size_t n = 0; n < 8; ++n) EXPECT_FALSE(read(std::string(n, '\0')));
}

TEST(Safetensors, RandomChangesNeverPassUnseen) {
  const HfModel model = HfModel::Make(SmallShape(), "F16", 1);
  const std::string file = SafetensorsFile(model.tensors);
  uint64_t length;
  std::memcpy(&length, file.data(), 8);
  const std::string header = file.substr(8, length);
  const uint64_t data_bytes = file.size() - 8 - length;
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) {
    std::string changed = header;
    const size_t at = random() % changed.size();
    changed[at] = static_cast<char>(random() % 256);
    const auto entries = Parse(changed, data_bytes);
    if (!entries) continue;
    // What still parses tiles the data; a changed character of a name or of the metadata is all it can be.
    uint64_t bytes = 0;
    for (const auto& [name, entry] : *entries) bytes += entry.size_bytes;
    EXPECT_EQ(bytes, data_bytes);
  }
}

TEST(SafetensorsIndex, NamesAFileForEachTensor) {
  const auto index = ParseSafetensorsIndex(
      R"({"metadata": {"total_size": "?"}, "weight_map": {"a": "x.safetensors", "b": "y.safetensors"}})", "FILE");
  ASSERT_TRUE(index) << index.error();
  const std::map<std::string, std::string> wanted = {{"a", "x.safetensors"}, {"b", "y.safetensors"}};
  EXPECT_EQ(*index, wanted);
}

TEST(SafetensorsIndex, RefusesWhatIsNone) {
  std::string many = R"({"weight_map": {)";
  for (int i = 0; i <= 512; ++i) many += fmt::format(R"({}"t{}": "{}.safetensors")", i == 0 ? "" : ",", i, i);
  many += "}}";
  for (const std::string& json :
       {std::string("{}"), std::string("[]"), std::string(""), std::string(R"({"weight_map": {}})"),
        std::string(R"({"weight_map": []})"), std::string(R"({"weight_map": {"a": 1}})"),
        std::string(R"({"weight_map": {"a": null}})"), std::string(R"({"weight_map": {"a": "x.bin"}})"),
        std::string(R"({"weight_map": {"a": "../x.safetensors"}})"),
        std::string(R"({"weight_map": {"a": "/x.safetensors"}})"),
        std::string(R"({"weight_map": {"a": "x\u0000.safetensors"}})"),
        std::string(R"({"weight_map": {"a": "x.safetensors", "a": "x.safetensors"}})"), many}) {
    const auto index = ParseSafetensorsIndex(json, "FILE");
    ASSERT_FALSE(index) << json.substr(0, 100);
    EXPECT_TRUE(index.error().starts_with("FILE") && !index.error().ends_with(".")) << index.error();
  }
}

}  // namespace
}  // namespace thimble::host
