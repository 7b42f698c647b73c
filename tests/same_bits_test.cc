// Same model, same prompt: same bits, whatever the tiles, the board, the kernels, the place on the card and the target.
// The hashes below were printed by one build; every other must give the same, the 32-bit one too.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "engine/base/board.h"
#include "engine/math/kernels.h"
#include "host/devices/ram_device.h"
#include "tests/support/open_model.h"
#include "tests/support/test_gguf.h"
#include "tests/support/workers.h"

namespace thimble::tests {
namespace {

// Grouped-query attention, nothing divisible by 8, rows that straddle blocks.
constexpr ModelShape kOddShape = {
    .vocab_size = 347,
    .hidden_size = 60,
    .intermediate_size = 131,
    .num_hidden_layers = 3,
    .num_attention_heads = 6,
    .num_key_value_heads = 2,
    .head_dim = 14,
    .max_position_embeddings = 96,
    .rms_norm_eps = 1e-5f,
    .rope_theta = 500000.0f,
};
constexpr std::array<TokenId, 9> kPrompt = {1, 57, 300, 4, 128, 346, 42, 42, 0};
constexpr int kGreedy = 80;

// Rows of whole blocks, but those of attn_output, which stay float32.
constexpr ModelShape kBlockShape = [] {
  ModelShape shape = kOddShape;
  shape.hidden_size = 96;
  shape.intermediate_size = 160;
  return shape;
}();

// Rows of whole blocks of 256, too, and each matrix in another type.
constexpr ModelShape kMixedShape = [] {
  ModelShape shape = kOddShape;
  shape.hidden_size = 256;
  shape.intermediate_size = 512;
  return shape;
}();

struct Case {
  const char* name;
  ModelShape shape;
  DType precision;
  uint64_t hash;
  uint64_t tiny_llm_hash;
  bool mixed = false;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};
constexpr Case kCases[] = {{"F32", kOddShape, DType::kF32, 0x4bcad6ba60fbec9, 0x431b8a945ec4334},
                           {"Q8", kBlockShape, DType::kQ8_0, 0x34eca91238a35b1a, 0xb87e23435122084a},
                           {"Mixed", kMixedShape, DType::kF32, 0xbd3f4bb75c47c92e, 0xbfcc006916254934, true}};

constexpr ModelShape Changed(auto change) {
  ModelShape shape = kOddShape;
  change(shape);
  return shape;
}

// What is not quite Llama.
struct FamilyCase {
  const char* name;
  ModelShape shape;
  uint64_t hash;
  friend void PrintTo(const FamilyCase& c, std::ostream* out) { *out << c.name; }
};
constexpr FamilyCase kFamily[] = {
    {"Qwen2", Changed([](ModelShape& s) { s.architecture = Architecture::kQwen2; }), 0x2c561351951a4d22},
    {"Qwen3", Changed([](ModelShape& s) { s.architecture = Architecture::kQwen3; }), 0xd38d555ee2ecb56},
    {"RopeLinear", Changed([](ModelShape& s) { s.rope_linear_factor = 2.7f; }), 0xb811211727a3427d},
    {"RopeFactors", Changed([](ModelShape& s) { s.has_rope_factors = true; }), 0x8a476f733a7f2a2a},
    {"Qwen3OneLayerLinear", Changed([](ModelShape& s) {
       s.architecture = Architecture::kQwen3;
       s.num_hidden_layers = 1;
       s.rope_linear_factor = 3;
     }),
     0x33b9efc50b6ddd16}};

GreedyRun Greedy(const std::vector<std::byte>& gguf, const OpenModel::Options& options, uint32_t block_bytes = 512) {
  host::RamDevice device(gguf, block_bytes, 16);
  OpenModel model(device, options);
  if (model.session() == nullptr) {
    ADD_FAILURE() << model.error();
    return {};
  }
  return RunGreedy(*model.session(), kPrompt, kGreedy);
}

class SameBits : public testing::TestWithParam<Case> {
 protected:
  const std::vector<std::byte> gguf_ = Make(GetParam().shape);
  static std::vector<std::byte> TinyLlm() { return Make(kTinyLlm); }
  static std::vector<std::byte> Make(const ModelShape& shape, uint32_t alignment = 4096, bool stored_wide = false) {
    return MakeGguf({.shape = shape,
                     .alignment = alignment,
                     .precision = GetParam().precision,
                     .mixed = GetParam().mixed,
                     .stored_wide = stored_wide});
  }
};
INSTANTIATE_TEST_SUITE_P(All, SameBits, testing::ValuesIn(kCases), [](const auto& param) { return param.param.name; });

TEST_P(SameBits, OnEveryTarget) {
  const GreedyRun run = Greedy(gguf_, {});
  EXPECT_EQ(run.logits_hash, GetParam().hash) << "0x" << std::hex << run.logits_hash;
  std::vector<TokenId> ids = run.ids;
  std::ranges::sort(ids);
  EXPECT_GT(std::ranges::unique(ids).begin() - ids.begin(), 10) << "too dull a text to tell anything";
}

TEST_P(SameBits, AtTinyLlmsShape) {
  host::RamDevice device(TinyLlm(), 512, 16);
  OpenModel model(device, {});
  ASSERT_NE(model.session(), nullptr) << model.error();
  const GreedyRun run = RunGreedy(*model.session(), kPrompt, 4);
  EXPECT_EQ(run.logits_hash, GetParam().tiny_llm_hash) << "0x" << std::hex << run.logits_hash;
}

// But of Q8_0, whose rows are multiplied in integers.
TEST(SameBitsOfBlocks, FromTheirExpansion) {
  const TestModel narrow = {.shape = kMixedShape, .mixed = true};
  TestModel wide = narrow;
  wide.stored_wide = true;
  host::RamDevice device(MakeGguf(narrow), 512, 16);
  OpenModel model(device, {});
  ASSERT_NE(model.session(), nullptr) << model.error();
  for (size_t i = static_cast<size_t>(DType::kQ4_0); i < kNumDTypes; ++i) {
    const auto type = static_cast<DType>(i);
    EXPECT_TRUE(std::ranges::count(model.model().tensors, type, &TensorRef::type) != 0) << DTypeName(type);
  }
  EXPECT_EQ(RunGreedy(*model.session(), kPrompt, kGreedy).logits_hash, Greedy(MakeGguf(wide), {}).logits_hash);
}

TEST_P(SameBits, ForEveryTileSize) {
  const GreedyRun run = Greedy(gguf_, {});
  for (uint32_t bytes = 1536; bytes <= 64 * 1024; bytes += bytes < 8192 ? 512 : 7680) {
    EXPECT_EQ(Greedy(gguf_, {.plan = {.tile_buffer_bytes = bytes}}), run) << bytes << " bytes a tile";
  }
}

TEST_P(SameBits, WhereverTheWeightsAre) {
  const GreedyRun run = Greedy(gguf_, {});
  for (const auto& [psram, flash] : {std::pair{100u, 0u}, {0u, 100u}, {60u, 0u}, {50u, 50u}}) {
    EXPECT_EQ(Greedy(gguf_, {.plan = {.psram_weights_percent = psram, .flash_weights_percent = flash}}), run)
        << psram << " % in PSRAM, " << flash << " % in flash";
  }
  const std::vector<std::byte> tiny = TinyLlm();
  for (const auto& [psram, flash] : {std::pair{30u, 0u}, {0u, 70u}, {25u, 50u}}) {
    host::RamDevice device(tiny, 512, 16);
    OpenModel model(device, {.plan = {.psram_weights_percent = psram, .flash_weights_percent = flash}});
    ASSERT_NE(model.session(), nullptr) << model.error();
    EXPECT_EQ(RunGreedy(*model.session(), kPrompt, 4).logits_hash, GetParam().tiny_llm_hash);
    EXPECT_EQ(model.arena(Region::kFlash).peak_bytes(), model.plan().region_bytes(Region::kFlash));
    EXPECT_EQ(model.arena(Region::kFlash).peak_bytes() != 0, flash != 0);
  }
}

TEST_P(SameBits, ForEveryContextSize) {
  const GreedyRun run = Greedy(gguf_, {});
  EXPECT_EQ(Greedy(gguf_, {.plan = {.n_ctx = 89}}), run);
}

TEST_P(SameBits, OnEveryBoard) {
  EXPECT_EQ(Greedy(gguf_, {.board = HostBoard(uint64_t{16} << 20)}), Greedy(gguf_, {.board = kEsp32Cam}));
}

TEST_P(SameBits, ForEveryKernelTable) {
  const GreedyRun run = Greedy(gguf_, {});
  for (const math::Kernels* const* kernels = math::AvailableKernels(); *kernels != nullptr; ++kernels) {
    EXPECT_EQ(Greedy(gguf_, {.kernels = *kernels}), run) << (*kernels)->name;
  }
}

TEST_P(SameBits, HoweverRowsAreDividedAmongCores) {
  const GreedyRun run = Greedy(gguf_, {});
  for (const math::Kernels* const* kernels = math::AvailableKernels(); *kernels != nullptr; ++kernels) {
    for (uint32_t parts : {2u, 3u, 7u, 1000u}) {
      DividingWorkers workers(parts);
      EXPECT_EQ(Greedy(gguf_, {.kernels = *kernels, .workers = &workers}), run) << (*kernels)->name << ' ' << parts;
      EXPECT_GT(workers.calls(), 1000u);
    }
  }
  host::RamDevice device(TinyLlm(), 512, 16);
  ThreadWorkers workers;
  OpenModel model(device, {.workers = &workers});
  ASSERT_NE(model.session(), nullptr) << model.error();
  EXPECT_EQ(RunGreedy(*model.session(), kPrompt, 4).logits_hash, GetParam().tiny_llm_hash);
}

TEST_P(SameBits, ForEveryBlockSizeAndAlignmentOfTensors) {
  const GreedyRun run = Greedy(gguf_, {});
  EXPECT_EQ(Greedy(gguf_, {}, 4096), run);
  EXPECT_EQ(Greedy(Make(GetParam().shape, 32), {}), run);
}

class SameBitsOfFamily : public testing::TestWithParam<FamilyCase> {};
INSTANTIATE_TEST_SUITE_P(All, SameBitsOfFamily, testing::ValuesIn(kFamily),
                         [](const auto& param) { return param.param.name; });

// On every target, however it is computed and read, and to the byte in the memory that was planned.
TEST_P(SameBitsOfFamily, HoweverItIsRun) {
  const std::vector<std::byte> gguf = MakeGguf({.shape = GetParam().shape});
  const GreedyRun run = Greedy(gguf, {});
  EXPECT_EQ(run.logits_hash, GetParam().hash) << "0x" << std::hex << run.logits_hash;
  ModelShape llama = GetParam().shape;
  llama.architecture = Architecture::kLlama;
  llama.rope_linear_factor = 1;
  llama.has_rope_factors = false;
  EXPECT_NE(Greedy(MakeGguf({.shape = llama}), {}).logits_hash, run.logits_hash);

  for (const math::Kernels* const* kernels = math::AvailableKernels(); *kernels != nullptr; ++kernels) {
    DividingWorkers workers(3);
    EXPECT_EQ(Greedy(gguf, {.kernels = *kernels, .workers = &workers}), run) << (*kernels)->name;
  }
  EXPECT_EQ(Greedy(gguf, {.plan = {.tile_buffer_bytes = 1536}}), run);
  EXPECT_EQ(Greedy(gguf, {.plan = {.prompt_batch = 1}}), run);
  EXPECT_EQ(Greedy(gguf, {.plan = {.psram_weights_percent = 50, .flash_weights_percent = 50}}), run);
  EXPECT_EQ(Greedy(gguf, {.plan = plan::OriginalPlan(GetParam().shape)}), run);
  EXPECT_EQ(Greedy(MakeGguf({.shape = GetParam().shape, .alignment = 32}), {}, 4096), run);

  host::RamDevice device(gguf, 512, 16);
  OpenModel model(device, {});
  ASSERT_NE(model.session(), nullptr) << model.error();
  EXPECT_EQ(model.model().shape, GetParam().shape);
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    EXPECT_EQ(model.arena(region).peak_bytes(), model.plan().region_bytes(region)) << RegionName(region);
  }
  ASSERT_TRUE(model.session()->Prefill(std::span(kPrompt).first(3)));
  EXPECT_EQ(RunGreedy(*model.session(), std::span(kPrompt).subspan(3), kGreedy), run);
}

// A cache that rounds.
struct CacheCase {
  const char* name;
  model::CacheTypes types;
  uint32_t head_dim;
  uint64_t hash;
  friend void PrintTo(const CacheCase& c, std::ostream* out) { *out << c.name; }
};
constexpr CacheCase kCaches[] = {{"F16", {DType::kF16, DType::kF16}, 14, 0x78228d65a8e6edcf},
                                 {"Q8", {DType::kQ8_0, DType::kQ8_0}, 64, 0xecb1963f7d9b7cff},
                                 {"KeysQ8", {DType::kQ8_0, DType::kF32}, 32, 0xe1ec2faa9b5d0165},
                                 {"ValuesQ8", {DType::kF16, DType::kQ8_0}, 96, 0x906d4bd5d3d22881},
                                 {"WideHeads", {DType::kF32, DType::kF16}, 256, 0x6355c7a7475667f7}};
class SameBitsOfCache : public testing::TestWithParam<CacheCase> {};
INSTANTIATE_TEST_SUITE_P(All, SameBitsOfCache, testing::ValuesIn(kCaches),
                         [](const auto& param) { return param.param.name; });

// On every target, however it is computed and read, and to the byte in the memory that was planned.
TEST_P(SameBitsOfCache, HoweverItIsRun) {
  ModelShape shape = kOddShape;
  shape.head_dim = GetParam().head_dim;
  const std::vector<std::byte> gguf = MakeGguf({.shape = shape});
  const auto with = [&](plan::PlanOptions plan) {
    plan.cache = GetParam().types;
    return OpenModel::Options{.plan = plan};
  };
  const GreedyRun run = Greedy(gguf, with({}));
  EXPECT_EQ(run.logits_hash, GetParam().hash) << "0x" << std::hex << run.logits_hash;
  EXPECT_NE(run.logits_hash, Greedy(gguf, {}).logits_hash);
  for (const math::Kernels* const* kernels = math::AvailableKernels(); *kernels != nullptr; ++kernels) {
    for (const uint32_t parts : {1u, 2u, 3u, 1000u}) {
      DividingWorkers workers(parts);
      OpenModel::Options options = with({});
      options.kernels = *kernels;
      options.workers = &workers;
      EXPECT_EQ(Greedy(gguf, options), run) << (*kernels)->name << ' ' << parts;
    }
  }
  ThreadWorkers threads;
  OpenModel::Options threaded = with({});
  threaded.workers = &threads;
  EXPECT_EQ(Greedy(gguf, threaded), run);
  EXPECT_EQ(Greedy(gguf, with({.n_ctx = 89})), run);
  EXPECT_EQ(Greedy(gguf, with({.tile_buffer_bytes = 7168})), run);
  EXPECT_EQ(Greedy(gguf, with({.prompt_batch = 1})), run);
  EXPECT_EQ(Greedy(gguf, with({.draft = plan::DraftMode::kLookup})), run);
  EXPECT_EQ(Greedy(gguf, with(plan::OriginalPlan(shape))), run);

  host::RamDevice device(gguf, 512, 16);
  OpenModel model(device, with({}));
  ASSERT_NE(model.session(), nullptr) << model.error();
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    EXPECT_EQ(model.arena(region).peak_bytes(), model.plan().region_bytes(region)) << RegionName(region);
  }
  // What two texts have in common stays, and is what it was.
  ASSERT_TRUE(model.session()->Prefill(std::array<TokenId, 6>{1, 57, 300, 9, 9, 9}));
  ASSERT_TRUE(model.session()->Next({.temperature = 0}));
  const auto kept = model.session()->Replace(kPrompt);
  ASSERT_TRUE(kept);
  EXPECT_EQ(*kept, 3u);
  GreedyRun again = {.ids = {}, .logits_hash = HashBits(model.session()->logits())};
  for (int i = 0; i < kGreedy; ++i) {
    const Result<TokenId> id = model.session()->Next({.temperature = 0});
    ASSERT_TRUE(id);
    if (i > 0) again.logits_hash = HashBits(model.session()->logits(), again.logits_hash);
    again.ids.push_back(*id);
  }
  EXPECT_EQ(again, run);
}

// What a type cannot hold is said, and the context is what it was.
TEST(SameBitsOfBlocks, NumbersThatATypeCannotHoldAreRefused) {
  std::vector<std::byte> gguf = MakeGguf({.shape = kOddShape});
  host::RamDevice intact(gguf, 512, 16);
  const OpenModel whole(intact, {});
  const TensorRef& values = whole.model().tensor({TensorKind::kAttnV, 1});
  std::vector<float> row(values.cols, 1e30f);
  std::memcpy(&gguf[static_cast<size_t>(values.offset + values.row_bytes())], row.data(),
              static_cast<size_t>(values.row_bytes()));
  host::RamDevice device(gguf, 512, 16);
  OpenModel model(device, {.plan = {.cache = {DType::kF32, DType::kF16}}, .keep_logits = false});
  ASSERT_NE(model.session(), nullptr) << model.error();
  const Result<void> prefilled = model.session()->Prefill(kPrompt);
  ASSERT_FALSE(prefilled);
  EXPECT_EQ(prefilled.error().code, Code::kUnsupported);
  char text[300];
  FormatError(prefilled.error(), text);
  EXPECT_STREQ(text,
               "a key or value of position 0 is beyond what the type of its cache holds: give cache-type-k and "
               "cache-type-v f32");
  EXPECT_EQ(model.session()->n_past(), 0u);
}

TEST_P(SameBits, FromAFileInPieces) {
  // The file's blocks lie on the device last block first.
  constexpr uint64_t kPiece = 1536;
  const uint64_t pieces = (gguf_.size() + kPiece - 1) / kPiece;
  std::vector<std::byte> contents(static_cast<size_t>(pieces * kPiece));
  std::vector<storage::Extent> extents;
  for (uint64_t i = 0; i < pieces; ++i) {
    const uint64_t size = std::min(kPiece, gguf_.size() - i * kPiece);
    const uint64_t at = (pieces - 1 - i) * kPiece;
    std::copy_n(gguf_.begin() + static_cast<ptrdiff_t>(i * kPiece), size,
                contents.begin() + static_cast<ptrdiff_t>(at));
    extents.push_back({.file_offset_bytes = i * kPiece, .device_offset_bytes = at, .size_bytes = size});
  }
  host::RamDevice device(contents, 512, 16);
  OpenModel model(device, {}, extents);
  ASSERT_NE(model.session(), nullptr) << model.error();
  EXPECT_EQ(RunGreedy(*model.session(), kPrompt, kGreedy), Greedy(gguf_, {}));
}

TEST_P(SameBits, HoweverThePromptIsCut) {
  const GreedyRun whole = Greedy(gguf_, {});
  host::RamDevice device(gguf_, 512, 16);
  OpenModel model(device, {});
  ASSERT_NE(model.session(), nullptr) << model.error();
  ASSERT_TRUE(model.session()->Prefill(std::span(kPrompt).first(3)));
  ASSERT_TRUE(model.session()->Prefill(std::span(kPrompt).subspan(3, 1)));
  EXPECT_EQ(RunGreedy(*model.session(), std::span(kPrompt).subspan(4), kGreedy), whole);
}

}  // namespace
}  // namespace thimble::tests
