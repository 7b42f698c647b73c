#include "firmware/net/network_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "firmware/simulated/simulated_board.h"

namespace thimble::firmware {
namespace {

using testing::HasSubstr;
using testing::Not;

class NetworkSettingsTest : public testing::Test {
 protected:
  static constexpr std::array<uint8_t, 6> kMac = {0x24, 0x0a, 0xc4, 0x01, 0x4f, 0x1a};

  SimulatedSlot slot_{nullptr};
  SimulatedBoard board_{kEsp32CamWifi, slot_};
};

TEST_F(NetworkSettingsTest, KeepsAndForgetsANetwork) {
  EXPECT_EQ(LoadNetwork(board_).error().code, Code::kNotFound);
  ASSERT_TRUE(SaveNetwork(board_, *MakeNetworkName("home", "a secret")));
  EXPECT_EQ(LoadNetwork(board_)->ssid_text(), "home");
  EXPECT_EQ(LoadNetwork(board_)->password_text(), "a secret");
  ASSERT_TRUE(SaveNetwork(board_, *MakeNetworkName("cafe", "")));
  EXPECT_EQ(LoadNetwork(board_)->password_text(), "");
  ASSERT_TRUE(ForgetNetwork(board_));
  EXPECT_EQ(LoadNetwork(board_).error().code, Code::kNotFound);
  board_.settings["wifi-ssid"] = std::string(60, 'x');
  EXPECT_EQ(LoadNetwork(board_).error().code, Code::kNotFound);
  EXPECT_EQ(board_.output(), "") << "of passwords nothing is printed";
}

TEST_F(NetworkSettingsTest, RefusesWhatIsNoNameAndNoPassword) {
  EXPECT_TRUE(MakeNetworkName(std::string(32, 'a'), std::string(63, 'b')));
  EXPECT_TRUE(MakeNetworkName("a", std::string(64, 'F')));
  for (const std::string& ssid : {std::string(), std::string(33, 'a'), std::string("a\0b", 3)}) {
    EXPECT_THAT(std::string(MakeNetworkName(ssid, "").error().what), HasSubstr("name"));
  }
  for (const std::string& password : {std::string("seven77"), std::string(64, 'g'), std::string(65, 'a'),
                                      std::string("with\x01"
                                                  "control"),
                                      std::string("p\xc3\xa4ssword")}) {
    EXPECT_THAT(std::string(MakeNetworkName("a", password).error().what), HasSubstr("password"));
  }
}

TEST_F(NetworkSettingsTest, TheBoardsOwnNetworkHasAPasswordOfItsOwn) {
  const std::array<uint8_t, 10> random = {0, 1, 31, 32, 33, 63, 255, 10, 20, 30};
  const NetworkName own = OwnNetwork(board_, kMac, random);
  EXPECT_EQ(own.ssid_text(), "Thimble-4F1A");
  EXPECT_EQ(own.password_text(), "ab9ab99kw8");
  const std::array<uint8_t, 10> other = {};
  EXPECT_EQ(OwnNetwork(board_, kMac, other).password_text(), "ab9ab99kw8") << "it is kept";
  board_.settings.clear();
  EXPECT_EQ(OwnNetwork(board_, kMac, other).password_text(), "aaaaaaaaaa");
  board_.settings["wifi-own-pass"] = "short";
  EXPECT_EQ(OwnNetwork(board_, kMac, random).password_text(), "ab9ab99kw8");
  EXPECT_EQ(board_.output(), "");
  board_.settings.clear();
  board_.keeps_settings = false;
  EXPECT_EQ(OwnNetwork(board_, kMac, random).password_text(), "ab9ab99kw8");
  EXPECT_THAT(board_.output(), Not(HasSubstr("ab9ab99kw8")));
  EXPECT_THAT(board_.output(), HasSubstr("another one after the next start"));
}

}  // namespace
}  // namespace thimble::firmware
