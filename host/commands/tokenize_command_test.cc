// thimble tokenize as a shell sees it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/commands/command.h"
#include "tests/support/checkpoints.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/tool.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::HasSubstr;

// A vocabulary whose ids can be told by hand: three special tokens, 256 bytes, then pieces; the first of two pieces is
// merged before the second.
enum : int { kUnknown = 0, kBegin = 1, kEnd = 2, kFirstByte = 3, kFirstPiece = kFirstByte + 256 };
const std::vector<std::string> kPieces = {"ab", "\u2581a", "a", "b", "\u2581", "\u00e9", "\uFFFD"};

class TokenizeTest : public testing::Test {
 protected:
  TokenizeTest() {
    std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
    std::vector<int32_t> types = {2, 3, 3};
    for (int byte = 0; byte < 256; ++byte) {
      char name[8];
      std::snprintf(name, sizeof(name), "<0x%02X>", static_cast<unsigned>(byte));
      tokens.push_back(name);
      types.push_back(6);
    }
    for (const std::string& piece : kPieces) {
      tokens.push_back(piece);
      types.push_back(1);
    }
    std::vector<float> scores(tokens.size());
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = -static_cast<float>(i);
    GgufBuilder builder = GgufBuilder::Llama(1, static_cast<uint32_t>(tokens.size()));
    builder.Set("tokenizer.ggml.tokens", GgufValue::ArrayOf(tokens));
    builder.Set("tokenizer.ggml.scores", GgufValue::ArrayOf(scores));
    builder.Set("tokenizer.ggml.token_type", GgufValue::ArrayOf(types));
    builder.Set("tokenizer.ggml.bos_token_id", GgufValue::Of(uint32_t{kBegin}));
    builder.Set("tokenizer.ggml.eos_token_id", GgufValue::Of(uint32_t{kEnd}));
    WriteFile(model_, builder.Build());
  }

  ToolRun Tokenize(std::vector<std::string> arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), {"tokenize", "-m", model_});
    return RunTool(arguments, input);
  }

  static int Piece(std::string_view piece) {
    return kFirstPiece + static_cast<int>(std::ranges::find(kPieces, piece) - kPieces.begin());
  }
  static int Byte(int byte) { return kFirstByte + byte; }

  static std::string List(const std::vector<int>& ids) {
    std::string text;
    for (const int id : ids) text += (text.empty() ? "" : ", ") + std::to_string(id);
    return "[" + text + "]\n";
  }

  TemporaryFolder folder_;
  const std::string model_ = folder_ / "model.gguf";
};

TEST_F(TokenizeTest, ShowsEachIdAndWhatItStandsFor) {
  // The dummy prefix and "ab": "ab" merges before a piece that begins with the prefix.
  const ToolRun run = Tokenize({"-p", "ab\n\u00e9", "--show-count"});
  EXPECT_EQ(run.exit_code, 0) << run.error;
  EXPECT_EQ(run.error, "");
  const auto line = [](int id, const std::string& text) {
    std::string number = std::to_string(id);
    return std::string(6 - number.size(), ' ') + number + " -> " + text + "\n";
  };
  EXPECT_EQ(run.out, line(kBegin, "(begin)") + line(Piece("\u2581"), "\" \"") + line(Piece("ab"), "\"ab\"") +
                         line(Byte('\n'), "<0x0A>") + line(Piece("\u00e9"), "\"\u00e9\"") +
                         "Total number of tokens: 5\n");
}

TEST_F(TokenizeTest, GivesIdsWithAndWithoutTheBeginToken) {
  EXPECT_EQ(Tokenize({"-p", "ab", "--ids"}).out, List({kBegin, Piece("\u2581"), Piece("ab")}));
  EXPECT_EQ(Tokenize({"-p", "ab", "--ids", "--no-bos"}).out, List({Piece("\u2581"), Piece("ab")}));
  EXPECT_EQ(Tokenize({"-p", "", "--ids"}).out, List({kBegin}));
  EXPECT_EQ(Tokenize({"-p", "", "--ids", "--no-bos"}).out, "[]\n");
}

TEST_F(TokenizeTest, ReadsAFileOrStandardInputWhole) {
  const std::string want = List({kBegin, Piece("\u2581"), Piece("ab"), Byte('\n')});
  WriteFile(folder_ / "text", "ab\n");
  EXPECT_EQ(Tokenize({"-f", folder_ / "text", "--ids"}).out, want);
  EXPECT_EQ(Tokenize({"-f", "-", "--ids"}, "ab\n").out, want);
  EXPECT_EQ(Tokenize({"--stdin", "--ids"}, "ab\n").out, want);
  EXPECT_EQ(Tokenize({"--stdin", "--ids"}).out, List({kBegin}));
  // A long one, with a NUL in it.
  std::string text(100'000, 'a');
  text[70'000] = '\0';
  const ToolRun run = Tokenize({"--stdin", "--json", "--no-bos"}, text);
  const auto json = nlohmann::json::parse(run.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << run.error;
  EXPECT_EQ(json["count"], 100'000);
  EXPECT_EQ(json["ids"][0], Piece("\u2581a"));
  EXPECT_EQ(json["ids"][70'000], Byte(0));
}

TEST_F(TokenizeTest, JsonHasIdsPiecesAndTheirNumber) {
  const ToolRun run = Tokenize({"-p", "b\u00e9\u00e8", "--json"});
  EXPECT_EQ(run.exit_code, 0);
  const auto json = nlohmann::json::parse(run.out, nullptr, false);
  EXPECT_EQ(json["ids"],
            nlohmann::json({kBegin, Piece("\u2581"), Piece("b"), Piece("\u00e9"), Byte(0xc3), Byte(0xa8)}));
  // Half characters are bytes, as JSON has no others.
  EXPECT_EQ(json["pieces"], nlohmann::json({"", " ", "b", "\u00e9", {0xc3}, {0xa8}}));
  EXPECT_EQ(json["count"], 6);
}

// Bytes that are no character count as U+FFFD, which this vocabulary has.
TEST_F(TokenizeTest, TakesBytesThatAreNoText) {
  const ToolRun run = Tokenize({"--stdin", "--json", "--no-bos"}, "a\xff\xc3(");
  const auto json = nlohmann::json::parse(run.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << run.error;
  EXPECT_EQ(json["ids"], nlohmann::json({Piece("\u2581a"), Piece("\uFFFD"), Piece("\uFFFD"), Byte('(')}));
  EXPECT_EQ(json["pieces"], nlohmann::json({" a", "\uFFFD", "\uFFFD", "("}));
  EXPECT_EQ(Tokenize({"--stdin"}, "\x80").exit_code, 0);
}

TEST_F(TokenizeTest, RefusesWithOneLine) {
  HfModel::Make(SmallShape(), "F16", 1).Write(folder_ / "without");
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"tokenize", "-m", folder_ / "absent", "-p", "x"},
                                             {"tokenize", "-m", model_, "-f", folder_ / "absent"},
                                             {"tokenize", "-m", model_, "-f", folder_.path()}}) {
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, kExitFailed);
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(std::ranges::count(run.error, '\n'), 1) << run.error;
  }
  const ToolRun none = RunTool({"tokenize", "-m", folder_ / "without", "-p", "x"});
  EXPECT_EQ(none.exit_code, kExitFailed);
  EXPECT_THAT(none.error, HasSubstr("has no tokenizer"));
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{}, {"-p", "x", "--stdin"}, {"-p", "x", "-f", "y"}, {"x", "y"}}) {
    EXPECT_EQ(Tokenize(arguments).exit_code, kExitUsage);
  }
}

// Names of special tokens are text, and a note says so, unless they are asked for.
TEST_F(TokenizeTest, SpecialTokensByTheirNames) {
  const ToolRun text = Tokenize({"-p", "a</s>", "--ids"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.error, AllOf(HasSubstr("note: "), HasSubstr("the special token </s>"), HasSubstr("--special")));
  const ToolRun special = Tokenize({"-p", "a</s>a<unk></s", "--ids", "--special"});
  EXPECT_EQ(special.exit_code, 0) << special.error;
  EXPECT_EQ(special.error, "");
  const int a = Piece("\u2581a");
  EXPECT_EQ(special.out, fmt::format("[{}]\n", fmt::join(std::vector<int>{kBegin, a, kEnd, a, kUnknown, Piece("\u2581"),
                                                                          Byte('<'), Byte('/'), Byte('s')},
                                                         ", ")));
  // A text that begins with the begin token gets no other.
  EXPECT_EQ(Tokenize({"-p", "<s>a", "--ids", "--special"}).out, fmt::format("[{}, {}]\n", +kBegin, a));
  EXPECT_EQ(Tokenize({"-p", "<s>", "--ids", "--special", "--no-bos"}).out, fmt::format("[{}]\n", +kBegin));
  EXPECT_EQ(Tokenize({"-p", "ab", "--ids"}).error, "");
}

}  // namespace
}  // namespace thimble::host
