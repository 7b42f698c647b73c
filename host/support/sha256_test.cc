#include "host/support/sha256.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <string>

#include "tests/support/checkpoints.h"

namespace thimble::host {
namespace {

std::string Digest(std::string_view text) {
  Sha256 sha;
  sha.Add(std::as_bytes(std::span(text)));
  return sha.Finish();
}

// The examples of FIPS 180-2, appendix B, and of its validation programme.
TEST(Sha256, PublishedAnswers) {
  EXPECT_EQ(Digest(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Digest(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Against coreutils, for every length around a block and in pieces of any size.
TEST(Sha256, SaysWhatSha256sumSays) {
  const tests::TemporaryFolder folder;
  std::mt19937 random(1);
  std::vector<std::string> messages;
  std::string names;
  for (size_t length = 0; length < 200; ++length) {
    std::string message(length + (length % 10 == 0 ? random() % 5000 : 0), '\0');
    for (char& c : message) c = static_cast<char>(random());
    const std::string path = folder / std::to_string(1000 + length);
    tests::WriteFile(path, message);
    names += " " + path;
    messages.push_back(std::move(message));
  }
  FILE* const sums = popen(("sha256sum" + names).c_str(), "r");
  ASSERT_NE(sums, nullptr);
  for (const std::string& message : messages) {
    Sha256 sha;
    for (auto left = std::as_bytes(std::span(message)); !left.empty();) {
      const size_t n = std::min<size_t>(left.size(), random() % 150);
      sha.Add(left.first(n));
      left = left.subspan(n);
    }
    char want[65] = "";
    ASSERT_EQ(std::fscanf(sums, "%64s %*s", want), 1);
    EXPECT_EQ(sha.Finish(), want) << message.size();
  }
  EXPECT_EQ(pclose(sums), 0);
}

}  // namespace
}  // namespace thimble::host
