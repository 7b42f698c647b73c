#include "firmware/net/improv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

namespace thimble::firmware {
namespace {

using testing::ElementsAre;

// A packet, as improv-wifi.com describes it.
std::string Packet(uint8_t type, const std::string& data) {
  std::string packet = "IMPROV\x01";
  packet += static_cast<char>(type);
  packet += static_cast<char>(data.size());
  packet += data;
  uint8_t sum = 0;
  for (const char c : packet) sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(c));
  packet += static_cast<char>(sum);
  return packet;
}
std::string Text(const std::string& text) { return std::string(1, static_cast<char>(text.size())) + text; }
std::string Command(uint8_t command, const std::string& data = "") {
  return Packet(3, std::string(1, static_cast<char>(command)) + Text(data));
}
std::string State(uint8_t state) { return Packet(1, std::string(1, static_cast<char>(state))) + "\n"; }
std::string Failure(uint8_t code) { return Packet(2, std::string(1, static_cast<char>(code))) + "\n"; }
std::string Answer(uint8_t command, const std::string& texts) {
  return Packet(4, std::string(1, static_cast<char>(command)) + Text(texts)) + "\n";
}

class ImprovTest : public testing::Test, public ImprovPort {
 protected:
  void Write(std::string_view packet) override { written += packet; }
  void StartJoin(std::string_view ssid, std::string_view password) override {
    joined.emplace_back(ssid);
    joined.emplace_back(password);
  }
  void Scan(void (*visit)(void*, std::string_view, int, bool), void* context) override {
    visit(context, "home", -61, true);
    visit(context, "cafe", -80, false);
  }
  std::string_view version() override { return "0.1.0"; }
  std::string_view chip() override { return "ESP32"; }
  std::string_view device_name() override { return "Thimble-4F1A"; }
  std::string_view url() override { return "http://192.168.1.5/"; }

  // What the terminal gets; `pieces`: so many bytes at once.
  std::string Take(const std::string& typed, size_t pieces = 1000) {
    std::string passed;
    for (size_t at = 0; at < typed.size(); at += pieces) {
      const std::string piece = typed.substr(at, pieces);
      std::vector<char> out(piece.size() + 6);
      passed += improv.Take(piece, out);
    }
    return passed;
  }
  std::string Written() { return std::exchange(written, ""); }

  std::string written;
  std::vector<std::string> joined;
  Improv improv{*this};
};

const std::string kErased = "IMPROV\x7f\x7f\x7f\x7f\x7f\x7f";

// Worked by hand: 73+77+80+82+79+86 + 1+3+2 + 2+0 = 485 = 229 modulo 256.
TEST_F(ImprovTest, AsksForTheState) {
  const std::string request("IMPROV\x01\x03\x02\x02\x00\xe5", 12);
  EXPECT_EQ(Command(2), request);
  EXPECT_EQ(Take(request), kErased);
  EXPECT_EQ(Written(), Failure(0) + State(2));
  improv.OnJoined();
  EXPECT_EQ(Written(), "") << "nobody asked";
  Take(request);
  EXPECT_EQ(Written(), Failure(0) + State(4) + Answer(2, Text("http://192.168.1.5/")));
}

TEST_F(ImprovTest, JoinsANetwork) {
  const std::string join = Command(1, Text("home") + Text("a secret"));
  for (const size_t pieces : {1, 3, 1000}) {
    EXPECT_EQ(Take("ls\n" + join + "\nplan\n", pieces), "ls\n" + kErased + "plan\n");
    EXPECT_THAT(joined, ElementsAre("home", "a secret"));
    EXPECT_EQ(Written(), Failure(0) + State(3));
    Take(join);
    EXPECT_EQ(Written(), Failure(255)) << "one at a time";
    improv.OnFailed();
    EXPECT_EQ(Written(), State(2) + Failure(3));
    joined.clear();
  }
  Take(Command(1, Text("cafe") + Text("")));
  EXPECT_THAT(joined, ElementsAre("cafe", ""));
  Written();
  improv.OnJoined();
  EXPECT_EQ(Written(), State(4) + Answer(1, Text("http://192.168.1.5/")));
}

TEST_F(ImprovTest, TellsOfTheBoardAndOfNetworks) {
  Take(Command(3));
  EXPECT_EQ(Written(), Failure(0) + Answer(3, Text("Thimble") + Text("0.1.0") + Text("ESP32") + Text("Thimble-4F1A")));
  Take(Command(4));
  EXPECT_EQ(Written(), Failure(0) + Answer(4, Text("home") + Text("-61") + Text("YES")) +
                           Answer(4, Text("cafe") + Text("-80") + Text("NO")) + Answer(4, ""));
}

TEST_F(ImprovTest, RefusesWhatIsNone) {
  std::string wrong_sum = Command(2);
  wrong_sum.back() ^= 1;
  for (const std::string& packet :
       {wrong_sum, Packet(3, ""), Packet(3, "\x02"), Packet(3, "\x02\x05"), Command(1), Command(1, Text("")),
        Command(1, Text("home")), Command(1, Text("") + Text("secrets!")), Command(1, "\x09home"),
        Command(1, Text("home") + Text("secret") + "x")}) {
    Take(packet);
    EXPECT_EQ(Written(), Failure(1)) << testing::PrintToString(packet);
  }
  Take(Command(9));
  EXPECT_EQ(Written(), Failure(2));
  Take(Packet(1, "\x02"));  // somebody else's state
  EXPECT_EQ(Written(), "");
  EXPECT_TRUE(joined.empty());
}

TEST_F(ImprovTest, LeavesTheTerminalWhatIsTyped) {
  for (const char* typed : {"I am IMPROVing", "IIMPROV", "IMPROV\r\n", "IMPRO\x01", "\x01\x02IMP", "IMPROV\x02"}) {
    EXPECT_EQ(Take(typed), typed);
  }
  EXPECT_EQ(Written(), "");
  EXPECT_EQ(Take("IIMPROV" + Command(2).substr(6)), "I" + kErased);
}

}  // namespace
}  // namespace thimble::firmware
