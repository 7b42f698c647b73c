#include "firmware/net/network_control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "firmware/app/console.h"
#include "firmware/app/terminal.h"
#include "firmware/simulated/simulated_board.h"

namespace thimble::firmware {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

class FakePort final : public NetworkPort {
 public:
  bool has_names() const override { return !is_cable; }
  std::array<uint8_t, 6> mac() const override { return {1, 2, 3, 4, 0xAB, 0xCD}; }
  std::array<uint8_t, 10> Random() override { return {}; }
  bool OpenOwn(const NetworkName& own) override {
    opened = own.ssid_text();
    now = Link::kOwn;
    return true;
  }
  bool Join(const NetworkName& network) override {
    joined.emplace_back(network.ssid_text());
    joined.emplace_back(network.password_text());
    now = Link::kJoining;
    return true;
  }
  Link link() const override { return now; }
  std::array<uint8_t, 4> address() const override { return {192, 168, 1, 50}; }
  void Scan(void (*)(void*, std::string_view, int, bool), void*) override {}
  void Wait(uint32_t) override { now = after_wait; }

  bool is_cable = false;
  Link now = Link::kJoining;
  Link after_wait = Link::kJoined;
  std::string opened;
  std::vector<std::string> joined;
};

class NetworkControlTest : public testing::Test {
 protected:
  NetworkControlTest() : terminal_(console_, board_) {}
  void Type(const std::string& typed) {
    board_.ClearOutput();
    terminal_.OnTyped(typed);
    while (terminal_.HasLine()) terminal_.ExecuteLine();
  }

  SimulatedSlot slot_{nullptr};
  SimulatedBoard board_{kEsp32CamWifi, slot_};
  FakePort port_;
  NetworkControl control_{board_, port_, "1.0", "ESP32"};
  CardModel card_{board_, nullptr};
  Console console_{board_, card_, nullptr, &control_};
  Terminal terminal_;
};

TEST_F(NetworkControlTest, BeginsWithItsOwnNetwork) {
  control_.Start();
  EXPECT_EQ(port_.opened, "Thimble-ABCD");
  EXPECT_TRUE(control_.is_portal());
  EXPECT_THAT(board_.output(), HasSubstr("page at http://192.168.4.1/"));
  EXPECT_THAT(board_.output(), Not(HasSubstr("aaaaaaaaaa"))) << "the password, unasked";
  Type("wifi --password\n");
  EXPECT_THAT(board_.output(), HasSubstr("password aaaaaaaaaa"));
}

TEST_F(NetworkControlTest, ThePasswordIsNeitherShownNorRemembered) {
  control_.Start();
  Type("wifi home\n");
  EXPECT_THAT(board_.output(), EndsWith("password (Enter alone: none): "));
  Type(
      "my \x7f\x7fy secret"
      "\x1b[D\x1b[C"
      "\n");
  EXPECT_THAT(board_.output(), Not(HasSubstr("secret")));
  EXPECT_THAT(port_.joined, testing::ElementsAre("home", "my secret"));
  EXPECT_THAT(board_.output(), HasSubstr("network: home; page at http://192.168.1.50/"));
  EXPECT_EQ(board_.settings["wifi-pass"], "my secret");
  EXPECT_FALSE(control_.is_portal());
  Type("\x1b[A");  // the line before
  EXPECT_THAT(board_.output(), EndsWith("wifi home"));
  // Ctrl-C ends the question, and a password that is none is refused.
  Type("\x03wifi cafe\n");
  Type("abc\x03");
  EXPECT_THAT(board_.output(), EndsWith("thimble> "));
  Type("wifi cafe\nshort\n");
  EXPECT_THAT(board_.output(), HasSubstr("error: a network's password has 8 to 63"));
  EXPECT_EQ(port_.joined.size(), 2u);
}

TEST_F(NetworkControlTest, AKeyForWhoAsksIsNeitherShownNorRemembered) {
  control_.Start();
  EXPECT_EQ(LoadServiceKey(board_), "");
  Type("wifi --key\n");
  EXPECT_THAT(board_.output(), EndsWith("key (Enter alone: none): "));
  Type("tulip\n\x1b[A");
  EXPECT_THAT(board_.output(), AllOf(HasSubstr("who asks the board must have this key"), EndsWith("wifi --key")));
  EXPECT_THAT(board_.output(), Not(HasSubstr("tulip")));
  EXPECT_EQ(LoadServiceKey(board_), "tulip");
  Type("\x03wifi --key\nred tulip\n");
  EXPECT_THAT(board_.output(), AllOf(HasSubstr("error: a key has"), Not(HasSubstr("tulip"))));
  EXPECT_EQ(LoadServiceKey(board_), "tulip");
  Type("wifi --key\n\n");
  EXPECT_EQ(LoadServiceKey(board_), "");
}

TEST_F(NetworkControlTest, ANetworkThatRefusesIsNotKept) {
  control_.Start();
  port_.after_wait = NetworkPort::Link::kRefused;
  Type("wifi home\na secret\n");
  EXPECT_THAT(board_.output(), HasSubstr("home cannot be joined"));
  EXPECT_TRUE(control_.is_portal());
  EXPECT_EQ(board_.settings.count("wifi-pass"), 0u);
}

TEST_F(NetworkControlTest, JoinsWhatItKeeps) {
  ASSERT_TRUE(SaveNetwork(board_, *MakeNetworkName("home", "a secret")));
  control_.Start();
  EXPECT_EQ(port_.joined.front(), "home");
  control_.Look();
  EXPECT_EQ(board_.output(), "");
  board_.us_per_look = NetworkControl::kTryUs;
  control_.Look();
  control_.Look();
  EXPECT_THAT(board_.output(), HasSubstr("home cannot be joined"));
  EXPECT_EQ(port_.opened, "Thimble-ABCD");
  EXPECT_EQ(LoadNetwork(board_)->ssid_text(), "home") << "perhaps the next time";
  Type("wifi --forget\n");
  EXPECT_EQ(LoadNetwork(board_).error().code, Code::kNotFound);
}

TEST_F(NetworkControlTest, ImprovJoinsToo) {
  control_.Start();
  board_.ClearOutput();
  const std::string data = std::string("\x01\x0e\x04home\x08secretly", 16);
  std::string packet = std::string("IMPROV\x01\x03") + static_cast<char>(data.size()) + data;
  uint8_t sum = 0;
  for (const char c : packet) sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(c));
  packet += static_cast<char>(sum);
  std::vector<char> out(packet.size() + 6);
  control_.OnSerial(packet, out);
  EXPECT_THAT(port_.joined, testing::ElementsAre("home", "secretly"));
  port_.now = NetworkPort::Link::kJoined;
  control_.Look();
  EXPECT_EQ(LoadNetwork(board_)->ssid_text(), "home");
  EXPECT_THAT(board_.output(), HasSubstr("\x14http://192.168.1.50/"));
  EXPECT_THAT(board_.output(), Not(HasSubstr("secretly")));
}

TEST_F(NetworkControlTest, ACableIsWaitedFor) {
  port_.is_cable = true;
  control_.Start();
  board_.us_per_look = NetworkControl::kTryUs;
  for (int i = 0; i < 5; ++i) control_.Look();
  EXPECT_EQ(board_.output(), "");
  port_.now = NetworkPort::Link::kJoined;
  control_.Look();
  EXPECT_EQ(board_.output(), "network: cable; page at http://192.168.1.50/\n");
  Type("wifi home\na secret\n");
  EXPECT_THAT(board_.output(), HasSubstr("is a cable"));
}

TEST(Console, WithoutANetworkWifiSaysSo) {
  SimulatedSlot slot(nullptr);
  SimulatedBoard board(kEsp32Cam, slot);
  CardModel card(board, nullptr);
  Console console(board, card, nullptr);
  console.Execute("wifi home");
  EXPECT_THAT(board.output(), HasSubstr("built without a network"));
  EXPECT_FALSE(console.asks_secret());
}

}  // namespace
}  // namespace thimble::firmware
