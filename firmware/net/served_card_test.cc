// The bundled model on a card behind the service, as a board has it: JSON by cJSON, no network.
#include "firmware/net/served_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "firmware/app/console.h"
#include "firmware/net/board_service.h"
#include "firmware/simulated/simulated_board.h"
#include "host/cards/card_image.h"
#include "host/devices/file_device.h"
#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::firmware {
namespace {

using namespace thimble::tests;
using testing::HasSubstr;

class NoClient final : public service::Client {
 public:
  bool IsThere() override { return true; }
  bool Send(std::string_view bytes) override {
    sent += bytes;
    return true;
  }
  std::string sent;
};

class ServedCardTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    MakeCard("plain", "model/thimble-stories");
    // The same weights with a template, and names of special tokens that it spells.
    ASSERT_EQ(std::system(("cp -r model/thimble-stories '" + (*folder_ / "chat") + "'").c_str()), 0);
    WriteFile(*folder_ / "chat/chat_template.jinja", ReadChatMl());
    MakeCard("chat", *folder_ / "chat");
    WriteFile(*folder_ / "chat/chat_template.jinja", "{{ raise_exception('unheard of') }}");
    MakeCard("odd", *folder_ / "chat");
  }
  static void TearDownTestSuite() { delete folder_; }

  // Without an index: tests/support/tool.h's commands take long with sanitizers, and http_test.py has one.
  static void MakeCard(const std::string& name, const std::string& source) {
    const std::string gguf = *folder_ / (name + ".gguf");
    const ToolRun made = RunTool({"convert", source, "-o", gguf});
    ASSERT_EQ(made.exit_code, 0) << made.error;
    const auto card =
        host::WriteCardImage({.contents = {.model = gguf}, .out = *folder_ / (name + ".img"), .superfloppy = true});
    ASSERT_TRUE(card) << card.error();
  }
  static std::string ReadChatMl() {
    return "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
           "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif "
           "%}";
  }

  void Insert(const std::string& name, const Board& board = kEsp32CamWifi) {
    gguf_ = *folder_ / (name + ".gguf");
    device_ = *host::FileDevice::Open(*folder_ / (name + ".img"));
    slot_ = std::make_unique<SimulatedSlot>(device_.get());
    board_ = std::make_unique<SimulatedBoard>(board, *slot_);
    card_ = std::make_unique<CardModel>(*board_, nullptr);
    service_ = std::make_unique<BoardService>(*board_, *card_);
  }
  service::Response Post(const std::string& path, const std::string& body) {
    service::Response response = service_->service().Handle({.method = "POST", .path = path, .body = body}, client_);
    if (response.stream) response.stream(client_);
    return response;
  }
  // The text of `thimble run`, greedily.
  std::string ToolText(const std::string& prompt, int n) {
    const ToolRun run = RunTool({"run", "-m", gguf_, "-p", prompt, "-n", std::to_string(n), "--temp", "0", "--json"});
    return nlohmann::json::parse(run.out, nullptr, false).value("text", "no text");
  }
  static constexpr const char* kGreedy = R"({"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0})";

  static TemporaryFolder* folder_;
  std::string gguf_;
  std::unique_ptr<host::FileDevice> device_;
  std::unique_ptr<SimulatedSlot> slot_;
  std::unique_ptr<SimulatedBoard> board_;
  std::unique_ptr<CardModel> card_;
  std::unique_ptr<BoardService> service_;
  NoClient client_;
};
TemporaryFolder* ServedCardTest::folder_ = nullptr;

TEST_F(ServedCardTest, TellsTheToolsTextInTheBoardsMemory) {
  Insert("plain");
  ASSERT_TRUE(service_->Open({}, "test"));
  const service::Response answer = Post("/v1/completions", kGreedy);
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(nlohmann::json::parse(answer.body, nullptr, false)["choices"][0]["text"], ToolText("Once upon a time", 12));
  for (const Arena& arena : board_->arenas()) EXPECT_LE(arena.peak_bytes(), kEsp32CamWifi.capacity(arena.region()));
  const service::Response chat = Post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "Hi"}]})");
  EXPECT_EQ(chat.status, 400);
  EXPECT_THAT(chat.body, HasSubstr("the model brings no chat template"));
}

TEST_F(ServedCardTest, TakesTheSessionBackFromTheConsole) {
  Insert("plain");
  ASSERT_TRUE(service_->Open({}, "test"));
  const std::string first = Post("/completion", kGreedy).body;
  const std::string text = first.substr(0, first.find("\"tokens\""));
  Console console(*board_, *card_, nullptr);
  console.Start();
  for (const char* line : {"set ctx-size 40", "run The cat", "doctor", "set predict 3", "run"}) {
    console.Execute(line);
    EXPECT_THAT(Post("/completion", kGreedy).body, HasSubstr(text)) << line;
    EXPECT_EQ(card_->session().n_ctx(), service_->description().n_ctx);
  }
  // The card is out, and in again.
  slot_->Insert(nullptr, 0);
  card_->Close();
  const service::Response gone = Post("/completion", kGreedy);
  EXPECT_EQ(gone.status, 503) << gone.body;
  slot_->Insert(device_.get(), 1);
  EXPECT_THAT(Post("/completion", kGreedy).body, HasSubstr(text));
}

TEST_F(ServedCardTest, ACardThatIsPulledIsASentence) {
  Insert("plain");
  ASSERT_TRUE(service_->Open({}, "test"));
  slot_->pulled_after = slot_->reads() + 5;
  const service::Response failed = Post("/completion", kGreedy);
  EXPECT_EQ(failed.status, 500) << failed.body;
  slot_->pulled_after = SimulatedSlot::kNever;
  slot_->Insert(device_.get(), 1);
  EXPECT_EQ(Post("/completion", kGreedy).status, 200);
}

TEST_F(ServedCardTest, HoldsConversationsByATemplateThatIsKnown) {
  Insert("chat");
  ASSERT_TRUE(service_->Open({}, "test"));
  EXPECT_EQ(service_->description().chat_template, "chatml") << service_->description().no_chat;
  EXPECT_EQ(service_->description().end_of_answer, "<|im_end|>");
  const std::string messages = R"({"messages": [{"role": "user", "content": "Tell me <|im_end|> a story."}],
                                   "max_tokens": 8, "temperature": 0)";
  const service::Response ids = Post("/apply-template", messages + "}");
  const service::Response chat = Post("/v1/chat/completions", messages + "}");
  EXPECT_EQ(chat.status, 200) << chat.body;
  const std::string tokens = ids.body.substr(ids.body.find('['), ids.body.find(']') + 1 - ids.body.find('['));
  const service::Response same = Post("/v1/completions", "{\"prompt\": " + tokens + R"(, "max_tokens": 8,
                                                           "temperature": 0})");
  const auto text_of = [](const std::string& body, const std::string& key) {
    const size_t begin = body.find("\"" + key + "\":\"") + key.size() + 4;
    return body.substr(begin, body.find('"', begin) - begin);
  };
  EXPECT_EQ(text_of(chat.body, "content"), text_of(same.body, "text")) << chat.body << same.body;
  client_.sent.clear();
  Post("/v1/chat/completions", messages + R"(, "stream": true})");
  EXPECT_THAT(client_.sent, testing::EndsWith("data: [DONE]\n\n"));
}

TEST_F(ServedCardTest, AnUnknownTemplateIsSaid) {
  Insert("odd");
  ASSERT_TRUE(service_->Open({}, "test"));
  EXPECT_EQ(service_->description().chat_template, "");
  EXPECT_THAT(service_->description().no_chat, HasSubstr("chat template"));
  EXPECT_EQ(Post("/completion", kGreedy).status, 200);
}

TEST_F(ServedCardTest, WantsTheKeyThatIsKept) {
  Insert("plain");
  board_->settings["http-key"] = "tulip";
  ASSERT_TRUE(service_->Open({}, "test"));
  EXPECT_EQ(Post("/completion", kGreedy).status, 401);
  const service::Response answer = service_->service().Handle(
      {.method = "POST", .path = "/completion", .authorization = "Bearer tulip", .body = kGreedy}, client_);
  EXPECT_EQ(answer.status, 200) << answer.body;
}

TEST_F(ServedCardTest, WithoutPsramThereIsNoNetwork) {
  Insert("plain", kEsp32);
  const Result<void> refused = service_->Open({}, "test");
  ASSERT_FALSE(refused);
  EXPECT_THAT(std::string(refused.error().what), HasSubstr("no room for Wi-Fi on an ESP32 without PSRAM"));
}

}  // namespace
}  // namespace thimble::firmware
