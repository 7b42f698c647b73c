// Guesses from a server that is a script: whatever it does, what comes of it is some ids, no more than there is room
// for, in bounded time.
#include "service/server_drafter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "service/json.h"
#include "tests/support/fake_server.h"

namespace thimble::service {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;
using tests::FakeServer;
using Ids = std::vector<TokenId>;

constexpr std::array<TokenId, 3> kText = {1, 20, 300};

std::string Event(std::string_view json) { return "data: " + std::string(json) + "\n\n"; }

class ServerDrafterTest : public testing::Test {
 protected:
  ServerDrafterTest() {
    options_ = {.url = *ReadServerUrl("http://server:8080"), .key = "sk-x", .timeout = milliseconds(1000)};
  }

  Ids Guess(ServerDrafter& drafter, size_t n = 4) {
    Ids out(n, 999);
    const size_t guessed = drafter.Guess(kText, out);
    EXPECT_LE(guessed, n);
    out.resize(std::min(guessed, n));
    return out;
  }
  ServerDrafter Drafter(FakeServer& server, TokenizeBehind tokenize = {}) {
    return ServerDrafter(server, options_, cancel_, std::move(tokenize));
  }

  HelpOptions options_;
  std::atomic<bool> cancel_ = false;
};

TEST_F(ServerDrafterTest, AsksWithIdsForAFewTokens) {
  FakeServer server;
  server.body = Event(R"({"content":" a","tokens":[7],"stop":false})") +
                Event(R"({"content":" b","tokens":[8,9],"stop":false})") +
                Event(R"({"content":"","tokens":[],"stop":true,"stop_type":"limit"})");
  for (const size_t piece : {1u, 3u, 4096u}) {
    server.piece = piece;
    options_.model = "m";
    ServerDrafter drafter = Drafter(server);
    EXPECT_THAT(Guess(drafter), ElementsAre(7, 8, 9));
    EXPECT_EQ(drafter.fault(), "");
    EXPECT_EQ(server.asked.path, "/completion");
    EXPECT_EQ(server.asked.key, "sk-x");
    const auto body = JsonDocument::Parse(server.asked.body);
    ASSERT_TRUE(body);
    EXPECT_EQ(body->root().Find("n_predict")->AsInteger(), 4);
    EXPECT_EQ(body->root().Find("temperature")->AsNumber(), 0.0);
    EXPECT_EQ(body->root().Find("return_tokens")->AsBool(), true);
    EXPECT_EQ(body->root().Find("model")->AsString(), "m");
    Ids sent;
    for (const JsonView& id : body->root().Find("prompt")->Elements()) {
      sent.push_back(static_cast<TokenId>(*id.AsInteger()));
    }
    EXPECT_THAT(sent, ElementsAre(1, 20, 300));
  }
}

// A server that writes on and on is left when there is enough.
TEST_F(ServerDrafterTest, MoreThanAskedForIsLeftThere) {
  FakeServer server;
  server.more = [] { return Event(R"({"content":"x","tokens":[5],"stop":false})"); };
  ServerDrafter drafter = Drafter(server);
  EXPECT_THAT(Guess(drafter, 3), ElementsAre(5, 5, 5));
  EXPECT_TRUE(server.is_cancelled);
  EXPECT_EQ(drafter.fault(), "");
  FakeServer many;
  many.body = Event(R"({"content":"x","tokens":[1,2,3,4,5,6,7,8,9],"stop":true})");
  ServerDrafter bounded = Drafter(many);
  EXPECT_THAT(Guess(bounded, 2), ElementsAre(1, 2));
}

TEST_F(ServerDrafterTest, AnAnswerInOnePieceWillDo) {
  FakeServer server;
  server.head->content_type = "application/json";
  server.body = R"({"content":" a b","tokens":[7,8],"stop":true})";
  ServerDrafter drafter = Drafter(server);
  EXPECT_THAT(Guess(drafter), ElementsAre(7, 8));
}

// Text where there are no ids, behind the text so far.
TEST_F(ServerDrafterTest, TextIsDividedHere) {
  FakeServer server;
  server.body = Event(R"({"content":" a","stop":false})") + Event(R"({"content":" b","stop":true})");
  std::string seen;
  ServerDrafter drafter = Drafter(server, [&](std::span<const TokenId> before, std::string_view text) {
    EXPECT_THAT(Ids(before.begin(), before.end()), ElementsAre(1, 20, 300));
    seen = text;
    return Ids{4, 5, 6, 7, 8};
  });
  EXPECT_THAT(Guess(drafter, 3), ElementsAre(4, 5, 6));
  EXPECT_EQ(seen, " a b");
  ServerDrafter deaf = Drafter(server);
  EXPECT_THAT(Guess(deaf), IsEmpty());
}

// vLLM has no /completion.
TEST_F(ServerDrafterTest, OpenAisPathWhereThereIsNoOther) {
  FakeServer server;
  server.on_wait = [&] {
    const bool is_llama = server.asked.path == "/completion";
    server.head->status = is_llama ? 404 : 200;
    server.body = is_llama ? "{}"
                           : Event(R"({"choices":[{"index":0,"text":" a"}]})") +
                                 Event(R"({"choices":[{"index":0,"text":" b","finish_reason":"length"}]})") +
                                 Event("[DONE]");
  };
  ServerDrafter drafter =
      Drafter(server, [](std::span<const TokenId>, std::string_view text) { return Ids(text.size(), 3); });
  EXPECT_THAT(Guess(drafter), SizeIs(4));
  EXPECT_EQ(server.asked.path, "/v1/completions");
  EXPECT_THAT(server.asked.body, HasSubstr("\"max_tokens\":4"));
  EXPECT_THAT(Guess(drafter), SizeIs(4));
  EXPECT_EQ(server.starts, 3);  // the path is kept
  EXPECT_EQ(drafter.fault(), "");
}

// What is no id ends what came before it; ids that there are not are the session's business.
TEST_F(ServerDrafterTest, IdsAreNotTrusted) {
  for (const auto& [tokens, want] : std::vector<std::pair<std::string, Ids>>{{"[7,-1,8]", {7}},
                                                                             {"[7,4294967295,8]", {7}},
                                                                             {"[7,1.5]", {7}},
                                                                             {"[7,\"8\"]", {7}},
                                                                             {"[7,99999999999999999999]", {7}},
                                                                             {"[[7]]", {}},
                                                                             {"{\"7\":8}", {}},
                                                                             {"null", {}},
                                                                             {"[4294967294]", {4294967294}}}) {
    FakeServer server;
    server.body = Event("{\"content\":\"x\",\"tokens\":" + tokens + ",\"stop\":true}");
    ServerDrafter drafter = Drafter(server);
    EXPECT_EQ(Guess(drafter), want) << tokens;
  }
}

// Slow, silent, gone, no JSON, endless, failing: no guesses, one sentence without the key, bounded time.
TEST_F(ServerDrafterTest, WhateverFailsThereIsASentence) {
  const auto fault_of = [&](FakeServer& server) {
    const auto begun = server.now();
    ServerDrafter drafter = Drafter(server);
    EXPECT_THAT(Guess(drafter), IsEmpty());
    EXPECT_LE(server.now() - begun, options_.timeout);
    EXPECT_TRUE(server.is_cancelled);
    EXPECT_THAT(drafter.fault(), AllOf(StartsWith("the server http://server:8080 "), Not(HasSubstr("sk-x")),
                                       HasSubstr(": 1 of 1 times that it was asked for guesses it gave none")));
    return drafter.fault();
  };
  FakeServer gone;
  gone.head.reset();
  gone.then = FakeServer::Then::kBreak;
  EXPECT_THAT(fault_of(gone), HasSubstr("broke off"));
  FakeServer silent;
  silent.head.reset();
  silent.then = FakeServer::Then::kSilence;
  EXPECT_THAT(fault_of(silent), HasSubstr("gave no text for 1 s"));
  FakeServer mute;
  mute.then = FakeServer::Then::kSilence;
  EXPECT_THAT(fault_of(mute), HasSubstr("gave no text for 1 s"));
  FakeServer drips;
  drips.more = [] { return Event(R"({"content":"","tokens":[],"stop":false})"); };
  drips.per_piece = milliseconds(90);
  EXPECT_THAT(fault_of(drips), HasSubstr("gave no text for 1 s"));
  FakeServer comments;
  comments.more = [] { return ":" + std::string(4000, 'x') + "\n"; };
  EXPECT_THAT(fault_of(comments), HasSubstr("sends more than 262144 bytes"));
  FakeServer line;
  line.body = "data: ";
  line.more = [] { return std::string(4096, 'x'); };
  EXPECT_THAT(fault_of(line), HasSubstr("a line or an event of more than 16384 bytes"));
  FakeServer talks;  // text without ids, and no end of it
  talks.more = [] { return Event("{\"content\":\"" + std::string(4000, 'x') + "\"}"); };
  EXPECT_THAT(fault_of(talks), HasSubstr("gives more than 8192 bytes of text"));
  FakeServer no_json;
  no_json.body = Event("{\"content\":");
  EXPECT_THAT(fault_of(no_json), HasSubstr("no JSON object"));
  FakeServer whole;
  whole.head->content_type = "application/json";
  whole.body = "[[[[";
  EXPECT_THAT(fault_of(whole), HasSubstr("no JSON object"));
  FakeServer page;
  page.head->content_type = "text/html";
  EXPECT_THAT(fault_of(page), HasSubstr("text/html"));
  for (const int status : {301, 400, 401, 404, 500, 503}) {
    FakeServer failing;
    failing.head->status = status;
    failing.body = R"({"error":{"message":"no sk-x here"}})";
    EXPECT_THAT(fault_of(failing), HasSubstr(status == 301 ? "redirects" : std::to_string(status)));
  }
}

// What came in time counts, though the rest did not.
TEST_F(ServerDrafterTest, SlowIsBetterThanNothing) {
  FakeServer slow;
  slow.more = [] { return Event(R"({"content":"x","tokens":[5],"stop":false})"); };
  slow.per_piece = milliseconds(400);
  ServerDrafter drafter = Drafter(slow);
  const auto begun = slow.now();
  EXPECT_THAT(Guess(drafter), ElementsAre(5, 5));
  EXPECT_LE(slow.now() - begun, options_.timeout);
  EXPECT_EQ(drafter.fault(), "");
}

TEST_F(ServerDrafterTest, WhoFailsIsAskedLess) {
  FakeServer gone;
  gone.head.reset();
  gone.then = FakeServer::Then::kBreak;
  ServerDrafter drafter = Drafter(gone);
  std::vector<int> asked;
  for (int pass = 0; pass < 1000; ++pass) {
    const int before = gone.starts;
    EXPECT_THAT(Guess(drafter), IsEmpty());
    if (gone.starts != before) asked.push_back(pass);
  }
  EXPECT_THAT(asked, ElementsAre(0, 5, 22, 87));
  EXPECT_EQ(drafter.asked(), 4u);
  EXPECT_THAT(drafter.fault(), HasSubstr("broke off: 4 of 4 times that it was asked for guesses it gave none, and it "
                                         "was not asked any more"));
}

TEST_F(ServerDrafterTest, WhoComesBackIsAskedAsBefore) {
  FakeServer server;
  server.body = Event(R"({"content":"x","tokens":[5],"stop":true})");
  const ResponseHead good = *server.head;
  ServerDrafter drafter = Drafter(server);
  for (int round = 0; round < 10; ++round) {
    server.head->status = 500;
    EXPECT_THAT(Guess(drafter), IsEmpty());
    *server.head = good;
    for (int pass = 0; pass < 4; ++pass) EXPECT_THAT(Guess(drafter), IsEmpty());
    for (int pass = 0; pass < 3; ++pass) EXPECT_THAT(Guess(drafter), ElementsAre(5));
  }
  EXPECT_EQ(drafter.failed(), 10u);
  EXPECT_THAT(drafter.fault(), HasSubstr("10 of 40 times"));
  EXPECT_THAT(drafter.fault(), Not(HasSubstr("any more")));
}

TEST_F(ServerDrafterTest, AnInterruptIsNoFailure) {
  FakeServer server;
  server.then = FakeServer::Then::kSilence;
  server.on_wait = [&] { cancel_ = true; };
  ServerDrafter drafter = Drafter(server);
  EXPECT_THAT(Guess(drafter), IsEmpty());
  EXPECT_EQ(drafter.fault(), "");
  EXPECT_TRUE(server.is_cancelled);
  EXPECT_THAT(Guess(drafter), IsEmpty());
  EXPECT_EQ(server.starts, 1);
}

}  // namespace
}  // namespace thimble::service
