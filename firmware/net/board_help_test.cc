// Help from a server on a simulated board: what is typed on its console, a server that is a script, the bundled model
// on its card.
#include "firmware/net/board_help.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/plan/plan.h"
#include "firmware/app/console.h"
#include "firmware/app/terminal.h"
#include "firmware/net/board_service.h"
#include "firmware/net/help_settings.h"
#include "firmware/simulated/simulated_board.h"
#include "host/cards/card_image.h"
#include "host/devices/file_device.h"
#include "tests/support/checkpoints.h"
#include "tests/support/fake_server.h"
#include "tests/support/painted_stack.h"
#include "tests/support/tool.h"

namespace thimble::firmware {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

constexpr char kSecret[] = "sk-never-shown";

class BoardHelpTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const std::string gguf = *folder_ / "stories.gguf";
    ASSERT_EQ(RunTool({"convert", "model/thimble-stories", "-o", gguf}).exit_code, 0);
    const auto card =
        host::WriteCardImage({.contents = {.model = gguf}, .out = *folder_ / "card.img", .superfloppy = true});
    ASSERT_TRUE(card) << card.error();
  }
  static void TearDownTestSuite() { delete folder_; }

  void SetUp() override {
    Start();
    Type("set predict 12\nset seed 5\n");
  }
  // As after a reset.
  void Start() {
    const std::map<std::string, std::string> kept = board_ ? board_->settings : std::map<std::string, std::string>();
    device_ = *host::FileDevice::Open(*folder_ / "card.img");
    slot_ = std::make_unique<SimulatedSlot>(device_.get());
    board_ = std::make_unique<SimulatedBoard>(kEsp32CamWifi, *slot_);
    board_->settings = kept;
    model_ = std::make_unique<CardModel>(*board_, nullptr);
    help_ = std::make_unique<BoardHelp>(*board_, server_);
    console_ = std::make_unique<Console>(*board_, *model_, nullptr, nullptr, help_.get());
    terminal_ = std::make_unique<Terminal>(*console_, *board_);
    console_->Start();
  }
  // What stands on the terminal then.
  std::string Type(const std::string& typed) {
    board_->ClearOutput();
    terminal_->OnTyped(typed);
    while (terminal_->HasLine()) terminal_->ExecuteLine();
    return board_->output();
  }
  // What the model on the card makes of it, without a server.
  std::string Alone(const std::string& text) {
    const std::map<std::string, std::string> kept = board_->settings;
    Type("server --forget\n");
    Type("run " + text + "\n");  // tells of the model, too
    const std::string shown = Type("run " + text + "\n");
    board_->settings = kept;
    help_->Load();
    const size_t begin = shown.find('\n', shown.find("run ")) + 1;
    return shown.substr(begin, shown.find("\n[", begin) - begin);
  }

  static std::string Event(const std::string& text) {
    return "data: " + nlohmann::json{{"content", text}, {"stop", false}}.dump() + "\n\n";
  }
  static constexpr const char* kEnd =
      "data: {\"content\":\"\",\"stop\":true,\"stop_type\":\"eos\",\"model\":\"big\"}\n\n";
  std::vector<TokenId> SentIds() const {
    return nlohmann::json::parse(server_.asked.body, nullptr, false)["prompt"].get<std::vector<TokenId>>();
  }

  static TemporaryFolder* folder_;
  FakeServer server_;
  std::unique_ptr<host::FileDevice> device_;
  std::unique_ptr<SimulatedSlot> slot_;
  std::unique_ptr<SimulatedBoard> board_;
  std::unique_ptr<CardModel> model_;
  std::unique_ptr<BoardHelp> help_;
  std::unique_ptr<Console> console_;
  std::unique_ptr<Terminal> terminal_;
};
TemporaryFolder* BoardHelpTest::folder_ = nullptr;

TEST_F(BoardHelpTest, KeepsItsServerAndShowsNoKey) {
  EXPECT_THAT(Type("server\n"), HasSubstr("server: none;"));
  EXPECT_THAT(Type("server --wait 5\n"), HasSubstr("error: there is no server yet"));
  EXPECT_THAT(Type("server http://10.0.0.1:8080/v1 remote\n"),
              HasSubstr("server: http://10.0.0.1:8080, remote, gone after 20 s without text, no key"));
  EXPECT_THAT(Type("server --key\n"), EndsWith("key (Enter alone: none): "));
  std::string shown = Type(std::string(kSecret) + "\n");
  shown += Type("\x1b[A\x03server --wait 7\nserver --model big\nserver\nset\n");
  EXPECT_THAT(shown, AllOf(HasSubstr("gone after 7 s without text, model big, a key is kept"),
                           HasSubstr("note: the key and all texts go to"), Not(HasSubstr(kSecret))));
  Start();
  const Result<service::HelpOptions> kept = LoadHelp(*board_);
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->key, kSecret);
  EXPECT_EQ(kept->mode, service::ServerMode::kRemote);
  EXPECT_THAT(Type("server\n"), HasSubstr("remote, gone after 7 s without text, model big, a key is kept"));
  // A key is for whom it was given for.
  EXPECT_THAT(Type("server https://10.0.0.2\n"), HasSubstr("server: https://10.0.0.2, remote, gone after 7 s"));
  EXPECT_EQ(LoadHelp(*board_)->key, "");
  Type("server --key\nanother\nset reset\n");
  EXPECT_THAT(Type("server\n"), HasSubstr("server: none"));
  EXPECT_EQ(LoadHelp(*board_).error().code, Code::kNotFound);
}

TEST_F(BoardHelpTest, WhatIsNoneIsRefusedAndChangesNothing) {
  Type("server http://a remote\n");
  const std::map<std::string, std::string> before = board_->settings;
  for (const std::string typed :
       {"server ftp://b", "server http://b local", "server http://me:sk-never-shown@b", "server --wait 0",
        "server --wait 601", "server --wait x", "server --model \"a\\nb\"", "server --cake", "server http://b remote 5",
        "server --key\nsk never shown", "server --forget now"}) {
    const std::string shown = Type(typed + "\n");
    EXPECT_THAT(shown, testing::AnyOf(HasSubstr("error: "), HasSubstr("so: server"))) << typed;
    EXPECT_THAT(shown.substr(std::min(shown.find("error: "), shown.size())), Not(HasSubstr("shown"))) << typed;
    EXPECT_EQ(board_->settings, before) << typed;
  }
  // What is kept and is none.
  board_->settings["server-wait"] = "soon";
  board_->settings["server-mode"] = "?";
  Start();
  EXPECT_THAT(Type("server\n"), HasSubstr("server: http://a, remote-else-local, gone after 20 s"));
  board_->settings["server-url"] = "\xff";
  Start();
  EXPECT_THAT(Type("server\n"), HasSubstr("server: none"));
  board_->keeps_settings = false;
  EXPECT_THAT(Type("server http://c\n"), AllOf(HasSubstr("it is not kept"), HasSubstr("server: http://c")));
}

TEST_F(BoardHelpTest, AServerMakesTheText) {
  Type("server http://a\nserver --key\nsk-never-shown\nserver --model big\n");
  server_.body = Event(", there was\x1b[2J a\n") + Event("cat.") + kEnd;
  const std::string shown = Type("run Once upon a time\n");
  EXPECT_THAT(shown, HasSubstr(", there was?[2J a\ncat.\n[by the server http://a (model big)]\nthimble> "));
  EXPECT_THAT(shown, Not(HasSubstr(kSecret)));
  EXPECT_EQ(server_.asked.key, kSecret);
  EXPECT_EQ(server_.asked.path, "/completion");
  const auto request = nlohmann::json::parse(server_.asked.body, nullptr, false);
  EXPECT_EQ(request["n_predict"], 12);
  EXPECT_EQ(request["seed"], 5);
  EXPECT_EQ(request["model"], "big");
  const auto ids = model_->session().Tokenize("Once upon a time");
  EXPECT_EQ(SentIds(), std::vector<TokenId>(ids->begin(), ids->end()));
  EXPECT_EQ(model_->session().n_past(), 0u) << "nothing was run here";
  // No more than has room here.
  Type("set predict -1\nrun Once upon a time\n");
  EXPECT_EQ(nlohmann::json::parse(server_.asked.body, nullptr, false)["n_predict"],
            model_->session().n_ctx() - SentIds().size());
}

TEST_F(BoardHelpTest, WhereItFallsSilentTheBoardGoesOn) {
  const std::string begun = ", there was a";
  const std::string rest = Alone("Once upon a time" + begun);
  const std::string alone = Alone("Once upon a time");
  Type("server http://a\n");
  server_.body = Event(begun);
  server_.then = FakeServer::Then::kSilence;
  const std::string shown = Type("run Once upon a time\n");
  // As many tokens as were asked for in all: what the server made counts.
  const size_t made_end = shown.find("\n[");
  const std::string made = shown.substr(shown.find(begun) + begun.size(), made_end - shown.find(begun) - begun.size());
  EXPECT_TRUE(!made.empty() && rest.starts_with(made)) << shown << rest;
  EXPECT_THAT(shown, HasSubstr("\n[the first 13 bytes by the server http://a, the rest by the model here, because the "
                               "server http://a gave no more text for 20 s]\n["));
  // Nothing at all, a failure, and what is no answer.
  server_.body.clear();
  EXPECT_THAT(Type("run Once upon a time\n"), AllOf(HasSubstr(alone + "\n[by the model here, because the server "),
                                                    HasSubstr("gave no text for 20 s]\n[12 tokens")));
  server_.then = FakeServer::Then::kEnd;
  server_.head->status = 500;
  EXPECT_THAT(Type("run Once upon a time\n"), HasSubstr(alone + "\n[by the model here, because the server "));
  server_.head->status = 200;
  server_.body = "data: " + std::string(kBoardHelpLimits.event_bytes, 'x') + "\n\n";
  EXPECT_THAT(Type("run Once upon a time\n"), HasSubstr(alone + "\n[by the model here, because the server "));
}

TEST_F(BoardHelpTest, RemoteIsTheServerOrNobody) {
  Type("server http://a remote\n");
  server_.body = Event("One");
  server_.then = FakeServer::Then::kBreak;
  const std::string shown = Type("run Once upon a time\n");
  EXPECT_THAT(shown, HasSubstr("One\nerror: the server http://a broke off; the answer breaks off after 3 bytes\n"));
  EXPECT_EQ(model_->session().n_past(), 0u);
}

TEST_F(BoardHelpTest, ControlCEndsAnAnswer) {
  Type("server http://a\n");
  server_.body = Event("One");
  server_.then = FakeServer::Then::kSilence;
  int waits = 0;
  server_.on_wait = [&] {
    if (++waits == 4) board_->interrupted().store(true);
  };
  EXPECT_THAT(Type("run Once upon a time\n"), HasSubstr("One\n[by the server http://a; Ctrl-C]\nthimble> "));
  EXPECT_TRUE(server_.is_cancelled);
  server_.body.clear();
  waits = 0;
  EXPECT_THAT(Type("run Once upon a time\n"), EndsWith("\n^C\nthimble> "));
  EXPECT_EQ(model_->session().n_past(), 0u);
}

TEST_F(BoardHelpTest, ATextGoesOnWithinTheContext) {
  Type("server http://a\nset ctx-size 64\n");
  server_.body = Event(" sat on the mat") + kEnd;
  Type("run\nThe cat\n");
  const std::vector<TokenId> first = SentIds();
  Type("\n");
  const auto joined = model_->session().Tokenize("The cat sat on the mat");
  EXPECT_EQ(SentIds(), std::vector<TokenId>(joined->begin(), joined->end()));
  const std::string begun = "The cat sat on the mat sat on the mat";
  Type("Then it went home\n");
  const auto before = model_->session().Tokenize(begun);
  std::vector<TokenId> sent = SentIds();
  ASSERT_GT(sent.size(), before->size());
  sent.resize(before->size());
  EXPECT_EQ(sent, std::vector<TokenId>(before->begin(), before->end()));
  // Its beginning is left out in the end, and nothing grows.
  std::string shown;
  for (int i = 0; i < 40; ++i) {
    shown += Type("And then it came back again, to the mat\n");
    ASSERT_LE(SentIds().size(), 63u);
    ASSERT_EQ(SentIds()[0], first[0]) << "the begin token";
  }
  EXPECT_THAT(shown, HasSubstr("(the context of 64 positions has no room for the first "));
  // A server that never ends.
  server_.body.clear();
  server_.more = [] { return Event(std::string(100, 'a') + " "); };
  shown = Type("More\n");
  EXPECT_THAT(shown, HasSubstr("gives more than 8192 bytes of text]"));
  for (int i = 0; i < 3; ++i) Type("\n");
  EXPECT_LE(SentIds().size(), 63u);
  server_.more = nullptr;
  Type("/clear\nThe cat\n");
  EXPECT_EQ(SentIds(), first);
}

TEST_F(BoardHelpTest, ACardThatIsPulledMeanwhileIsASentence) {
  Type("server http://a\nrun A\n");
  server_.then = FakeServer::Then::kSilence;
  slot_->pulled_after = slot_->reads() + 3;
  EXPECT_THAT(Type("run Once upon a time\n"), AllOf(HasSubstr("note: the server http://a gave no text for 20 s"),
                                                    HasSubstr("error: the card does not answer")));
  slot_->pulled_after = SimulatedSlot::kNever;
  slot_->Insert(device_.get(), 1);
  EXPECT_THAT(Type("run Once upon a time\n"), HasSubstr("[12 tokens"));
}

TEST_F(BoardHelpTest, FitsItsStack) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's frames are larger";
  Type("server http://a\nrun A\n");
  server_.body = Event(" sat") + "data: {\"content\": " + std::string(900, '[') + "\n\n";
  const size_t used = StackOf([&] { console_->Execute("run The cat"); });
  EXPECT_THAT(board_->output(), HasSubstr("no JSON object"));
  EXPECT_LE(used, plan::kStackBytes + Console::kStackBytes + kServiceStackBytes);
  RecordProperty("bytes", static_cast<int>(used));
}

}  // namespace
}  // namespace thimble::firmware
