// What is typed at whatever pace, and while commands run: every line is done once and whole, or refused with a
// sentence.
#include "firmware/app/terminal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "firmware/simulated/simulated_board.h"

namespace thimble::firmware {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kPrompt[] = "thimble> ";

// The answer to a line that is no command: it says its first word. A word of one line is of no other.
std::string AnswerTo(const std::string& word) { return "there is no command '" + word.substr(0, 40) + "'"; }

class TerminalTest : public testing::Test {
 protected:
  TerminalTest() {
    model_ = std::make_unique<CardModel>(board_, nullptr);
    console_ = std::make_unique<Console>(board_, *model_, nullptr);
    terminal_ = std::make_unique<Terminal>(*console_, board_);
  }

  // Types at the prompt, and executes what can be; returns what is shown.
  std::string Type(const std::string& typed) {
    board_.ClearOutput();
    std::string_view rest = typed;
    do {
      while (terminal_->HasLine()) terminal_->ExecuteLine();
      const size_t n = std::min(rest.size(), terminal_->room());
      terminal_->OnTyped(rest.substr(0, n));
      rest.remove_prefix(n);
    } while (!rest.empty());
    while (terminal_->HasLine()) terminal_->ExecuteLine();
    return board_.output();
  }
  // As a terminal shows it: the last line, backspaces done.
  static std::string Seen(const std::string& output) {
    std::string line;
    size_t at = 0;
    for (const char c : output) {
      if (c == '\n') {
        line.clear();
        at = 0;
      } else if (c == '\b') {
        at -= at != 0 ? 1 : 0;
      } else {
        line.resize(std::max(line.size(), at + 1), ' ');
        line[at++] = c;
      }
    }
    while (line.ends_with(' ')) line.pop_back();
    return line;
  }
  // What an edited line comes to: typed, and Enter.
  std::string Edited(const std::string& keys) {
    const std::string output = Type(keys + "\r");
    const std::string seen = Seen(output.substr(0, output.find('\n')));
    return seen.starts_with(kPrompt) ? seen.substr(sizeof(kPrompt) - 1) : seen;
  }

  SimulatedSlot slot_{nullptr};
  SimulatedBoard board_{kEsp32, slot_};
  std::unique_ptr<CardModel> model_;
  std::unique_ptr<Console> console_;
  std::unique_ptr<Terminal> terminal_;
};

struct TypedLine {
  std::string text;
  bool is_too_long = false;
};

// Lines of all lengths up to the longest and beyond, each with a first word of its own.
std::vector<TypedLine> ManyLines(size_t n, std::mt19937& random) {
  std::vector<TypedLine> lines;
  for (size_t i = 0; i < n; ++i) {
    TypedLine line = {.text = "w" + std::to_string(i)};
    const size_t kinds = random() % 20;
    const size_t wanted = kinds == 0   ? kMaxLineBytes
                          : kinds == 1 ? kMaxLineBytes + 1 + random() % 1500
                          : kinds == 2 ? random() % kMaxLineBytes
                                       : random() % 60;
    line.text += ' ';
    while (line.text.size() < wanted) line.text += static_cast<char>('a' + random() % 26);
    line.is_too_long = line.text.size() > kMaxLineBytes;
    lines.push_back(line);
  }
  return lines;
}

// A port that types pieces of any size, at the prompt and, by another task, while commands run; it waits while the
// terminal has no room. Every line is executed once, whole and in its order.
TEST_F(TerminalTest, TenThousandLinesAreNeitherCutNorSwallowed) {
  std::mt19937 random(17);
  const std::vector<TypedLine> lines = ManyLines(10'000, random);
  std::string typed, expected;
  for (const TypedLine& line : lines) {
    typed += line.text + (random() % 3 == 0 ? "\r\n" : random() % 2 == 0 ? "\r" : "\n");
    expected += kPrompt + line.text.substr(0, kMaxLineBytes) + "\n";
    expected += line.is_too_long ? "error: a line of " + std::to_string(line.text.size()) +
                                       " bytes is longer than the 512 that can be typed\n"
                                 : AnswerTo(line.text.substr(0, line.text.find(' '))) + ": 'help' lists all of them\n";
  }
  expected += kPrompt;
  std::string_view rest = typed;
  const auto piece = [&](size_t room) {
    const size_t n = std::min({rest.size(), room, size_t{random() % 200}});
    const std::string_view text = rest.substr(0, n);
    rest.remove_prefix(n);
    return text;
  };
  std::string shown;
  size_t meanwhile = 0;
  while (true) {
    while (!terminal_->HasLine() && !rest.empty()) terminal_->OnTyped(piece(terminal_->room()));
    if (rest.empty() && !terminal_->HasLine()) break;
    const std::string_view while_it_runs = random() % 2 == 0 ? piece(terminal_->room()) : std::string_view();
    meanwhile += while_it_runs.size();
    std::thread watch([&] { terminal_->OnTypedMeanwhile(while_it_runs); });
    terminal_->ExecuteLine();
    watch.join();
    shown += board_.output();
    board_.ClearOutput();
  }
  shown += board_.output();
  EXPECT_GT(meanwhile, typed.size() / 10);
  const auto [differs, other] = std::ranges::mismatch(shown, expected);
  const size_t at = static_cast<size_t>(differs - shown.begin());
  EXPECT_TRUE(shown == expected) << "from " << shown.substr(at, 600) << "\ninstead of " << expected.substr(at, 600);
}

// A port that does not wait: what finds no room is told of by whole lines, and no part of a line runs.
TEST_F(TerminalTest, LinesThatFindNoRoomAreCountedAndNoneIsCut) {
  std::mt19937 random(23);
  const std::vector<TypedLine> lines = ManyLines(3000, random);
  size_t executed = 0, too_long = 0, lost = 0;
  for (size_t i = 0; i < lines.size();) {
    terminal_->OnTyped("help\r");
    ASSERT_TRUE(terminal_->HasLine());
    // While it runs, some lines come in pieces: more than there is room for.
    std::string burst;
    for (size_t n = random() % 12; n > 0 && i < lines.size(); --n) burst += lines[i++].text + "\r\n";
    for (std::string_view rest = burst; !rest.empty();) {
      const size_t n = std::min<size_t>(rest.size(), 1 + random() % 300);
      terminal_->OnTypedMeanwhile(rest.substr(0, n));
      rest.remove_prefix(n);
    }
    terminal_->ExecuteLine();
    while (terminal_->HasLine()) terminal_->ExecuteLine();
  }
  const std::string output = board_.output();
  std::istringstream shown(output);
  for (std::string line; std::getline(shown, line);) {
    executed += line.starts_with("there is no command 'w") ? 1 : 0;
    too_long += line.starts_with("error: a line of ") ? 1 : 0;
    if (line.find(" came while a command ran found no room") != line.npos) lost += std::stoul(line.substr(7));
  }
  EXPECT_EQ(executed + too_long + lost, lines.size());
  EXPECT_GT(executed, 100u);
  EXPECT_GT(lost, 100u);
  // What ran was typed so: no line is the beginning or the end of another.
  size_t found = 0;
  for (const TypedLine& line : lines) {
    const std::string echo =
        std::string(kPrompt) + line.text + "\n" + AnswerTo(line.text.substr(0, line.text.find(' ')));
    found += output.find(echo) != output.npos ? 1 : 0;
  }
  EXPECT_EQ(found, executed);
}

TEST_F(TerminalTest, ControlCEndsTheCommandAndKeepsWhatWasTyped) {
  terminal_->OnTyped("help\r");
  ASSERT_TRUE(terminal_->HasLine());
  terminal_->OnTypedMeanwhile("set temp\x03 0\rset");
  EXPECT_TRUE(board_.interrupted().load());
  terminal_->ExecuteLine();
  board_.ClearOutput();
  ASSERT_TRUE(terminal_->HasLine());
  EXPECT_EQ(board_.output(), "thimble> set temp 0\n");
  terminal_->ExecuteLine();
  EXPECT_EQ(board_.settings["temp"], "0");
  EXPECT_FALSE(terminal_->HasLine());
  EXPECT_EQ(Seen(board_.output()), "thimble> set");
  EXPECT_THAT(Type(" temp 1\r"), HasSubstr("\nthimble> "));
  EXPECT_EQ(board_.settings["temp"], "1");
  // At the prompt it forgets the line.
  EXPECT_EQ(Type("set temp 0\x03set seed 4\r"), "set temp 0^C\nthimble> set seed 4\nthimble> ");
  EXPECT_EQ(board_.settings["temp"], "1");
}

TEST_F(TerminalTest, LinesAreEdited) {
  EXPECT_EQ(Type(""), kPrompt);
  EXPECT_EQ(Edited("helo\x7fp"), "help");
  EXPECT_EQ(Edited("xhelp\x1b[H\x1b[3~"), "help");
  EXPECT_EQ(Edited("hlp\x1b[D\x1b[De"), "help");
  EXPECT_EQ(Edited("elp\x01h\x05!\b"), "help");
  EXPECT_EQ(Edited("nothing\x15help"), "help");
  EXPECT_EQ(Edited("\b\b\x1b[C\x1b[Dhelp\x1bOF"), "help");
  EXPECT_THAT(Type("h\xc3\xa9\x7f"
                   "elp\r"),
              HasSubstr("doctor"));  // a character of two bytes goes at once
  EXPECT_THAT(Type("z\xc3\xa9"
                   "a\x1b[D\x1b[D\x1b[3~o\r"),
              HasSubstr(AnswerTo("zoa")));
  EXPECT_THAT(Type("z\xc3\xbc\r"), HasSubstr(AnswerTo("z\xc3\xbc")));
}

TEST_F(TerminalTest, TheLinesBeforeComeBack) {
  Type("first\rsecond\rsecond\rthird 3\r");
  EXPECT_EQ(Edited("\x1b[A"), "third 3");
  EXPECT_EQ(Edited("\x1b[A\x1b[A"), "second");
  EXPECT_EQ(Edited("\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A"), "first");
  EXPECT_EQ(Edited("\x1b[A\x1b[A\x1b[A\x1b[B\x1b[B\x1b[B\x1b[Bother"), "other");
  for (int i = 0; i < 300; ++i) Type("line-" + std::to_string(i) + "\r");
  EXPECT_EQ(Edited("\x1b[A"), "line-299");
  Type(std::string(kMaxLineBytes, 'x') + "\r");
  EXPECT_EQ(Edited("\x1b[A"), "line-299") << "the longest lines are not kept";
}

TEST_F(TerminalTest, TabCompletesCommands) {
  EXPECT_EQ(Edited("doc\t--report"), "doctor --report");
  EXPECT_EQ(Edited("b\t"), "bench");
  EXPECT_THAT(Type("z\ty\r"), HasSubstr(AnswerTo("z")));  // nothing to complete: a blank
}

}  // namespace
}  // namespace thimble::firmware
