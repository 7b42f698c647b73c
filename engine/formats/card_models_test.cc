#include "engine/formats/card_models.h"

#include <gtest/gtest.h>

#include <array>
#include <string_view>

#include "engine/formats/index_file.h"

namespace thimble::formats {
namespace {

TEST(CardModels, AreFilesThatEndInGguf) {
  for (std::string_view name : {"a.gguf", "A.GGUF", "tiny-llm.Gguf", "a.b.gguf", ".a.gguf", "_.gguf", "\u00fc.gguf"}) {
    EXPECT_TRUE(IsModelName(name)) << name;
  }
  for (std::string_view name : {"", ".gguf", "gguf", "agguf", "a.gguf.bak", "a.ggu", "a.gguf ", "a.thimble", "._a.gguf",
                                "._A.GGUF", "._.gguf"}) {
    EXPECT_FALSE(IsModelName(name)) << name;
  }
}

TEST(CardModels, HaveTheirOtherFilesBesideThem) {
  std::array<char, 256> out;
  EXPECT_EQ(BesideModel("a.gguf", kIndexExtension, out), "a.thimble");
  EXPECT_EQ(BesideModel("TINY.GGUF", ".plan", out), "TINY.plan");
  EXPECT_EQ(BesideModel("esp32_float32_weights", kIndexExtension, out), "esp32_float32_weights.thimble");
  EXPECT_EQ(BesideModel(".gguf", kIndexExtension, out), ".gguf.thimble");
  std::array<char, 10> small;
  EXPECT_EQ(BesideModel("abcdef.gguf", ".plan", small), "abcde.plan");
}

}  // namespace
}  // namespace thimble::formats
