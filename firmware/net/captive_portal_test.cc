#include "firmware/net/captive_portal.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

namespace thimble::firmware {
namespace {

std::string Answer(const std::string& message) {
  const std::vector<uint8_t> bytes(message.begin(), message.end());
  std::array<uint8_t, kMaxDnsBytes> out;
  const size_t size = AnswerDns(bytes, kPortalAddress, out);
  return {out.begin(), out.begin() + static_cast<ptrdiff_t>(size)};
}

std::string Bytes(std::initializer_list<int> bytes) {
  std::string text;
  for (const int byte : bytes) text += static_cast<char>(byte);
  return text;
}

const std::string kName = "\x07thimble\x05local" + std::string(1, '\0');

std::string Query(int type, const std::string& name = kName, int flags = 1) {
  return Bytes({0x12, 0x34, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0}) + name + Bytes({0, type, 0, 1});
}

// Byte by byte from RFC 1035, 4.1.
TEST(AnswerDns, EveryNameIsTheBoard) {
  EXPECT_EQ(Answer(Query(1)), Bytes({0x12, 0x34, 0x85, 0, 0, 1, 0, 1, 0, 0, 0, 0}) + kName + Bytes({0, 1, 0, 1}) +
                                  Bytes({0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 168, 4, 1}));
  // Of IPv6 there is nothing; what is behind the question, as EDNS has it, is left out.
  const std::string none = Bytes({0x12, 0x34, 0x85, 0, 0, 1, 0, 0, 0, 0, 0, 0}) + kName + Bytes({0, 28, 0, 1});
  EXPECT_EQ(Answer(Query(28)), none);
  EXPECT_EQ(Answer(Query(28) + "more"), none);
  EXPECT_EQ(Answer(Query(1, std::string(1, '\0'))).size(), 12u + 1 + 4 + 16);
}

TEST(AnswerDns, WhatIsNoQueryHasNoAnswer) {
  const std::string query = Query(1);
  for (size_t size = 0; size < query.size(); ++size) EXPECT_EQ(Answer(query.substr(0, size)), "") << size;
  EXPECT_EQ(Answer(Query(1, kName, 0x81)), "") << "an answer";
  EXPECT_EQ(Answer(Query(1, kName, 0x11)), "") << "an inverse query";
  EXPECT_EQ(Answer(Query(1, "\xc0\x0c")), "") << "compressed";
  std::string two = query;
  two[5] = 2;
  EXPECT_EQ(Answer(two), "");
  std::string long_name;
  for (int i = 0; i < 5; ++i) long_name += "\x3f" + std::string(63, 'a');
  EXPECT_EQ(Answer(Query(1, long_name + std::string(1, '\0'))), "");
  EXPECT_EQ(Answer(query + std::string(600, 'x')), "");
}

TEST(IsConnectivityCheck, KnowsThoseOfOperatingSystems) {
  for (const char* path : {"/generate_204", "/hotspot-detect.html", "/connecttest.txt"}) {
    EXPECT_TRUE(IsConnectivityCheck(path)) << path;
  }
  for (const char* path : {"/", "/v1/models", "/generate_2045", ""}) EXPECT_FALSE(IsConnectivityCheck(path)) << path;
}

}  // namespace
}  // namespace thimble::firmware
