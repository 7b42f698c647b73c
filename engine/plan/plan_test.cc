#include "engine/plan/plan.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/stream/tile_stream.h"
#include "tests/support/test_gguf.h"

namespace thimble::plan {
namespace {

using tests::kTinyLlm;

// A model whose tensors follow each other at multiples of `alignment`, from `start` on.
class Model {
 public:
  explicit Model(const ModelShape& shape, uint64_t start = 4096, uint64_t alignment = 4096) {
    uint64_t offset = start;
    for (uint32_t i = 0; i < TensorCount(shape); ++i) {
      const TensorId id = TensorIdAt(i, shape);
      const TensorDims dims = DimsOf(id.kind, shape);
      tensors_.push_back({.offset = offset, .rows = dims.rows, .cols = dims.cols, .id = id});
      offset += (tensors_.back().size_bytes() + alignment - 1) / alignment * alignment;
    }
    file_.shape = shape;
    file_.tensors = tensors_;
  }
  const formats::ModelFile& file() const { return file_; }

 private:
  std::vector<TensorRef> tensors_;
  formats::ModelFile file_;
};

constexpr TextNeeds kTokenizer = {
    .table_bytes = 500'000, .work_bytes = [](uint64_t n) { return 11 * n + 14; }, .held_bytes = 3000};

std::string Text(const Error& error) {
  char out[400];
  return std::string(out, FormatError(error, out));
}

TEST(Plan, TinyLlmOnTheEsp32CamReadsEveryWeightOnce) {
  const Model model(kTinyLlm);
  const auto plan = MakePlan(model.file(), kTokenizer, kEsp32Cam, 512, {});
  ASSERT_TRUE(plan) << Text(plan.error());
  EXPECT_EQ(plan->n_ctx, 1024u);
  // Embedding row, attention, MLP, LM head (float32).
  EXPECT_EQ(plan->token_cost.payload_bytes, 768u + 442'368 + 2'359'296 + 24'576'000);
  // Whole-block tiles waste nothing; the embedding row touches two blocks.
  EXPECT_EQ(plan->token_cost.card_bytes, plan->token_cost.payload_bytes - 768 + 1024);
  // Tiles of 84 rows of 768 bytes or 16 rows of 4096: row, q 3, k 2, v 2, o 3, gate and up 13 each, down 12, head 381.
  EXPECT_EQ(plan->token_cost.reads, 1u + 3 + 2 + 2 + 3 + 13 + 13 + 12 + 381);
  EXPECT_EQ(plan->buffer(BufferId::kTiles).bytes, 131'072u);
  EXPECT_EQ(plan->buffer(BufferId::kKvCache).bytes, 786'432u);
  EXPECT_EQ(plan->buffer(BufferId::kKvCache).region, Region::kPsram);
  EXPECT_EQ(plan->buffer(BufferId::kLogits).bytes, 0u);  // they are not kept
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    EXPECT_LE(plan->region_bytes(region), kEsp32Cam.capacity(region)) << RegionName(region);
  }
}

TEST(Plan, TheFirstPlanReadsTinyLlmIn154Pieces) {
  const Model model(kTinyLlm);
  const auto plan = MakePlan(model.file(), kTokenizer, kEsp32Cam, 512, OriginalPlan(kTinyLlm));
  ASSERT_TRUE(plan) << Text(plan.error());
  struct Piece {
    TensorKind kind;
    uint32_t tiles;
    uint64_t tile_bytes;
  };
  using enum TensorKind;
  for (const Piece& piece : {Piece{kAttnQ, 1, 147'456}, Piece{kAttnK, 1, 73'728}, Piece{kAttnV, 1, 73'728},
                             Piece{kAttnO, 1, 147'456}, Piece{kFfnGate, 8, 98'304}, Piece{kFfnUp, 8, 98'304},
                             Piece{kFfnDown, 8, 98'304}, Piece{kLmHead, 125, 196'608}}) {
    const TensorRef& tensor = model.file().tensor({piece.kind, 0});
    const Placement placement = plan->PlacementOf(tensor);
    EXPECT_EQ(placement.tiles, piece.tiles) << static_cast<int>(piece.kind);
    EXPECT_EQ(placement.tile_bytes, piece.tile_bytes) << static_cast<int>(piece.kind);
    EXPECT_EQ(placement.cost.reads, piece.tiles);
    EXPECT_EQ(placement.cost.payload_bytes, tensor.size_bytes());
  }
  EXPECT_EQ(plan->PlacementOf(model.file().tensor({kTokenEmbd, 0})).cost.payload_bytes, 768u);
  EXPECT_EQ(plan->token_cost.reads, 154u);
  EXPECT_EQ(plan->token_cost.payload_bytes, 27'378'432u);
  EXPECT_EQ(plan->token_cost.bounced_blocks, 27'378'688u / 512);

  const auto expect_buffer = [&](BufferId id, uint64_t bytes, Region region) {
    EXPECT_EQ(plan->buffer(id).bytes, bytes) << BufferName(id);
    EXPECT_EQ(plan->buffer(id).region, region) << BufferName(id);
  };
  expect_buffer(BufferId::kEmbeddingTile, 768, Region::kPsram);
  expect_buffer(BufferId::kAttentionTile, 147'456, Region::kPsram);
  expect_buffer(BufferId::kFfnTile, 98'304, Region::kPsram);
  expect_buffer(BufferId::kHeadTile, 196'608, Region::kPsram);
  expect_buffer(BufferId::kKvCache, 786'432, Region::kPsram);
  expect_buffer(BufferId::kTiles, 0, Region::kSramDma);
  expect_buffer(BufferId::kBounce, kHeaderBufferBytes, Region::kSramDma);
}

TEST(Plan, ASmallerCacheIsCountedToTheByteAndHoldsMorePositions) {
  ModelShape shape = kTinyLlm;
  shape.head_dim = 32;
  shape.num_attention_heads = 6;
  shape.num_key_value_heads = 3;
  const Model model(shape);
  struct Case {
    model::CacheTypes types;
    uint64_t bytes_of_position;
  };
  constexpr auto kF32 = DType::kF32, kF16 = DType::kF16, kQ8 = DType::kQ8_0;
  Board board = kEsp32Cam;
  board.capacity_bytes[static_cast<size_t>(Region::kPsram)] = 700'000;
  uint32_t most = 0;
  for (const Case& c : {Case{{kF32, kF32}, 96 * 8}, Case{{kF16, kF32}, 96 * 6}, Case{{kF32, kF16}, 96 * 6},
                        Case{{kF16, kF16}, 96 * 4}, Case{{kQ8, kF16}, 3 * 34 + 96 * 2}, Case{{kQ8, kQ8}, 6 * 34}}) {
    const PlanOptions options = {.cache = c.types};
    const auto plan = MakePlan(model.file(), kTokenizer, kEsp32Cam, 512, options);
    ASSERT_TRUE(plan) << Text(plan.error());
    EXPECT_EQ(plan->buffer(BufferId::kKvCache).bytes, 1024 * c.bytes_of_position);
    const uint32_t fits = LargestContext(model.file(), {}, board, 512, options);
    EXPECT_GE(fits, most);
    most = fits;
    PlanOptions odd = options;
    odd.n_ctx = 7;  // values lie at a multiple of 4
    const auto small = MakePlan(model.file(), kTokenizer, kEsp32Cam, 512, odd);
    ASSERT_TRUE(small);
    EXPECT_EQ(small->buffer(BufferId::kKvCache).bytes,
              7 * c.bytes_of_position + (c.types.k == kQ8 ? 4 - 7 * 3 * 34 % 4 : 0));
  }
  EXPECT_EQ(most, 1024u);
  EXPECT_LT(LargestContext(model.file(), {}, board, 512, {}), 1024u);
}

TEST(Plan, CachesThatAHeadHasNoBlocksForAreRefused) {
  const auto refusal = [](uint32_t head_dim, const model::CacheTypes& types) {
    ModelShape shape = kTinyLlm;
    shape.head_dim = head_dim;
    const Model model(shape);
    const auto plan = MakePlan(model.file(), kTokenizer, HostBoard(1 << 30), 512, {.cache = types});
    return plan ? "" : Text(plan.error());
  };
  EXPECT_EQ(refusal(64, {DType::kQ8_0, DType::kQ8_0}), "");
  EXPECT_EQ(refusal(256, {DType::kQ8_0, DType::kF16}), "");
  EXPECT_EQ(refusal(48, {DType::kF32, DType::kQ8_0}),
            "a KV cache of q8_0 has blocks of 32 numbers, and a head of 48 is no whole number of them: take f16");
  EXPECT_EQ(refusal(258, {DType::kF16, DType::kF32}),
            "a head of 258 numbers is more than the 256 that a KV cache of f16 or q8_0 can have: take f32");
  EXPECT_EQ(refusal(258, {}), "");
  EXPECT_EQ(refusal(64, {DType::kBF16, DType::kF32}),
            "keys and values can be stored as f32, f16 or q8_0, not otherwise");
}

// Against trying every context there is.
TEST(Plan, TheLargestContextIsTheLargestThatFits) {
  std::mt19937 random(11);
  const auto up_to = [&](uint32_t n) { return static_cast<uint32_t>(random() % (n + 1)); };
  uint32_t found = 0;
  uint32_t with_batch = 0;
  for (int round = 0; round < 300; ++round) {
    const ModelShape shape = {.vocab_size = 64 + up_to(64),
                              .hidden_size = 32 * (1 + up_to(2)),
                              .intermediate_size = 32 * (1 + up_to(3)),
                              .num_hidden_layers = 1 + up_to(2),
                              .num_attention_heads = 4,
                              .num_key_value_heads = 1u << up_to(2),
                              .head_dim = 8,
                              .max_position_embeddings = 1 + up_to(150),
                              .rms_norm_eps = 1e-5f,
                              .rope_theta = 10000};
    const Model model(shape);
    Board board = kEsp32Cam;
    board.tile_buffer_bytes = 4096;
    board.capacity_bytes = {8192 + up_to(16'384), 4096 + up_to(40'000), round % 3 == 0 ? 0 : up_to(200'000), 0};
    const TextNeeds text = {.table_bytes = up_to(3) * 1000,
                            .work_bytes = [](uint64_t n) { return 11 * n + 14; },
                            .held_bytes = 300,
                            .candidate_bytes = up_to(1) * 320,
                            .penalised = up_to(1) * 64};
    const PlanOptions options = {.prompt_batch = round % 2 == 0 ? 0 : up_to(40), .keep_logits = round % 5 == 0};
    uint32_t most = 0;
    for (uint32_t n = 1; n <= shape.max_position_embeddings; ++n) {
      PlanOptions tried = options;
      tried.n_ctx = n;
      if (MakePlan(model.file(), text, board, 512, tried)) most = n;
    }
    EXPECT_EQ(LargestContext(model.file(), text, board, 512, options), most)
        << "round " << round << ", batch " << options.prompt_batch;
    found += most != 0 && most != shape.max_position_embeddings;
    with_batch += most > options.prompt_batch && options.prompt_batch > 1 && most != shape.max_position_embeddings;
  }
  // Enough of them say something.
  EXPECT_GT(found, 50u);
  EXPECT_GT(with_batch, 10u);
}

TEST(Plan, ChunksThatDoNotFitTheTileBuffersAreRefused) {
  const Model model(kTinyLlm);
  const auto refused = MakePlan(model.file(), {}, kEsp32Cam, 512, {.attention_chunks = 1});
  ASSERT_FALSE(refused);
  EXPECT_NE(Text(refused.error()).find("blk.0.attn_q.weight"), std::string::npos) << Text(refused.error());
  EXPECT_NE(Text(refused.error()).find("147456"), std::string::npos) << Text(refused.error());
  EXPECT_NE(Text(refused.error()).find("more chunks"), std::string::npos) << Text(refused.error());
  const auto halves = MakePlan(model.file(), {}, kEsp32Cam, 512, {.attention_chunks = 3});
  ASSERT_TRUE(halves) << Text(halves.error());
  EXPECT_EQ(halves->PlacementOf(model.file().tensor({TensorKind::kAttnK, 0})).tiles, 3u);
}

TEST(Plan, SaysWhichBufferLacksHowMuchWhere) {
  const Model model(kTinyLlm);
  Board board = kEsp32Cam;
  board.capacity_bytes[static_cast<size_t>(Region::kPsram)] = 1'272'000;
  const auto refused = MakePlan(model.file(), kTokenizer, board, 512, {});
  ASSERT_FALSE(refused);
  // 1 272 000 less tokenizer 500 000.
  EXPECT_EQ(Text(refused.error()),
            "psram has no room for the KV cache: 786432 bytes are needed, 772000 are left, 14432 are missing: lower "
            "ctx-size");
}

TEST(Plan, EveryBufferHasAName) {
  std::set<std::string> names;
  for (size_t i = 0; i < kNumBuffers; ++i) names.insert(BufferName(static_cast<BufferId>(i)));
  EXPECT_EQ(names.size(), kNumBuffers);
  EXPECT_EQ(names.count(""), 0u);
}

TEST(Plan, FallsBackToTheOtherMemoryAndRefusesWhenBothAreFull) {
  const Model model(kTinyLlm);
  Board board = kEsp32Cam;
  board.capacity_bytes = {131'072, 0x100000, 0, 0};
  const auto small = MakePlan(model.file(), kTokenizer, board, 512, {.n_ctx = 128});
  ASSERT_TRUE(small) << Text(small.error());
  EXPECT_EQ(small->buffer(BufferId::kKvCache).region, Region::kSram);
  const auto refused = MakePlan(model.file(), kTokenizer, board, 512, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kOutOfMemory);
  EXPECT_NE(Text(refused.error()).find("lower ctx-size"), std::string::npos) << Text(refused.error());
  const uint32_t fits = LargestContext(model.file(), kTokenizer, board, 512, {});
  EXPECT_GT(fits, 128u);
  EXPECT_TRUE(MakePlan(model.file(), kTokenizer, board, 512, {.n_ctx = fits}));
  EXPECT_FALSE(MakePlan(model.file(), kTokenizer, board, 512, {.n_ctx = fits + 1}));
}

// The tables of 32 000 pieces, and eight pages of them.
constexpr TextNeeds kTokenizerInIndex = {.table_bytes = 366'000,
                                         .cache_bytes = 8 * 512 + 384 + 64 + 48,
                                         .work_bytes = kTokenizer.work_bytes,
                                         .held_bytes = 2400,
                                         .candidate_bytes = 40 * 8};

// An index without a screen, as far as a plan asks.
formats::Index IndexOf(const formats::ModelFile& model) {
  formats::Index index;
  index.sections[static_cast<size_t>(formats::Section::kBlockChecks)].bytes =
      formats::NumBlocks(model) * sizeof(uint32_t);
  index.sections[static_cast<size_t>(formats::Section::kRowChecks)].bytes = model.shape.vocab_size * sizeof(uint32_t);
  return index;
}

// With a screen of 48 bytes and 3 bits and room for this many candidates, as many as the default sampler left.
formats::Index ScreenedIndexOf(const formats::ModelFile& model, uint32_t num_candidates, uint32_t first_bytes = 48,
                               uint32_t num_parts = 1) {
  formats::Index index = IndexOf(model);
  const formats::ScreenUse greedy = {.second_mean = 100, .rows_mean = 2, .survivors_most = 150};
  const formats::ScreenUse several = {.second_mean = 100, .rows_mean = 2, .survivors_most = num_candidates};
  index.screen = {.record_bytes = {first_bytes, formats::SecondRecordBytes(model.shape.hidden_size, 3)},
                  .second_bits = 3,
                  .num_candidates = num_candidates,
                  .uses = {greedy, several},
                  .num_parts = num_parts};
  const auto bytes = [&](formats::Section id) -> uint64_t& { return index.sections[static_cast<size_t>(id)].bytes; };
  bytes(formats::Section::kMean) = model.shape.hidden_size * sizeof(float);
  bytes(formats::Section::kTransform) = formats::TransformLayout{model.shape.hidden_size}.bytes();
  bytes(formats::Section::kGroupChecks) =
      num_parts * uint64_t{index.screen.num_groups(model.shape.vocab_size)} * sizeof(uint32_t);
  return index;
}

uint64_t InternalBytes(const Plan& plan) {
  return plan.region_bytes(Region::kSramDma) + plan.region_bytes(Region::kSram);
}

TEST(Plan, TinyLlmOnAnEsp32WithoutPsram) {
  const Model model(kTinyLlm);
  const formats::Index index = IndexOf(model.file());
  const auto plan = MakePlan(model.file(), kTokenizerInIndex, kEsp32, 512, {.n_ctx = 112}, &index);
  ASSERT_TRUE(plan) << Text(plan.error());
  EXPECT_EQ(plan->buffer(BufferId::kKvCache).bytes, 112u * 2 * 96 * 4);

  EXPECT_EQ(plan->tokenizer, TokenizerPlace::kOnCard);
  EXPECT_EQ(plan->buffer(BufferId::kTokenizer).bytes, 0u);
  EXPECT_EQ(plan->buffer(BufferId::kTokenizerCache).bytes, kTokenizerInIndex.cache_bytes);
  EXPECT_EQ(plan->buffer(BufferId::kTokenizerCache).region, Region::kSramDma);
  EXPECT_LE(InternalBytes(*plan), 180'224u);
  EXPECT_EQ(plan->region_bytes(Region::kPsram), 0u);
  EXPECT_EQ(plan->region_bytes(Region::kFlash), 0u);
  EXPECT_EQ(kEsp32.capacity(Region::kSramDma) + kEsp32.capacity(Region::kSram), 180'224u);
  EXPECT_EQ(plan->token_cost.payload_bytes, 27'378'432u);

  // Without an index the tokenizer is nowhere, and nothing is set aside for texts.
  const auto ids_only = MakePlan(model.file(), kTokenizer, kEsp32, 512, {.n_ctx = 112});
  ASSERT_TRUE(ids_only) << Text(ids_only.error());
  EXPECT_EQ(ids_only->tokenizer, TokenizerPlace::kNowhere);
  EXPECT_EQ(ids_only->buffer(BufferId::kText).bytes, 0u);

  // All logits at once.
  TextNeeds top_p = kTokenizerInIndex;
  top_p.candidate_bytes = 32000 * 8;
  top_p.is_boundable = false;
  const auto refused = MakePlan(model.file(), top_p, kEsp32, 512, {.n_ctx = 112}, &index);
  ASSERT_FALSE(refused);
  EXPECT_NE(Text(refused.error()).find("sampler candidates: 256000 bytes are needed"), std::string::npos);
  EXPECT_NE(Text(refused.error()).find("top-p without top-k"), std::string::npos) << Text(refused.error());
}

// Internal memory is one budget: where what is hot has no room beside the board's tiles, they become smaller.
TEST(Plan, TilesLeaveInternalMemoryToWhatIsHot) {
  const Model model(kTinyLlm);
  Board board = kEsp32Cam;
  const auto tile_of = [&](uint64_t sram, const PlanOptions& options) {
    board.capacity_bytes[static_cast<size_t>(Region::kSram)] = sram;
    const auto plan = MakePlan(model.file(), kTokenizer, board, 512, options);
    if (!plan) return uint32_t{0};
    for (size_t i = 0; i < kNumRegions; ++i) {
      const auto region = static_cast<Region>(i);
      EXPECT_LE(plan->region_bytes(region), board.capacity(region)) << RegionName(region);
    }
    EXPECT_EQ(plan->buffer(BufferId::kTiles).bytes, 2 * uint64_t{plan->tile_buffer_bytes});
    const Region hot = plan->buffer(BufferId::kActivations).region;
    EXPECT_EQ(hot == Region::kPsram, options.tile_buffer_bytes != 0 && sram < 16'800) << sram;
    return plan->tile_buffer_bytes;
  };
  // tensor table 288, session 4096, activations 12 416, rotary 192, norms 2304, scores 8192, LM head block 1024
  EXPECT_EQ(tile_of(28'512, {}), 65'536u);
  EXPECT_EQ(tile_of(28'496, {}), 49'152u);
  EXPECT_EQ(tile_of(1'000, {}), 49'152u);
  EXPECT_EQ(tile_of(272, {}), 0u);  // the tensor table is read before there is a plan
  // Chosen ones stay as they are chosen, and the rest goes where there is room.
  EXPECT_EQ(tile_of(4'512, {.tile_buffer_bytes = 65'536}), 65'536u);

  // Scores of a context that no internal memory holds are no reason for small tiles.
  ModelShape patient = kTinyLlm;
  patient.max_position_embeddings = 100'000;
  patient.head_dim = 2;
  const Model long_model(patient);
  const auto plan = MakePlan(long_model.file(), {}, kEsp32Cam, 512, {});
  ASSERT_TRUE(plan) << Text(plan.error());
  EXPECT_EQ(plan->tile_buffer_bytes, 65'536u);
  EXPECT_EQ(plan->buffer(BufferId::kScores).region, Region::kPsram);
}

// Memory for tables goes before the card; the context goes before the tables.
TEST(Plan, TheTokenizerIsOnTheCardWhereItsTablesDoNotFit) {
  const Model model(kTinyLlm);
  const formats::Index index = IndexOf(model.file());
  const PlanOptions options = {.n_ctx = 112, .prompt_batch = 1};
  Board board = kEsp32;
  uint64_t in_memory = 0;
  uint64_t on_card = 0;
  for (uint64_t psram = 0; psram < 700'000; psram += 10'000) {
    board.capacity_bytes[static_cast<size_t>(Region::kPsram)] = psram;
    const auto plan = MakePlan(model.file(), kTokenizerInIndex, board, 512, options, &index);
    ASSERT_TRUE(plan) << psram << Text(plan.error());
    const bool is_in_memory = plan->tokenizer == TokenizerPlace::kInMemory;
    ++(is_in_memory ? in_memory : on_card);
    EXPECT_TRUE(is_in_memory ? psram >= 370'000 : psram < 390'000) << psram;  // checksums and ids go there, too
    EXPECT_EQ(plan->buffer(BufferId::kTokenizerCache).bytes == 0, is_in_memory);
  }
  EXPECT_GT(in_memory, 10u);
  EXPECT_GT(on_card, 10u);
}

TEST(Plan, AScreenThatDoesNotFitIsDoneWithout) {
  const Model model(kTinyLlm);
  const PlanOptions options = {.n_ctx = 80, .prompt_batch = 1};
  uint32_t screened = 0;
  for (uint32_t candidates = 100; candidates < 3000; candidates += 100) {
    const formats::Index index = ScreenedIndexOf(model.file(), candidates);
    // One token is kept: as many rows as the likeliest left are enough, or 256.
    TextNeeds greedy = kTokenizerInIndex;
    greedy.candidate_bytes = 0;
    const auto one = MakePlan(model.file(), greedy, kEsp32, 512, options, &index);
    ASSERT_TRUE(one) << candidates << Text(one.error());
    EXPECT_TRUE(one->screened) << candidates;
    EXPECT_LE(InternalBytes(*one), 180'224u);

    const auto plan = MakePlan(model.file(), kTokenizerInIndex, kEsp32, 512, options, &index);
    ASSERT_TRUE(plan) << candidates << Text(plan.error());
    PlanOptions screen = options;
    screen.head = HeadMode::kScreen;
    const auto forced = MakePlan(model.file(), kTokenizerInIndex, kEsp32, 512, screen, &index);
    EXPECT_EQ(plan->screened, forced.has_value()) << candidates;
    EXPECT_TRUE(forced || forced.error().code == Code::kOutOfMemory) << Text(forced.error());
    if (!plan->screened) continue;
    ++screened;
    EXPECT_LE(plan->region_bytes(Region::kFlash), kEsp32.capacity(Region::kFlash));
    // All of the first stage, which is read for each token, is in flash; the second, of which little is, has what is
    // left there.
    EXPECT_EQ(plan->places[0].flash_rows, 32'000u);
    EXPECT_LT(plan->places[1].flash_rows, 16'000u);
    EXPECT_LT(plan->head_cost.card_bytes, 600'000u);
  }
  EXPECT_GT(screened, 0u);
  EXPECT_LT(screened, 29u);
}

// A first stage in parts has small tables, one sum of each row, and as many bytes on the card.
TEST(Plan, PartsOfAScreenTakeTurnsInInternalMemory) {
  ModelShape wide = kTinyLlm;
  wide.hidden_size = 768;
  const Model model(wide);
  constexpr uint32_t kFirstBytes = 204;
  constexpr uint64_t kRows = 32'000;
  const PlanOptions options = {.n_ctx = 64, .prompt_batch = 1, .head = HeadMode::kScreen};
  TokenCost one;
  for (const uint32_t parts : {1u, 2u, 3u, 5u, 51u}) {
    SCOPED_TRACE(parts);
    const formats::Index index = ScreenedIndexOf(model.file(), 1024, kFirstBytes, parts);
    const auto plan = MakePlan(model.file(), {}, kEsp32Cam, 512, options, &index);
    ASSERT_TRUE(plan) << Text(plan.error());
    ASSERT_TRUE(plan->screened);
    const uint64_t words = (kFirstBytes / 4 + parts - 1) / parts;
    EXPECT_EQ(plan->buffer(BufferId::kScreenTables).bytes, words * 4 * 512 + 1024);
    EXPECT_EQ(plan->buffer(BufferId::kScreenTables).region == Region::kPsram, parts == 1);
    const Buffer& sums = plan->buffer(BufferId::kScreenSums);
    EXPECT_EQ(sums.bytes, parts == 1 ? 0 : kRows * 4);
    EXPECT_EQ(sums.region, Region::kPsram);
    const auto& [psram_rows, flash_rows] = plan->places[0];
    const uint64_t in_memory = psram_rows + flash_rows;
    EXPECT_EQ(in_memory == kRows ? 0 : in_memory % index.screen.group_rows(), 0u);
    EXPECT_EQ(plan->buffer(BufferId::kScreenPsram).bytes + plan->buffer(BufferId::kScreenFlash).bytes,
              in_memory * kFirstBytes +
                  uint64_t{plan->places[1].psram_rows + plan->places[1].flash_rows} * index.screen.record_bytes[1]);
    for (size_t i = 0; i < kNumRegions; ++i) {
      EXPECT_LE(plan->region_bytes(static_cast<Region>(i)), kEsp32Cam.capacity(static_cast<Region>(i)));
    }
    const uint64_t sums_read = (parts - 1) * kRows * 4;
    const uint64_t records = plan->head_cost.screen_bytes - sums_read + plan->head_cost.payload_bytes;
    if (parts == 1) {
      one = plan->head_cost;
    } else {
      EXPECT_NEAR(static_cast<double>(records), static_cast<double>(one.screen_bytes + one.payload_bytes), 1000);
      EXPECT_GE(plan->head_cost.reads, parts);
    }
  }
}

// It is read for each token where no memory has room for it.
TEST(Plan, TheMatrixOfAWideScreenIsOnTheCard) {
  ModelShape wide = kTinyLlm;
  wide.hidden_size = 2048;
  const Model model(wide);
  const formats::Index index = ScreenedIndexOf(model.file(), 1024, 384, 16);
  const formats::TransformLayout layout = {2048};
  const auto plan_on = [&](uint64_t psram) {
    Board board = kEsp32S3;
    board.capacity_bytes[static_cast<size_t>(Region::kPsram)] = psram;
    return MakePlan(model.file(), {}, board, 512, {.n_ctx = 16, .prompt_batch = 1}, &index);
  };
  const auto on_card = plan_on(8'000'000);
  ASSERT_TRUE(on_card) << Text(on_card.error());
  EXPECT_TRUE(on_card->screened);
  EXPECT_EQ(on_card->buffer(BufferId::kScreenTransform).bytes, layout.bytes() - layout.matrix_bytes());
  EXPECT_NE(on_card->buffer(BufferId::kScreenTables).region, Region::kPsram);
  const auto kept = plan_on(20'000'000);
  ASSERT_TRUE(kept) << Text(kept.error());
  EXPECT_EQ(kept->buffer(BufferId::kScreenTransform).bytes, layout.bytes());
  // Everything else that a token reads of the screen lies in memory, or on the card.
  const auto first_stage_on_card = [](const Plan& plan) {
    return uint64_t{32'000 - plan.places[0].psram_rows - plan.places[0].flash_rows} * 384;
  };
  EXPECT_NEAR(static_cast<double>(on_card->head_cost.payload_bytes),
              static_cast<double>(first_stage_on_card(*on_card) + layout.matrix_bytes()), 600'000);
  EXPECT_NEAR(static_cast<double>(kept->head_cost.payload_bytes), static_cast<double>(first_stage_on_card(*kept)),
              600'000);
}

TEST(Plan, RefusesWhatNoBoardHasRoomFor) {
  ModelShape wide = kTinyLlm;
  wide.hidden_size = 32768;
  const Model model(wide);
  const auto refused = MakePlan(model.file(), {}, kEsp32Cam, 512, {});
  ASSERT_FALSE(refused);
  EXPECT_NE(Text(refused.error()).find("token_embd.weight"), std::string::npos) << Text(refused.error());
  EXPECT_EQ(LargestContext(model.file(), {}, kEsp32Cam, 512, {}), 0u);

  ModelShape deep = kTinyLlm;
  deep.num_hidden_layers = 1000;
  const auto too_deep = MakePlan(Model(deep).file(), {}, kEsp32Cam, 512, {});
  ASSERT_FALSE(too_deep);
  EXPECT_EQ(too_deep.error().code, Code::kOutOfMemory);
}

// A context is looked for only where the shortest one fits: 20 000 layers are many to plan.
TEST(Plan, WhatNoContextHelpsIsTriedOnce) {
  ModelShape shape = kTinyLlm;
  shape.num_hidden_layers = 20'000;
  const Model model(shape);
  static int plans = 0;
  TextNeeds text = kTokenizer;
  text.work_bytes = [](uint64_t n) {
    ++plans;
    return 11 * n + 14;
  };
  ASSERT_FALSE(MakePlan(model.file(), text, kEsp32Cam, 512, {.n_ctx = 1}));
  const int of_one = plans;
  EXPECT_GT(of_one, 0);
  plans = 0;
  EXPECT_EQ(LargestContext(model.file(), text, kEsp32Cam, 512, {}), 0u);
  EXPECT_EQ(plans, of_one);
}

TEST(Plan, RefusesOptionsOutOfRange) {
  const Model model(kTinyLlm);
  EXPECT_FALSE(MakePlan(model.file(), {}, kEsp32Cam, 512, {.n_ctx = 1025}));
  EXPECT_FALSE(MakePlan(model.file(), {}, kEsp32Cam, 512, {.tile_buffer_bytes = 1000}));
  EXPECT_FALSE(MakePlan(model.file(), {}, kEsp32Cam, 0, {}));
  EXPECT_FALSE(MakePlan(model.file(), {}, kEsp32Cam, 384, {}));
  ModelShape endless = kTinyLlm;
  endless.max_position_embeddings = 0xffffffff;
  const Model long_model(endless);
  EXPECT_FALSE(MakePlan(long_model.file(), {}, HostBoard(uint64_t{1} << 62), 512, {}));
  EXPECT_LE(LargestContext(long_model.file(), {}, HostBoard(uint64_t{1} << 62), 512, {}), 1u << 20);
}

// Whatever the alignment and the tile size, a tile with the blocks around it fits the buffer.
TEST(TileRows, CoveringBlocksAlwaysFit) {
  for (uint32_t cols : {1u, 3u, 10u, 36u, 127u, 128u, 192u, 1000u, 1024u}) {
    for (uint64_t offset : {0u, 4u, 28u, 512u, 516u, 4096u}) {
      for (uint32_t buffer : {1024u, 4096u, 5120u, 65536u}) {
        const TensorRef tensor = {.offset = offset, .rows = 5000, .cols = cols};
        const uint64_t rows = stream::TileRows(tensor, buffer, 512);
        if (rows == 0) {
          EXPECT_GT(tensor.row_bytes() + 1022, buffer);
          continue;
        }
        for (uint64_t row = 0; row + rows <= tensor.rows; row += rows) {
          const uint64_t begin = (offset + row * tensor.row_bytes()) / 512 * 512;
          const uint64_t end = (offset + (row + rows) * tensor.row_bytes() + 511) / 512 * 512;
          ASSERT_LE(end - begin, buffer) << cols << ' ' << offset << ' ' << buffer;
        }
      }
    }
  }
}

}  // namespace
}  // namespace thimble::plan
