#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/base/tensor.h"

namespace thimble {
namespace {

std::string Text(const Error& error, size_t room = 200) {
  std::string out(room, '?');
  out.resize(FormatError(error, out));
  return out;
}

TEST(FormatError, FillsEveryPlaceholder) {
  Error error = {.code = Code::kCorrupt,
                 .what = "{name}: {tensor} at byte {offset} has {have} of {need}",
                 .tensor = {TensorKind::kAttnQ, 12},
                 .offset = 18446744073709551615u,
                 .have = 0,
                 .need = 10};
  EXPECT_EQ(Text(error.Named("a key")), "a key: blk.12.attn_q.weight at byte 18446744073709551615 has 0 of 10");
}

TEST(FormatError, KeepsBracesThatAreNoPlaceholder) {
  EXPECT_EQ(Text({.what = "no {have"}), "no {have");
  EXPECT_EQ(Text({.what = ""}), "");
}

TEST(FormatError, CutsToFitAndTerminates) {
  char out[6] = "xxxxx";
  EXPECT_EQ(FormatError({.what = "12345678"}, out), 5u);
  EXPECT_STREQ(out, "12345");
  char one[1] = {'x'};
  EXPECT_EQ(FormatError({.what = "12345678"}, one), 0u);
  EXPECT_EQ(one[0], '\0');
}

TEST(Error, NamesAreCutAndMadePrintable) {
  const Error error = Error{.what = "{name}"}.Named("a\n\x1b[31m\xff" + std::string(100, 'b'));
  const std::string text = Text(error);
  EXPECT_EQ(text.substr(0, 8), "a??[31m?");
  EXPECT_EQ(text.size(), sizeof(error.name) - 1);
}

TEST(Tensor, IndexAndIdAreInverse) {
  for (const auto& [architecture, per_layer] :
       {std::pair{Architecture::kLlama, 9u}, {Architecture::kQwen2, 12u}, {Architecture::kQwen3, 11u}}) {
    for (const bool has_rope_factors : {false, true}) {
      const ModelShape shape = {
          .num_hidden_layers = 7, .has_rope_factors = has_rope_factors, .architecture = architecture};
      std::set<std::string> names;
      for (uint32_t i = 0; i < TensorCount(shape); ++i) {
        const TensorId id = TensorIdAt(i, shape);
        EXPECT_EQ(TensorIndex(id, shape), i);
        EXPECT_LT(id.layer, 7);
        char name[48];
        names.emplace(name, FormatTensorName(id, name));
      }
      EXPECT_EQ(TensorCount(shape), 3 + 7 * per_layer + (has_rope_factors ? 1 : 0));
      EXPECT_EQ(names.size(), TensorCount(shape));
    }
  }
}

TEST(Tensor, ShapesMultiplyOutToTheParameterCount) {
  const ModelShape tiny_llm = {.vocab_size = 32000,
                               .hidden_size = 192,
                               .intermediate_size = 1024,
                               .num_hidden_layers = 1,
                               .num_attention_heads = 2,
                               .num_key_value_heads = 1,
                               .head_dim = 96};
  uint64_t parameters = 0;
  for (uint32_t i = 0; i < TensorCount(tiny_llm); ++i) {
    const TensorDims dims = DimsOf(TensorIdAt(i, tiny_llm).kind, tiny_llm);
    parameters += uint64_t{dims.rows} * dims.cols;
  }
  EXPECT_EQ(parameters, 12'988'992u);
}

TEST(Arena, CountsInPiecesOf16AndKnowsItsPeak) {
  alignas(kArenaAlign) std::byte memory[64];
  Arena arena(Region::kPsram, memory);
  auto first = arena.Take<uint8_t>(1);
  ASSERT_TRUE(first);
  EXPECT_EQ(arena.used_bytes(), 16u);
  const uint64_t mark = arena.used_bytes();
  auto second = arena.Take<uint64_t>(6);
  ASSERT_TRUE(second);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(second->data()) % kArenaAlign, 0u);
  EXPECT_EQ((*second)[5], 0u);
  EXPECT_EQ(arena.used_bytes(), 64u);
  arena.Release(mark);
  EXPECT_EQ(arena.used_bytes(), 16u);
  EXPECT_EQ(arena.peak_bytes(), 64u);
  EXPECT_EQ(arena.capacity_bytes(), 64u);
  EXPECT_TRUE(arena.Take<uint8_t>(0));
}

TEST(Arena, RefusesWhatDoesNotFitAndSaysBy) {
  alignas(kArenaAlign) std::byte memory[40];
  Arena arena(Region::kSramDma, memory);
  EXPECT_TRUE(arena.Take<uint8_t>(17));
  const auto refused = arena.Take<uint8_t>(1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(Text(refused.error()), "memory region sram_dma has 8 bytes left and 1 are needed");
  EXPECT_FALSE(arena.Take<uint64_t>(UINT64_MAX));
  EXPECT_FALSE(arena.Take<uint64_t>(UINT64_MAX / 8 + 1));
  EXPECT_EQ(arena.used_bytes(), 32u);
}

TEST(Ledger, TotalsAllZones) {
  Ledger ledger;
  ledger.zone = Zone::kHead;
  ledger.current().reads = 3;
  ledger.zone = Zone::kFfn;
  ledger.current() = {.payload_bytes = 10, .card_bytes = 20, .reads = 1, .macs = 5};
  EXPECT_EQ(ledger.total().reads, 4u);
  EXPECT_EQ(ledger.total().payload_bytes, 10u);
  EXPECT_EQ(ledger.total().card_bytes, 20u);
  EXPECT_EQ(ledger.total().macs, 5u);
}

}  // namespace
}  // namespace thimble
