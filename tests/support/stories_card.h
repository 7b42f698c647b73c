// The bundled model as it goes onto a card, made by the tool.
#ifndef THIMBLE_TESTS_SUPPORT_STORIES_CARD_H_
#define THIMBLE_TESTS_SUPPORT_STORIES_CARD_H_

#include <gtest/gtest.h>

#include <string>

#include "host/cards/card_image.h"
#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::tests {

// Leaves stories.gguf, its index and card.img, a card with both, in `folder`; a failure is fatal for the test.
inline void MakeStoriesCard(const TemporaryFolder& folder) {
  const std::string gguf = folder / "stories.gguf";
  ASSERT_EQ(RunTool({"convert", "model/thimble-stories", "-o", gguf}).exit_code, 0);
  ASSERT_EQ(RunTool({"prepare", gguf, "--screen", "48,3"}).exit_code, 0);
  const auto card = host::WriteCardImage({.contents = {.model = gguf}, .out = folder / "card.img"});
  ASSERT_TRUE(card) << card.error();
}

// Leaves flash.gguf in `folder`: the model that fits a board's flash, in 8 bits.
inline void MakeFlashModel(const TemporaryFolder& folder) {
  ASSERT_EQ(
      RunTool({"convert", "model/thimble-stories-flash", "-o", folder / "flash.gguf", "--quant", "q8_0"}).exit_code, 0);
}

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_STORIES_CARD_H_
