// How much stack the engine uses, measured on a painted one, against what a plan reserves for it.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate.h"
#include "engine/plan/plan.h"
#include "engine/session.h"
#include "host/devices/ram_device.h"
#include "tests/support/open_model.h"
#include "tests/support/painted_stack.h"
#include "tests/support/test_gguf.h"
#include "tests/support/test_vocabulary.h"
#include "tests/support/tokenizer_image.h"

namespace thimble::tests {
namespace {

TEST(Stack, MeasuresWhatIsUsed) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer keeps locals elsewhere";
  const size_t used = StackOf([] {
    volatile char frame[10000];
    for (size_t i = 0; i < sizeof(frame); ++i) frame[i] = 1;
    EXPECT_EQ(frame[5000], 1);
  });
  EXPECT_GE(used, 10000u);
  EXPECT_LT(used, 30000u);
}

struct Sink final : TextSink {
  void OnToken(TokenId) override {}
  void OnText(std::string_view) override {}
};

TEST(Stack, OfASessionFitsWhatThePlanReserves) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's frames are larger";
  TestModel test = {.shape = kTinyLlm};
  test.shape.vocab_size = 500;
  host::RamDevice device(MakeGguf(test));
  for (const plan::PlanOptions& options : {plan::PlanOptions{}, plan::OriginalPlan(test.shape)}) {
    OpenModel model(device, {.plan = options});
    ASSERT_NE(model.session(), nullptr) << model.error();
    Result<GenerateResult> generated;
    const size_t used = StackOf([&] {
      const std::array<TokenId, 3> prompt = {1, 20, 300};
      Sink sink;
      if (!model.session()->Prefill(prompt)) return;
      generated = Generate(*model.session(), {.sampler = {.seed = 1}, .n_predict = 5, .stops = {}}, sink);
    });
    ASSERT_TRUE(generated);
    EXPECT_EQ(generated->n_predicted, 5u);
    EXPECT_LE(used, plan::kStackBytes);
    RecordProperty("bytes", static_cast<int>(used));
  }
}

TEST(Stack, OfOpeningFitsWhatThePlanReserves) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's frames are larger";
  TestModel test = {.shape = kTinyLlm};
  test.shape.vocab_size = 500;
  host::RamDevice device(MakeGguf(test));
  std::optional<OpenModel> model;
  const size_t used = StackOf([&] { model.emplace(device, OpenModel::Options{}); });
  ASSERT_NE(model->session(), nullptr) << model->error();
  EXPECT_LE(used, plan::kStackBytes);
  RecordProperty("bytes", static_cast<int>(used));
}

void MeasureTokenizer(const TokenizerFile& file) {
  const std::string kind = file.ref.is_byte_level() ? "byte_level_" : "";
  std::optional<LoadedTokenizer> loaded;
  const size_t load = StackOf([&] { loaded.emplace(file); });
  ASSERT_TRUE(loaded->result());
  std::vector<TokenId> ids;
  const size_t encode = StackOf([&] { ids = loaded->Encode("abc cab \xe2\x82\xac abcabc"); });
  EXPECT_GT(ids.size(), 4u);
  EXPECT_LE(std::max(load, encode), plan::kStackBytes);
  testing::Test::RecordProperty(kind + "load_bytes", static_cast<int>(load));
  testing::Test::RecordProperty(kind + "encode_bytes", static_cast<int>(encode));

  const ImageFile image(file.ref, loaded->tokenizer());
  std::optional<LoadedImage> from_image;
  std::optional<OpenedImage> on_card;
  const size_t load_image = StackOf([&] { from_image.emplace(image); });
  const size_t open_image = StackOf([&] { on_card.emplace(image); });
  ASSERT_TRUE(on_card->result());
  std::vector<TokenId> card_ids;
  const size_t encode_on_card =
      StackOf([&] { card_ids = Encode(on_card->tokenizer(), "abc cab \xe2\x82\xac abcabc"); });
  EXPECT_EQ(card_ids, ids);
  EXPECT_LE(std::max({load_image, open_image, encode_on_card}), plan::kStackBytes);
  testing::Test::RecordProperty(kind + "load_image_bytes", static_cast<int>(load_image));
  testing::Test::RecordProperty(kind + "open_image_bytes", static_cast<int>(open_image));
  testing::Test::RecordProperty(kind + "encode_on_card_bytes", static_cast<int>(encode_on_card));
}

TEST(Stack, OfTheTokenizerFitsWhatThePlanReserves) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's frames are larger";
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(true);
  for (char c = 'a'; c <= 'z'; ++c) vocabulary.Add(std::string(1, c), -1.0f * static_cast<float>(c));
  vocabulary.Add("ab", -500);
  vocabulary.Add("abc", -501);
  ByteLevelVocabulary byte_level;
  byte_level.AddBytes();
  byte_level.AddMerge("a", "b");
  byte_level.AddMerge("ab", "c");
  for (const TokenizerFile& file : {TokenizerFile(vocabulary), TokenizerFile(byte_level)}) MeasureTokenizer(file);
}

}  // namespace
}  // namespace thimble::tests
