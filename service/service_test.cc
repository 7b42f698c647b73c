// The service over a small model, with clients that are functions. Linked with each of the two libraries for JSON.
#include "service/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/generate.h"
#include "host/devices/faulty_device.h"
#include "host/devices/ram_device.h"
#include "tests/support/open_model.h"
#include "tests/support/test_gguf.h"

namespace thimble::service {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr ModelShape kShape = {.vocab_size = 64,
                               .hidden_size = 32,
                               .intermediate_size = 48,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 4,
                               .num_key_value_heads = 2,
                               .head_dim = 8,
                               .max_position_embeddings = 48,
                               .rms_norm_eps = 1e-5f,
                               .rope_theta = 10000};

// Ids without texts, and a chat template of one id for each role.
class TestModel final : public Model {
 public:
  explicit TestModel(tests::OpenModel& model) : model_(&model) {
    description_ = {.id = "small",
                    .board = "board",
                    .chat_template = "chatml",
                    .no_texts = "it has no tokenizer",
                    .vocab_size = kShape.vocab_size,
                    .n_ctx = model.session()->n_ctx()};
  }
  const ModelDescription& description() const override { return description_; }
  Session& session() override { return *model_->session(); }
  const Ledger& ledger() const override { return model_->ledger(); }
  void Observe(EventSink* events) override { model_->ledger().events = events; }
  std::atomic<bool>& cancel() override { return model_->cancel(); }
  Answer<std::vector<TokenId>> Tokenize(std::string_view text, bool, bool) override {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(static_cast<TokenId>(c) % kShape.vocab_size);
    return ids;
  }
  Answer<std::vector<TokenId>> TokenizeChat(std::span<const text::ChatMessage> messages) override {
    std::vector<TokenId> ids;
    for (const text::ChatMessage& message : messages) {
      ids.push_back(static_cast<TokenId>(message.role));
      const auto of_text = *Tokenize(message.content, false, false);
      ids.insert(ids.end(), of_text.begin(), of_text.end());
    }
    return ids;
  }
  Answer<std::string> Detokenize(std::span<const TokenId> ids) override {
    std::string text;
    for (const TokenId id : ids) text += "<" + std::to_string(id) + ">";
    return text;
  }

 private:
  tests::OpenModel* model_;
  ModelDescription description_;
};

// Keeps what it is sent, and may go away.
class TestClient final : public Client {
 public:
  bool IsThere() override { return there; }
  bool Send(std::string_view bytes) override {
    if (on_send) on_send();
    if (!there) return false;
    sent += bytes;
    return true;
  }
  std::atomic<bool> there = true;
  std::function<void()> on_send;
  std::string sent;
};

class ServiceTest : public testing::Test {
 protected:
  explicit ServiceTest(ServiceOptions options = {.max_waiting = 2, .keeps_logits = true})
      : device_(tests::MakeGguf({.shape = kShape})), faulty_(device_) {
    tests::OpenModel::Options open;
    open.sampler = {.repeat_penalty = 2, .repeat_last_n = -1, .top_k = kShape.vocab_size};
    model_ = std::make_unique<tests::OpenModel>(faulty_, open);
    served_ = std::make_unique<TestModel>(*model_);
    options.sampler.temperature = 0.8f;
    service_ = std::make_unique<Service>(*served_, options);
  }

  Response Post(const std::string& path, const std::string& body) {
    TestClient client;
    return service_->Handle({.method = "POST", .path = path, .body = body}, client);
  }
  Response Get(const std::string& path) {
    TestClient client;
    return service_->Handle({.method = "GET", .path = path}, client);
  }
  static std::vector<std::string> Events(const std::string& sent) {
    std::vector<std::string> events;
    for (size_t at = 0; at < sent.size();) {
      const size_t end = sent.find("\n\n", at);
      const std::string event = sent.substr(at, end - at);
      if (event.starts_with("data: ")) events.push_back(event.substr(6));
      at = end + 2;
    }
    return events;
  }
  // Ids of an answer of /completion.
  static std::vector<TokenId> TokensOf(const std::string& body) {
    const auto document = JsonDocument::Parse(body);
    EXPECT_TRUE(document) << body;
    std::vector<TokenId> ids;
    if (!document || !document->root().Find("tokens")) return ids;
    for (const JsonView& id : document->root().Find("tokens")->Elements()) {
      ids.push_back(static_cast<TokenId>(*id.AsInteger()));
    }
    return ids;
  }
  // What the engine makes of it.
  std::vector<TokenId> Want(const std::vector<TokenId>& prompt, const head::SamplerOptions& sampler, int64_t n) {
    tests::OpenModel fresh(device_, {});
    EXPECT_TRUE(fresh.session()->Prefill(prompt));
    std::vector<TokenId> ids;
    for (int64_t i = 0; i < n; ++i) ids.push_back(*fresh.session()->Next(sampler));
    return ids;
  }

  host::RamDevice device_;
  host::FaultyDevice faulty_;
  std::unique_ptr<tests::OpenModel> model_;
  std::unique_ptr<TestModel> served_;
  std::unique_ptr<Service> service_;
};

TEST_F(ServiceTest, TextsAreTheEngines) {
  head::SamplerOptions sampler;
  sampler.seed = 7;
  const std::vector<TokenId> want = Want({1, 2, 3}, sampler, 10);
  for (int i = 0; i < 2; ++i) {
    const Response whole = Post("/completion", R"({"prompt": [1, 2, 3], "n_predict": 10, "seed": 7})");
    ASSERT_EQ(whole.status, 200) << whole.body;
    EXPECT_EQ(TokensOf(whole.body), want);
  }
  const Response again = Post("/completion", R"({"prompt": [1, 2, 3], "n_predict": 10, "seed": 8})");
  EXPECT_NE(TokensOf(again.body), want);
  Response streamed = Post("/completion", R"({"prompt": [1, 2, 3], "n_predict": 10, "seed": 7, "stream": true})");
  ASSERT_TRUE(streamed.stream);
  EXPECT_EQ(streamed.content_type, "text/event-stream");
  TestClient client;
  streamed.stream(client);
  streamed.stream = nullptr;
  std::vector<TokenId> ids;
  for (const std::string& event : Events(client.sent)) {
    for (const TokenId id : TokensOf(event)) ids.push_back(id);
  }
  EXPECT_EQ(ids, want);
}

TEST_F(ServiceTest, KeepsWhatTextsHaveInCommon) {
  const std::string first = Post("/completion", R"({"prompt": [1, 2, 3, 4], "n_predict": 5, "temperature": 0})").body;
  const std::vector<TokenId> made = TokensOf(first);
  std::vector<TokenId> longer = {1, 2, 3, 4};
  longer.insert(longer.end(), made.begin(), made.begin() + 3);
  std::string prompt;
  for (const TokenId id : longer) prompt += (prompt.empty() ? "" : ", ") + std::to_string(id);
  const std::string warm =
      Post("/completion", "{\"prompt\": [" + prompt + "], \"n_predict\": 5, \"temperature\": 0}").body;
  EXPECT_THAT(warm, HasSubstr("\"cache_n\":6"));
  EXPECT_EQ(TokensOf(warm), Want(longer, {.temperature = 0}, 5));
  const std::string cold = Post("/completion", "{\"prompt\": [" + prompt +
                                                   "], \"n_predict\": 5, \"temperature\": 0, \"cache_prompt\": false}")
                               .body;
  EXPECT_THAT(cold, HasSubstr("\"cache_n\":0"));
  EXPECT_EQ(TokensOf(cold), TokensOf(warm));
}

TEST_F(ServiceTest, LogprobsAreOfTheSoftmax) {
  const Response answer = Post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "ab"}],
      "max_tokens": 3, "temperature": 0, "logprobs": true, "top_logprobs": 2})");
  ASSERT_EQ(answer.status, 200) << answer.body;
  const auto document = JsonDocument::Parse(answer.body);
  const auto content = document->root().Find("choices")->Elements()[0].Find("logprobs")->Find("content")->Elements();
  ASSERT_EQ(content.size(), 3u);
  for (const JsonView& token : content) {
    const auto top = token.Find("top_logprobs")->Elements();
    ASSERT_EQ(top.size(), 2u);
    EXPECT_EQ(token.Find("logprob")->AsNumber(), top[0].Find("logprob")->AsNumber());  // greedy: the likeliest
    EXPECT_GE(*top[0].Find("logprob")->AsNumber(), *top[1].Find("logprob")->AsNumber());
    EXPECT_LE(*top[0].Find("logprob")->AsNumber(), 0);
  }
}

TEST_F(ServiceTest, AStreamOfChatHasItsEvents) {
  Response response = Post("/v1/chat/completions",
                           R"({"messages": [{"role": "user", "content": "a"}], "max_tokens": 2, "stream": true,
                               "stream_options": {"include_usage": true}, "n": 2, "seed": 1})");
  TestClient client;
  response.stream(client);
  const std::vector<std::string> events = Events(client.sent);
  ASSERT_GE(events.size(), 6u) << client.sent;
  EXPECT_THAT(events.front(), HasSubstr("\"role\":\"assistant\""));
  EXPECT_EQ(events.back(), "[DONE]");
  EXPECT_THAT(events[events.size() - 2], HasSubstr("\"completion_tokens\":4"));
  size_t ends = 0;
  for (const std::string& event : events) ends += event.find("\"finish_reason\":\"length\"") != event.npos ? 1 : 0;
  EXPECT_EQ(ends, 2u);
}

TEST_F(ServiceTest, ACardThatFailsIsAnErrorAndNotTheEnd) {
  const std::string body = R"({"prompt": [1, 2], "n_predict": 4, "temperature": 0, "cache_prompt": false})";
  const std::vector<TokenId> want = TokensOf(Post("/completion", body).body);
  constexpr uint64_t kTries = 5;  // of a read, after which it has failed
  faulty_.Add({.first_read = faulty_.starts(), .times = kTries});
  const Response failed = Post("/completion", body);
  EXPECT_EQ(failed.status, 500);
  EXPECT_THAT(failed.body, HasSubstr("server_error"));
  faulty_.Add({.first_read = faulty_.starts(), .times = kTries});
  Response streamed = Post("/v1/completions", R"({"prompt": [1, 2], "stream": true, "cache_prompt": false})");
  TestClient client;
  streamed.stream(client);
  streamed.stream = nullptr;
  EXPECT_THAT(client.sent, HasSubstr("\"error\""));
  EXPECT_THAT(client.sent, EndsWith("data: [DONE]\n\n"));
  EXPECT_EQ(TokensOf(Post("/completion", body).body), want);
}

// Whoever goes away ends the text within a token.
TEST_F(ServiceTest, AClientWhoGoesAwayEndsTheText) {
  Response response = Post("/completion", R"({"prompt": [1], "stream": true})");
  TestClient client;
  int sends = 0;
  client.on_send = [&] { client.there = ++sends < 4; };
  response.stream(client);
  response.stream = nullptr;  // leaves the queue
  EXPECT_EQ(service_->counts().cancelled, 1u);
  EXPECT_LE(model_->session()->n_past(), 8u);
  EXPECT_EQ(TokensOf(Post("/completion", R"({"prompt": [5, 6], "n_predict": 3, "temperature": 0})").body),
            Want({5, 6}, {.temperature = 0}, 3));
}

TEST_F(ServiceTest, TheQueueIsFairAndBounded) {
  // One has the turn and is held there; two wait; a fourth is sent away.
  std::mutex mutex;
  std::condition_variable moved;
  bool held = true;
  int sends = 0;
  Response first = Post("/completion", R"({"prompt": [1], "n_predict": 2, "stream": true})");
  TestClient first_client;
  first_client.on_send = [&] {
    std::unique_lock lock(mutex);
    ++sends;
    moved.notify_all();
    moved.wait(lock, [&] { return !held; });
  };
  std::thread first_thread([&] {
    first.stream(first_client);
    first.stream = nullptr;
  });
  {
    std::unique_lock lock(mutex);
    moved.wait(lock, [&] { return sends > 0; });
  }
  std::vector<int> order;
  std::deque<Response> waiting;
  std::deque<TestClient> clients(2);
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    waiting.push_back(Post("/completion", R"({"prompt": [2], "n_predict": 1, "stream": true})"));
    ASSERT_TRUE(waiting.back().stream) << waiting.back().body;
    threads.emplace_back([&, i] {
      waiting[static_cast<size_t>(i)].stream(clients[static_cast<size_t>(i)]);
      const std::lock_guard lock(mutex);
      order.push_back(i);
      waiting[static_cast<size_t>(i)].stream = nullptr;
    });
  }
  const Response refused = Post("/completion", R"({"prompt": [3]})");
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.body, HasSubstr("queue_full"));
  ASSERT_FALSE(refused.headers.empty());
  EXPECT_EQ(refused.headers[0].first, "Retry-After");
  EXPECT_EQ(Get("/health").status, 200);
  EXPECT_THAT(Get("/metrics").body, HasSubstr("thimble_requests_in_queue 3"));
  {
    const std::lock_guard lock(mutex);
    held = false;
  }
  moved.notify_all();
  first_thread.join();
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(order, ElementsAre(0, 1));
  EXPECT_EQ(Post("/completion", R"({"prompt": [3], "n_predict": 1})").status, 200);
}

TEST_F(ServiceTest, WhoIsThereWhenItEndsIsTold) {
  Response response = Post("/v1/completions", R"({"prompt": [1], "stream": true})");
  TestClient client;
  int sends = 0;
  client.on_send = [&] {
    if (++sends == 3) service_->Stop();
  };
  response.stream(client);
  response.stream = nullptr;
  EXPECT_THAT(client.sent, HasSubstr("shutting_down"));
  EXPECT_THAT(client.sent, EndsWith("data: [DONE]\n\n"));
  EXPECT_EQ(Post("/completion", R"({"prompt": [1]})").status, 503);
}

TEST_F(ServiceTest, WhatHasNoRoomIsRefused) {
  std::string ids = "1";
  for (int i = 0; i < 48; ++i) ids += ",1";
  const Response long_prompt = Post("/completion", "{\"prompt\": [" + ids + "]}");
  EXPECT_EQ(long_prompt.status, 400);
  EXPECT_THAT(long_prompt.body, HasSubstr("context_length_exceeded"));
  const Response full = Post("/completion", "{\"prompt\": [" + ids.substr(2) + "]}");
  EXPECT_EQ(full.status, 200) << full.body;
  EXPECT_THAT(full.body, HasSubstr("\"tokens_predicted\":1,"));
  EXPECT_EQ(Post("/completion", R"({"prompt": []})").status, 400);
}

class LockedServiceTest : public ServiceTest {
 protected:
  LockedServiceTest() : ServiceTest({.api_key = "secret", .allowed_origin = "http://here"}) {}
};

TEST_F(LockedServiceTest, AsksForItsKey) {
  TestClient client;
  EXPECT_EQ(Get("/v1/models").status, 401);
  EXPECT_EQ(Get("/health").status, 200);
  for (const char* given : {"secret", "Bearer ", "Bearer secre", "Bearer secret ", "Bearer Secret", "bearer secret"}) {
    EXPECT_EQ(service_->Handle({.method = "GET", .path = "/v1/models", .authorization = given}, client).status, 401)
        << given;
  }
  const Response answer = service_->Handle(
      {.method = "GET", .path = "/v1/models", .authorization = "Bearer secret", .origin = "http://there"}, client);
  EXPECT_EQ(answer.status, 200);
  ASSERT_FALSE(answer.headers.empty());
  EXPECT_EQ(answer.headers[0], (std::pair<std::string, std::string>("Access-Control-Allow-Origin", "http://here")));
  EXPECT_THAT(Post("/v1/completions", "{}").body, StartsWith("{\"error\""));
}

}  // namespace
}  // namespace thimble::service
