// A day of a board's service: requests one after the other, as many as fill its time by the board's clock, of every
// kind, good, bad and given up. What the heap and the arenas hold is the same after each, to the byte. A few modelled
// minutes in ./check; THIMBLE_MODELLED_HOURS=24, as in ./check --slow, for a day.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "firmware/app/settings.h"
#include "firmware/net/board_service.h"
#include "firmware/net/served_card.h"
#include "firmware/simulated/simulated_board.h"
#include "host/boards/board_profile.h"
#include "host/boards/clock.h"
#include "host/cards/card_image.h"
#include "host/devices/file_device.h"
#include "service/service.h"
#include "tests/support/checkpoints.h"
#include "tests/support/live_memory.h"
#include "tests/support/tool.h"

namespace thimble::firmware {
namespace {

using namespace thimble::tests;

constexpr double kUsualHours = 0.1;

// The model on the card, whose events a clock hears, too.
class ClockedModel final : public service::Model {
 public:
  ClockedModel(service::Model& model, host::BoardClock& clock) : model_(&model), clock_(&clock) {}

  const service::ModelDescription& description() const override { return model_->description(); }
  service::Answer<void> TakeTurn() override { return model_->TakeTurn(); }
  Session& session() override { return model_->session(); }
  const Ledger& ledger() const override { return model_->ledger(); }
  void Observe(EventSink* events) override {
    both_ = {clock_, events};
    model_->Observe(events == nullptr ? static_cast<EventSink*>(clock_) : &both_);
  }
  std::atomic<bool>& cancel() override { return model_->cancel(); }
  service::Answer<std::vector<TokenId>> Tokenize(std::string_view text, bool add_bos, bool special) override {
    return model_->Tokenize(text, add_bos, special);
  }
  service::Answer<std::vector<TokenId>> TokenizeChat(std::span<const text::ChatMessage> messages) override {
    return model_->TokenizeChat(messages);
  }
  service::Answer<std::string> Detokenize(std::span<const TokenId> ids) override { return model_->Detokenize(ids); }

 private:
  struct Both final : public EventSink {
    Both() = default;
    Both(EventSink* a, EventSink* b) : sinks{a, b} {}
    void OnReadStarted(Zone zone, uint64_t offset_bytes, uint64_t bytes) override {
      for (EventSink* sink : sinks) sink->OnReadStarted(zone, offset_bytes, bytes);
    }
    void OnReadAwaited(Zone zone) override {
      for (EventSink* sink : sinks) sink->OnReadAwaited(zone);
    }
    void OnWork(Zone zone, const Work& work) override {
      for (EventSink* sink : sinks) sink->OnWork(zone, work);
    }
    std::array<EventSink*, 2> sinks = {};
  };

  service::Model* model_;
  host::BoardClock* clock_;
  Both both_;
};

// A client that goes away after so many parts of a stream.
class LeavingClient final : public service::Client {
 public:
  explicit LeavingClient(int parts) : parts_(parts) {}
  bool IsThere() override { return parts_ > 0; }
  bool Send(std::string_view) override { return --parts_ > 0; }

 private:
  int parts_;
};

struct Asked {
  const char* method;
  const char* path;
  const char* body;
  int parts = 1'000'000;  // after which the client leaves
};

constexpr std::array<Asked, 12> kRound = {{
    {"POST", "/v1/completions", R"({"prompt": "Once upon a time", "max_tokens": 40, "seed": 1})"},
    {"POST", "/v1/completions", R"({"prompt": "The cat", "max_tokens": 40, "seed": 2, "stream": true})"},
    {"GET", "/health", ""},
    {"POST", "/completion", R"({"prompt": [1, 5, 7], "n_predict": 30, "top_k": 5, "repeat_penalty": 1.3})"},
    {"POST", "/v1/completions", R"({"prompt": "A dog", "max_tokens": 40, "temperature": 3, "stream": true})", 5},
    {"POST", "/v1/chat/completions", R"({"messages": [{"role": "user", "content": "Hi"}]})"},
    {"POST", "/v1/completions", R"({"prompt": "Mia had", "max_tokens": 25, "stop": ["Leo", "."], "n": 2})"},
    {"POST", "/tokenize", R"({"content": "The sun is in the sky", "with_pieces": true})"},
    {"POST", "/v1/completions", R"({"prompt": [5, 999999]})"},
    {"POST", "/v1/completions", R"({"prompt": )"},
    {"GET", "/metrics", ""},
    {"GET", "/thimble/ledger", ""},
}};

struct Held {
  LiveMemory heap;
  std::array<uint64_t, 2 * kNumRegions> arenas = {};
};

Held HeldBy(SimulatedBoard& board) {
  Held held = {.heap = CountLiveMemory()};
  for (size_t i = 0; i < kNumRegions; ++i) {
    held.arenas[2 * i] = board.arenas()[i].used_bytes();
    held.arenas[2 * i + 1] = board.arenas()[i].peak_bytes();
  }
  return held;
}

TEST(Board, ServesForADayWithoutGrowing) {
  const char* const wish = std::getenv("THIMBLE_MODELLED_HOURS");
  const double hours = wish == nullptr ? kUsualHours : std::atof(wish);
  const TemporaryFolder folder;
  const std::string gguf = folder / "stories.gguf";
  ASSERT_EQ(RunTool({"convert", "model/thimble-stories", "-o", gguf}).exit_code, 0);
  ASSERT_TRUE(host::WriteCardImage({.contents = {.model = gguf}, .out = folder / "card.img", .superfloppy = true}));
  const auto device = *host::FileDevice::Open(folder / "card.img");
  SimulatedSlot slot(device.get());
  SimulatedBoard board(kEsp32CamWifi, slot);
  CardModel card(board, nullptr);
  ServedCard served(board, card);
  ASSERT_TRUE(served.Open("", {.start = {}, .draws_seed = true}));
  const auto profile = host::BuiltInProfile(kEsp32CamWifi.name);
  ASSERT_NE(profile, nullptr);
  host::BoardClock clock(*host::ConstantsOf(*profile, "", host::Corner::kTypical));
  ClockedModel model(served, clock);
  service::Service service(model, {.max_waiting = kMaxWaiting});

  std::array<int, 6> answers = {};
  const auto serve_round = [&] {
    for (const Asked& asked : kRound) {
      LeavingClient client(asked.parts);
      service::Response answer =
          service.Handle({.method = asked.method, .path = asked.path, .body = asked.body}, client);
      if (answer.stream) answer.stream(client);
      ++answers[static_cast<size_t>(answer.status) / 100];
    }
    board.ClearOutput();
  };
  for (int i = 0; i < 5; ++i) serve_round();
  const Held early = HeldBy(board);
  uint64_t rounds = 5;
  const double wanted_ns = hours * 3600e9;
  for (; static_cast<double>(clock.now_ns()) < wanted_ns; ++rounds) {
    serve_round();
    const Held now = HeldBy(board);
    ASSERT_EQ(now.heap.blocks, early.heap.blocks) << "after " << rounds << " rounds";
    ASSERT_EQ(now.heap.bytes, early.heap.bytes) << "after " << rounds << " rounds";
    ASSERT_EQ(now.arenas, early.arenas) << "after " << rounds << " rounds";
  }
  // Of a round three are refused: a chat without a template, an id that there is none of, JSON that is none.
  EXPECT_EQ(static_cast<uint64_t>(answers[4]), 3 * rounds);
  EXPECT_EQ(static_cast<uint64_t>(answers[2]), 9 * rounds);
  const service::ServiceCounts counts = service.counts();
  EXPECT_EQ(counts.cancelled, rounds);
  EXPECT_EQ(counts.texts, 6 * rounds - counts.cancelled);
  std::printf("%.1f modelled hours on %s: %llu requests, %llu texts, %llu tokens\n",
              static_cast<double>(clock.now_ns()) / 3600e9, kEsp32CamWifi.name,
              static_cast<unsigned long long>(rounds * kRound.size()), static_cast<unsigned long long>(counts.texts),
              static_cast<unsigned long long>(counts.completion_tokens));
}

}  // namespace
}  // namespace thimble::firmware
