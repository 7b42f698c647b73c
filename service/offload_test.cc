// Help from a server that is a script: whatever it does, there is a whole answer or one sentence, and nothing is shown
// twice.
#include "service/offload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "service/event_stream.h"
#include "service/json.h"
#include "service/server_answer.h"
#include "service/server_url.h"
#include "tests/support/fake_server.h"

namespace thimble::service {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;
using tests::FakeServer;

std::vector<std::string> EventsOf(std::string_view stream, size_t piece) {
  EventReader reader;
  std::vector<std::string> events;
  for (size_t at = 0; at < stream.size(); at += piece) {
    std::string_view bytes = stream.substr(at, piece);
    while (true) {
      const EventReader::Step step = reader.Read(bytes);
      if (step == EventReader::Step::kTooLong) events.emplace_back("too long");
      if (step != EventReader::Step::kEvent) break;
      events.push_back((reader.is_error() ? "error " : "") + std::string(reader.data()));
    }
  }
  return events;
}

TEST(EventReader, ReadsWhatTheStandardSays) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> streams = {
      {"data: a\n\ndata:b\n\n", {"a", "b"}},
      {"data: a\r\n\r\ndata: b\r\rdata:  c\n\n", {"a", "b", " c"}},
      {": comment\n\n:\n\ndata: a\nid: 5\nretry: 3\ndata: b\nunknown\n\n", {"a\nb"}},
      {"\xef\xbb\xbf"
       "data: a\n\n",
       {"a"}},
      {"data: a: b\n\ndata\n\ndata:\n\n\n\n", {"a: b"}},
      {"data: not ended\n", {}},
      {"data: not ended", {}},
      {"error: bad\n\ndata: a\n\nevent: error\ndata: worse\n\nevent: error\n\ndata: b\n\n",
       {"error bad", "a", "error worse", "b"}},
      {"dat: a\n\n data: b\n\nDATA: c\n\n", {}},
      {std::string("data: a\0b\n\n", 11), {std::string("a\0b", 3)}},
  };
  for (const auto& [stream, events] : streams) {
    for (size_t piece = 1; piece <= stream.size(); ++piece) EXPECT_EQ(EventsOf(stream, piece), events) << stream;
  }
}

TEST(EventReader, IsBounded) {
  const std::string longest = "data:" + std::string(EventReader::kMaxBytes - 5, 'a');
  EXPECT_EQ(EventsOf(longest + "\n\n", 1000).size(), 1u);
  EXPECT_THAT(EventsOf(longest + "a\n\n", longest.size() + 3), ElementsAre("too long"));
  EXPECT_EQ(EventsOf(":" + std::string(EventReader::kMaxBytes, 'a'), 4096).back(), "too long");
  std::string many;
  for (size_t i = 0; i < EventReader::kMaxBytes / 100 + 1; ++i) many += "data:" + std::string(100, 'a') + "\n";
  EXPECT_EQ(EventsOf(many, many.size()).back(), "too long");
}

TEST(ServerUrl, IsReadOrRefused) {
  for (const auto& [text, want] : std::vector<std::pair<std::string, std::string>>{
           {"http://a", "http://a"},
           {"http://a:80/", "http://a"},
           {"https://a.b-c_d:443/v1/", "https://a.b-c_d"},
           {"https://a:8443/x/v1", "https://a:8443/x"},
           {"http://[::1]:8080", "http://[::1]:8080"},
           {"http://127.0.0.1:65535/a/b//", "http://127.0.0.1:65535/a/b"}}) {
    const auto url = ReadServerUrl(text);
    ASSERT_TRUE(url) << text << url.error();
    EXPECT_EQ(url->Text(), want);
  }
  EXPECT_TRUE(ReadServerUrl("http://127.0.0.1")->is_local());
  EXPECT_FALSE(ReadServerUrl("http://10.0.0.1")->is_local());
  for (const char* text : {"",
                           "a",
                           "ftp://a",
                           "HTTP://a",
                           "file:///etc/passwd",
                           "http://",
                           "http:///a",
                           "http://:80",
                           "http://a:",
                           "http://a:0",
                           "http://a:65536",
                           "http://a:8o",
                           "http://a:-1",
                           "http://[::1",
                           "http://[::1]x",
                           "http://[]",
                           "http://a b",
                           "http://a/ b",
                           "http://a?secret",
                           "http://a/?secret",
                           "http://a/#secret",
                           "http://a\r\nsecret: b",
                           "http://a/\x7f",
                           "http://\xc3\xa4",
                           "https://name:secret@a",
                           "http://secret@a/b"}) {
    const auto url = ReadServerUrl(text);
    ASSERT_FALSE(url) << text;
    EXPECT_THAT(url.error(), AllOf(StartsWith("the "), Not(HasSubstr("secret"))));
  }
  EXPECT_FALSE(ReadServerUrl("http://" + std::string(5000, 'a')));
}

constexpr std::string_view kText = "One day, \"\xc3\xa9t\xc3\xa9\" came.\n";

std::string Quoted(std::string_view text) { return JsonValue(text).Dump(); }

// A whole answer of each kind, a word at a time.
std::string LlamaStream() {
  std::string stream = ": waiting\n\n";
  for (size_t at = 0; at < kText.size(); at += 5) {
    size_t end = std::min(at + 5, kText.size());
    // Not within a character.
    while (end < kText.size() && (static_cast<unsigned char>(kText[end]) & 0xc0) == 0x80) ++end;
    stream += "data: {\"content\":" + Quoted(kText.substr(at, end - at)) + ",\"stop\":false}\n\n";
    at = end - 5;
  }
  return stream + "data: {\"content\":\"\",\"stop\":true,\"stop_type\":\"word\",\"model\":\"big\"}\n\n";
}

std::string ChatStream() {
  std::string stream =
      "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\r\n\r\n";
  stream += "data:{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"another\"}}]}\r\n\r\n";
  stream += "data:{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}],\"model\":\"big\"}\r\n\r\n";
  stream += "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":" + Quoted(kText.substr(0, 12)) +
            "},\"finish_reason\":\"\"}]}\r\n\r\n";
  stream += "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":" + Quoted(kText.substr(12)) + "}}]}\r\n\r\n";
  stream += "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\r\n\r\n";
  return stream + "data: {\"choices\":[],\"usage\":{}}\r\n\r\ndata: [DONE]\r\n\r\n";
}

class OffloadTest : public testing::Test {
 protected:
  OffloadTest() {
    options_ = {.url = *ReadServerUrl("http://server:8080"), .timeout = milliseconds(2000)};
    ids_.ids = {1, 2, 3};
    chat_.messages = {{text::ChatRole::kUser, "Hi"}};
  }

  HelpedAnswer Ask(FakeServer& server, const HelpRequest& request) {
    shown_.clear();
    begun_.reset();
    HelpedAnswer answer = MakeAnswer(
        server, options_, request, cancel_, [this](std::string_view text) { shown_ += text; },
        [this](std::string_view begun, const ShowText& show) -> Answer<StopReason> {
          EXPECT_FALSE(begun_);
          begun_ = begun;
          if (!here_fails_.empty()) return std::unexpected(here_fails_);
          if (kText.starts_with(begun)) show(kText.substr(begun.size()));
          return StopReason::kStopText;
        });
    // Always: what is shown is the answer, once; nobody is asked twice, and nobody is left to send.
    EXPECT_EQ(shown_, answer.text);
    EXPECT_EQ(server.starts, 1);
    EXPECT_TRUE(server.is_cancelled);
    EXPECT_LE(answer.server_bytes, answer.text.size());
    EXPECT_EQ(begun_.value_or("").size(), begun_ ? answer.server_bytes : 0);
    for (const std::string& sentence : {answer.failure, answer.why}) {
      EXPECT_TRUE(sentence.empty() || sentence.starts_with("the server http://server:8080 ")) << sentence;
      EXPECT_TRUE(!sentence.ends_with('.') || sentence.ends_with("...")) << sentence;
      EXPECT_EQ(sentence.find('\n'), sentence.npos) << sentence;
      EXPECT_LT(sentence.size(), 800u);
    }
    return answer;
  }

  // What is wrong with such a stream, of /completion or of chat.
  std::string FaultOf(const std::string& body, bool is_chat = false) {
    FakeServer server;
    server.body = body;
    options_.mode = ServerMode::kRemote;
    return Ask(server, is_chat ? chat_ : ids_).failure;
  }

  HelpOptions options_;
  HelpRequest ids_;
  HelpRequest chat_;
  std::atomic<bool> cancel_ = false;
  std::string here_fails_;
  std::string shown_;
  std::optional<std::string> begun_;  // what the model here went on with
};

TEST_F(OffloadTest, WholeAnswersAreTheServers) {
  for (const bool is_chat : {false, true}) {
    for (const size_t piece : {1u, 2u, 7u, 4096u}) {
      FakeServer server;
      server.body = is_chat ? ChatStream() : LlamaStream();
      server.piece = piece;
      const HelpedAnswer answer = Ask(server, is_chat ? chat_ : ids_);
      EXPECT_EQ(answer.text, kText);
      EXPECT_EQ(answer.failure + answer.why, "");
      EXPECT_EQ(answer.reason, is_chat ? StopReason::kLimit : StopReason::kStopText);
      EXPECT_FALSE(begun_);
      EXPECT_EQ(WhoMade(options_, answer), is_chat || piece != 0 ? "by the server http://server:8080 (model big)" : "");
    }
  }
}

TEST_F(OffloadTest, WhereverTheStreamBreaksTheAnswerIsWholeOrASentence) {
  for (const bool is_chat : {false, true}) {
    const std::string stream = is_chat ? ChatStream() : LlamaStream();
    for (size_t bytes = 0; bytes <= stream.size(); ++bytes) {
      for (const FakeServer::Then then :
           {FakeServer::Then::kEnd, FakeServer::Then::kBreak, FakeServer::Then::kSilence}) {
        const auto server = [&] {
          FakeServer fake;
          fake.body = stream.substr(0, bytes);
          fake.then = then;
          return fake;
        };
        options_.mode = ServerMode::kRemote;
        FakeServer alone = server();
        const HelpedAnswer remote = Ask(alone, is_chat ? chat_ : ids_);
        EXPECT_TRUE(kText.starts_with(remote.text));
        EXPECT_EQ(remote.failure.empty(), remote.why.empty());
        if (remote.failure.empty()) {
          EXPECT_EQ(remote.text, kText);
        } else {
          EXPECT_THAT(remote.failure, HasSubstr(then == FakeServer::Then::kSilence ? "text for 2 s"
                                                : then == FakeServer::Then::kEnd   ? "hung up"
                                                                                   : "broke off"));
        }
        EXPECT_FALSE(begun_);
        options_.mode = ServerMode::kRemoteElseLocal;
        FakeServer helped = server();
        const HelpedAnswer both = Ask(helped, is_chat ? chat_ : ids_);
        EXPECT_EQ(both.text, kText);
        EXPECT_EQ(both.failure, "");
        EXPECT_EQ(both.why.empty(), remote.failure.empty());
        EXPECT_EQ(both.went_on_here, begun_.has_value());
        EXPECT_EQ(both.server_bytes, remote.text.size());
      }
    }
  }
}

TEST_F(OffloadTest, SaysWhoMadeItAndWhy) {
  FakeServer gone;
  gone.head.reset();
  gone.then = FakeServer::Then::kBreak;
  EXPECT_EQ(WhoMade(options_, Ask(gone, ids_)), "by the model here, because the server http://server:8080 broke off");
  FakeServer silent;
  silent.head.reset();
  silent.then = FakeServer::Then::kSilence;
  EXPECT_EQ(WhoMade(options_, Ask(silent, ids_)),
            "by the model here, because the server http://server:8080 gave no text for 2 s");
  FakeServer half;
  half.body = "data: {\"content\":\"One\"}\n\n";
  EXPECT_EQ(WhoMade(options_, Ask(half, ids_)),
            "the first 3 bytes by the server http://server:8080, the rest by the model here, because the server "
            "http://server:8080 hung up in mid-answer");
  EXPECT_EQ(begun_, "One");
  here_fails_ = "the context is full";
  FakeServer again;
  again.body = half.body;
  EXPECT_EQ(Ask(again, ids_).failure,
            "the server http://server:8080 hung up in mid-answer; and here: the context is full; the answer breaks off "
            "after 3 bytes");
}

// What drips is as silent as what does not come: only text is progress, or thoughts.
TEST_F(OffloadTest, SlowIsGone) {
  options_.mode = ServerMode::kRemote;
  FakeServer drips;
  drips.more = [] { return ": still working\n\n"; };
  drips.piece = 1;
  drips.per_piece = milliseconds(300);
  EXPECT_THAT(Ask(drips, ids_).failure, HasSubstr("gave no text for 2 s"));
  FakeServer dawdles;
  dawdles.body = LlamaStream();
  dawdles.per_piece = milliseconds(1900);
  dawdles.piece = 70;
  EXPECT_EQ(Ask(dawdles, ids_).text, kText);
  FakeServer thinks;
  int thoughts = 0;
  thinks.body = "data: {\"choices\":[{\"delta\":{\"reasoning\":\"x\"}}]}\n\n";
  thinks.more = [&] { return ++thoughts < 5 ? thinks.body : thoughts == 5 ? ChatStream() : ""; };
  thinks.per_piece = milliseconds(1900);
  EXPECT_EQ(Ask(thinks, chat_).text, kText);
}

TEST_F(OffloadTest, NoAmountIsTooMuch) {
  options_.mode = ServerMode::kRemote;
  FakeServer line;
  line.body = "data: ";
  line.more = [] { return std::string(4096, 'x'); };
  EXPECT_THAT(Ask(line, ids_).failure, HasSubstr("a line or an event of more than 262144 bytes"));
  FakeServer text;
  text.more = [] { return "data: {\"content\":\"" + std::string(100'000, 'x') + "\"}\n\n"; };
  const HelpedAnswer much = Ask(text, ids_);
  EXPECT_THAT(much.failure, HasSubstr("gives more than 1048576 bytes of text"));
  EXPECT_THAT(much.failure, HasSubstr("breaks off after 1000000 bytes"));
  FakeServer comments;
  comments.more = [] { return ":" + std::string(100'000, 'x') + "\n"; };
  EXPECT_THAT(Ask(comments, ids_).failure, HasSubstr("sends more than 67108864 bytes"));
  FakeServer body;
  body.head->content_type = "application/json";
  body.more = [] { return std::string(100'000, '['); };
  EXPECT_THAT(Ask(body, ids_).failure, HasSubstr("more than 1048576 bytes at once"));
  FakeServer page;
  page.head->status = 500;
  page.more = [] { return std::string(100'000, '{'); };
  EXPECT_THAT(Ask(page, ids_).failure, HasSubstr("answered with the status 500"));
}

TEST_F(OffloadTest, WhatIsNoAnswerIsASentence) {
  const std::string good = "data: {\"content\":\"One\"}\n\n";
  for (const char* const wrong :
       {"garbage", "[]", "5", "{\"content\":\"\\u0000\"}", "{\"content\":", "\xff", "\"[DONE]\""}) {
    EXPECT_EQ(FaultOf(good + "data: " + wrong + "\n\n" + good),
              "the server http://server:8080 sent an event that is no JSON object; the answer breaks off after 3 bytes")
        << wrong;
    EXPECT_EQ(shown_, "One");
  }
  for (const char* wrong : {"{}", "{\"content\":5}", "{\"content\":null}", "{\"text\":\"a\"}",
                            "{\"content\":[],\"stop\":true}", "{\"stop\":false}"}) {
    EXPECT_THAT(FaultOf("data: " + std::string(wrong) + "\n\n"), HasSubstr("no text 'content'")) << wrong;
  }
  for (const auto& [wrong, words] :
       std::vector<std::pair<std::string, std::string>>{{"{}", "no 'choices'"},
                                                        {"{\"choices\":{}}", "no 'choices'"},
                                                        {"{\"choices\":[{}]}", "without its 'delta'"},
                                                        {"{\"choices\":[5]}", "without its 'delta'"},
                                                        {"{\"choices\":[{\"delta\":[]}]}", "without its 'delta'"},
                                                        {"{\"choices\":[{\"delta\":{\"content\":[]}}]}", "no text"},
                                                        {"{\"content\":\"a\"}", "no 'choices'"}}) {
    EXPECT_THAT(FaultOf("data: " + wrong + "\n\n", true), HasSubstr(words)) << wrong;
  }
  for (const char* error :
       {"data: {\"error\":{\"message\":\"out\\nof cake.\"}}\n\n", "data: {\"error\":\"out of cake\"}\n\n",
        "error: {\"message\":\"out of cake\",\"code\":500}\n\n",
        "event: error\ndata: {\"message\":\"out of cake\"}\n\n", "error: out of cake\n\n",
        "data: {\"error\":{\"detail\":\"out of cake\"}}\n\n",
        "data: {\"object\":\"error\",\"message\":\"out of cake\"}\n\n"}) {
    for (const bool is_chat : {false, true}) {
      EXPECT_EQ(FaultOf(error, is_chat), "the server http://server:8080 failed: out of cake") << error;
    }
  }
  EXPECT_THAT(FaultOf("data: {\"error\":{}}\n\n"), HasSubstr("does not say why"));
  // Done without a word is done.
  EXPECT_EQ(FaultOf("data: [DONE]\n\n", true), "");
  EXPECT_EQ(FaultOf("data: {\"stop\":true}\n\n"), "");
}

TEST_F(OffloadTest, WhatIsNoStreamIsRead) {
  options_.mode = ServerMode::kRemote;
  const auto ask = [&](std::string body, bool is_chat, int status = 200, std::string type = "application/json") {
    FakeServer server;
    server.head = ResponseHead{.status = status, .content_type = std::move(type), .location = "http://else/where"};
    server.body = std::move(body);
    return Ask(server, is_chat ? chat_ : ids_);
  };
  EXPECT_EQ(ask("{\"content\":\"a\",\"stopped_limit\":true}", false).text, "a");
  const HelpedAnswer whole = ask("{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"length\"}]}", true,
                                 200, "Application/JSON ; charset=utf-8");
  EXPECT_EQ(whole.text, "a");
  EXPECT_EQ(whole.reason, StopReason::kLimit);
  EXPECT_THAT(ask("{\"choices\":[]}", true).failure, HasSubstr("no choice"));
  EXPECT_THAT(ask("{\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"x\"}]}", true).failure,
              HasSubstr("without its 'message'"));
  EXPECT_THAT(ask("{\"content\":5}", false).failure, HasSubstr("no text 'content'"));
  EXPECT_THAT(ask("[]", false).failure, HasSubstr("no JSON object"));
  EXPECT_THAT(ask("{\"error\":\"no\"}", false).failure, HasSubstr("status 200: no"));
  for (const char* type : {"text/html", "", "text/plain", "text/event-streams"}) {
    EXPECT_THAT(ask(LlamaStream(), false, 200, type).failure, HasSubstr("in place of text/event-stream")) << type;
  }
  for (const int status : {301, 302, 303, 307, 308, 304}) {
    EXPECT_THAT(ask(LlamaStream(), false, status).failure,
                HasSubstr("redirects to http://else/where, which is not followed"));
  }
  for (const int status : {100, 204, 400, 401, 403, 404, 405, 413, 429, 500, 502, 503, 999}) {
    const std::string code = "answered with the status " + std::to_string(status);
    EXPECT_THAT(ask("{\"error\":{\"message\":\"no cake\"}}", false, status).failure, HasSubstr(code + ": no cake"));
    EXPECT_THAT(ask("{\"detail\":\"no cake\"}", false, status, "").failure, HasSubstr(code + ": no cake"));
    EXPECT_THAT(ask("<html>", false, status, "text/html").failure, HasSubstr(code));
    EXPECT_THAT(ask("", true, status).failure, HasSubstr(code));
    EXPECT_THAT(ask(LlamaStream(), false, status, "text/event-stream").text, IsEmpty());
  }
  EXPECT_THAT(ask("{\"error\":\"" + std::string(9000, 'x') + "\"}", false, 500).failure, HasSubstr("xxx..."));
  // A failure is known by its status, though its body does not end.
  FakeServer stuck;
  stuck.head->status = 500;
  stuck.body = "{";
  stuck.then = FakeServer::Then::kSilence;
  EXPECT_THAT(Ask(stuck, ids_).failure, HasSubstr("status 500"));
}

TEST_F(OffloadTest, TheKeyIsNeverShown) {
  options_.key = "s3cret";
  options_.mode = ServerMode::kRemoteElseLocal;
  for (const char* body :
       {"data: {\"error\":\"s3cret is no key, s3cret!\"}\n\n", "data: {\"content\":\"\",\"model\":\"s3cret\"}\n\n"}) {
    FakeServer server;
    server.body = body;
    const HelpedAnswer answer = Ask(server, ids_);
    EXPECT_EQ(server.asked.key, "s3cret");
    EXPECT_THAT(server.asked.body, Not(HasSubstr("s3cret")));
    EXPECT_THAT(WhoMade(options_, answer), Not(HasSubstr("s3cret")));
    EXPECT_THAT(answer.why, Not(HasSubstr("s3cret")));
  }
  FakeServer elsewhere;
  elsewhere.head = ResponseHead{.status = 302, .location = "http://a/s3cret"};
  EXPECT_THAT(Ask(elsewhere, ids_).why, Not(HasSubstr("s3cret")));
  EXPECT_TRUE(IsServerKey("sk-1~"));
  for (const char* key : {"", "a b", "a\r\nHost: b", "\xc3\xa9", "\x7f"}) EXPECT_FALSE(IsServerKey(key));
}

TEST_F(OffloadTest, AnInterruptEndsItAndNothingGoesOn) {
  int waits = 0;
  FakeServer server;
  server.body = "data: {\"content\":\"One\"}\n\n";
  server.then = FakeServer::Then::kSilence;
  server.on_wait = [&] { cancel_ = ++waits == 5; };
  const HelpedAnswer answer = Ask(server, ids_);
  EXPECT_EQ(answer.text, "One");
  EXPECT_EQ(answer.reason, StopReason::kCancelled);
  EXPECT_EQ(answer.failure + answer.why, "");
  EXPECT_FALSE(begun_);
}

TEST_F(OffloadTest, RequestsSayWhatIsWanted) {
  ids_.sampler.seed = 7;
  ids_.sampler.temperature = 0;
  ids_.n_predict = 5;
  ids_.stops = {"a", "b"};
  const OutgoingRequest llama = RequestFor(options_, ids_);
  EXPECT_EQ(llama.path, "/completion");
  const auto document = JsonDocument::Parse(llama.body);
  ASSERT_TRUE(document);
  const auto integer = [&](const char* key) { return document->root().Find(key)->AsInteger(); };
  EXPECT_EQ(document->root().Find("prompt")->Elements().size(), 3u);
  EXPECT_EQ(integer("n_predict"), 5);
  EXPECT_EQ(integer("seed"), 7);
  EXPECT_EQ(integer("top_k"), 40);
  EXPECT_EQ(integer("repeat_last_n"), 64);
  EXPECT_EQ(document->root().Find("stop")->Elements().size(), 2u);
  EXPECT_FALSE(document->root().Find("model"));
  // What a strict server does not know is not sent unless it is asked for.
  options_.model = "m";
  const OutgoingRequest chat = RequestFor(options_, chat_);
  EXPECT_EQ(chat.path, "/v1/chat/completions");
  EXPECT_THAT(chat.body, StartsWith("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],"));
  EXPECT_THAT(chat.body, AllOf(Not(HasSubstr("top_k")), Not(HasSubstr("min_p")), Not(HasSubstr("repe")),
                               Not(HasSubstr("max_tokens")), Not(HasSubstr("stop"))));
  chat_.sampler.top_k = 3;
  chat_.sampler.repeat_penalty = 1.5f;
  chat_.n_predict = 0;
  EXPECT_THAT(RequestFor(options_, chat_).body,
              AllOf(HasSubstr("\"top_k\":3"), HasSubstr("\"repeat_penalty\":1.5"),
                    HasSubstr("\"repetition_penalty\":1.5"), HasSubstr("\"max_tokens\":0")));
}

}  // namespace
}  // namespace thimble::service
