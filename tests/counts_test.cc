// What one token costs, counted by a block device of the test's own and compared with numbers worked out by hand, at
// Tiny-LLM's shape on the ESP32-CAM: two buffers of 64 KiB, blocks of 512 bytes.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "engine/base/board.h"
#include "engine/storage/block_device.h"
#include "tests/support/drafters.h"
#include "tests/support/no_allocation.h"
#include "tests/support/open_model.h"
#include "tests/support/test_gguf.h"

namespace thimble::tests {
namespace {

// A row of 192 float32 is 768 bytes, two rows are three blocks. 84 rows, 64512 bytes, are the most whole rows in whole
// blocks that 64 KiB hold. A row of down_proj is 4096 bytes: 16 of them are 64 KiB.
//                                   bytes                 reads
constexpr uint64_t kQ = 147456;     // 192 * 768              3 = ceil(192 / 84)
constexpr uint64_t kK = 73728;      //  96 * 768              2 = ceil(96 / 84)
constexpr uint64_t kV = 73728;      //  96 * 768              2
constexpr uint64_t kO = 147456;     // 192 * 768              3
constexpr uint64_t kGate = 786432;  // 1024 * 768            13 = ceil(1024 / 84)
constexpr uint64_t kUp = 786432;    // 1024 * 768            13
constexpr uint64_t kDown = 786432;  // 192 * 4096            12 = 192 / 16
constexpr uint64_t kLayerReads = 3 + 2 + 2 + 3 + 13 + 13 + 12;
constexpr uint64_t kEmbeddingBlocks = 1024;  // one row of 768 bytes, in one read: two blocks wherever it starts
constexpr uint64_t kHead = 24576000;         // 32000 * 768
constexpr uint64_t kHeadReads = 381;         // ceil(32000 / 84)

constexpr uint64_t kTokenPayload = 27378432;  // 24576000 head + 2359296 MLP + 442368 attention + 768 embedding row
constexpr uint64_t kTokenBytes = 27378688;    // the same, with two whole blocks for the embedding row
constexpr uint64_t kTokenReads = 430;
static_assert(kQ + kK + kV + kO + kGate + kUp + kDown + kEmbeddingBlocks + kHead == kTokenBytes);
static_assert(kLayerReads + 1 + kHeadReads == kTokenReads);

// Counts; allocates nothing; refuses what a card's DMA could not do.
class CountingDevice final : public storage::BlockDevice {
 public:
  explicit CountingDevice(std::vector<std::byte> contents) : contents_(std::move(contents)) {
    contents_.resize((contents_.size() + 511) / 512 * 512);
  }

  storage::BlockGeometry geometry() const override {
    return {.block_bytes = 512, .buffer_align = 16, .size_bytes = contents_.size()};
  }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override {
    const bool ok = dst_.empty() && !dst.empty() && offset_bytes % 512 == 0 && dst.size() % 512 == 0 &&
                    reinterpret_cast<uintptr_t>(dst.data()) % 16 == 0 && offset_bytes + dst.size() <= contents_.size();
    if (!ok) return Fail({.what = "a read that a card could not do"});
    dst_ = dst;
    source_ = contents_.data() + offset_bytes;
    ++reads;
    bytes += dst.size();
    if (dst.size() > largest) largest = dst.size();
    return {};
  }
  Result<void> WaitRead() override {
    if (dst_.empty()) return Fail({.what = "no read in flight"});
    std::memcpy(dst_.data(), source_, dst_.size());
    dst_ = {};
    return {};
  }
  Result<void> Reinitialise() override { return {}; }

  uint64_t reads = 0;
  uint64_t bytes = 0;
  uint64_t largest = 0;

 private:
  std::vector<std::byte> contents_;
  std::span<std::byte> dst_;
  const std::byte* source_ = nullptr;
};

class Counts : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(session(), nullptr) << model_.error(); }
  Session* session() { return model_.session(); }

  CountingDevice device_{MakeGguf({.shape = kTinyLlm})};
  OpenModel model_{device_, {.board = kEsp32Cam}};
};

TEST_F(Counts, OneGeneratedToken) {
  ASSERT_TRUE(session()->Prefill(std::array<TokenId, 2>{1, 31999}));
  ASSERT_TRUE(session()->Next({.temperature = 0}));
  const ZoneCounts before = model_.ledger().total();
  device_.reads = device_.bytes = device_.largest = 0;
  ASSERT_TRUE(session()->Next({.temperature = 0}));
  EXPECT_EQ(device_.bytes, kTokenBytes);
  EXPECT_EQ(device_.reads, kTokenReads);
  EXPECT_LE(device_.largest, 65536u);

  const ZoneCounts after = model_.ledger().total();
  EXPECT_EQ(after.payload_bytes - before.payload_bytes, kTokenPayload);
  EXPECT_EQ(after.card_bytes - before.card_bytes, kTokenBytes);
  EXPECT_EQ(after.reads - before.reads, kTokenReads);
  // Every weight but the embedding once, and 2 heads of 96 against 3 positions of keys and of values.
  EXPECT_EQ(after.macs - before.macs, (kTokenPayload - 768) / 4 + 2 * 2 * 96 * 3);

  EXPECT_EQ(model_.plan().token_cost.payload_bytes, kTokenPayload);
  EXPECT_EQ(model_.plan().token_cost.card_bytes, kTokenBytes);
  EXPECT_EQ(model_.plan().token_cost.reads, kTokenReads);
}

// Of all positions but the last, the only layer's k and v are wanted, which the last reads anyway.
TEST_F(Counts, APromptReadsItsEmbeddingRowsAndOneToken) {
  device_.reads = device_.bytes = 0;
  std::array<TokenId, 256> prompt;
  for (uint32_t i = 0; i < prompt.size(); ++i) prompt[i] = i * 120;
  const ZoneCounts before = model_.ledger().total();
  ASSERT_TRUE(session()->Prefill(prompt));
  const ZoneCounts after = model_.ledger().total();
  EXPECT_EQ(after.payload_bytes - before.payload_bytes, 255 * 768 + kTokenPayload);
  EXPECT_EQ(device_.reads, 255 + kTokenReads);
  const plan::TokenCost planned = model_.plan().PromptCost(model_.model(), 256);
  EXPECT_EQ(planned.payload_bytes, 255 * 768 + kTokenPayload);
  EXPECT_EQ(planned.reads, 255 + kTokenReads);
  EXPECT_LE(device_.bytes, planned.card_bytes);
}

TEST_F(Counts, TheLastTokenOfATextCostsNothing) {
  ASSERT_TRUE(session()->Prefill(std::array<TokenId, 1>{1}));
  device_.reads = 0;
  ASSERT_TRUE(session()->Next({.temperature = 0}));
  EXPECT_EQ(device_.reads, 0u);
}

TEST_F(Counts, PeaksAreThePlansAndFitTheBoard) {
  ASSERT_TRUE(session()->Prefill(std::array<TokenId, 2>{1, 2}));
  ASSERT_TRUE(session()->Next({.temperature = 0}));
  ASSERT_TRUE(session()->Next({.temperature = 0}));
  EXPECT_EQ(model_.arena(Region::kSramDma).peak_bytes(), 131072u);  // two buffers of 64 KiB
  // tensor table 288, session 4096, LM head block 1024, activations (2*192 + 2*192 + 2*96 + 2*1024 + 2*48)
  // * 4 = 12416, rotary frequencies 48*4 = 192, norms 3*192*4 = 2304, scores of both heads 2*1024*4 = 8192, prompt
  // and context ids 1024*4 = 4096 each, sampler candidates 40*8 = 320
  EXPECT_EQ(model_.arena(Region::kSram).peak_bytes(), 37024u);
  // KV cache 2 * 96 * 1024 * 4 = 786432, logits 32000*4 = 128000, scratch for a prompt batch 12416 + 255 * (2*192 +
  // 2*96 + 2*48) * 4 = 697856
  EXPECT_EQ(model_.arena(Region::kPsram).peak_bytes(), 1612288u);
  EXPECT_EQ(model_.arena(Region::kFlash).peak_bytes(), 0u);
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    EXPECT_EQ(model_.arena(region).peak_bytes(), model_.plan().region_bytes(region)) << RegionName(region);
    EXPECT_EQ(model_.arena(region).used_bytes(), model_.plan().region_bytes(region)) << RegionName(region);
  }
}

// The plan this system started from: 154 pieces a token, which fall into single blocks because their buffers are in
// PSRAM.
TEST(TheFirstPlan, BouncesEveryBlockAndGivesTheSameBits) {
  CountingDevice device(MakeGguf({.shape = kTinyLlm}));
  const std::array<TokenId, 2> prompt = {1, 31999};
  OpenModel streamed(device, {.board = kEsp32Cam});
  ASSERT_NE(streamed.session(), nullptr) << streamed.error();
  const GreedyRun expected = RunGreedy(*streamed.session(), prompt, 2);

  OpenModel first(device, {.board = kEsp32Cam, .plan = plan::OriginalPlan(kTinyLlm)});
  ASSERT_NE(first.session(), nullptr) << first.error();
  EXPECT_EQ(RunGreedy(*first.session(), prompt, 2), expected);

  const ZoneCounts before = first.ledger().total();
  device.reads = device.bytes = device.largest = 0;
  ASSERT_TRUE(first.session()->Next({.temperature = 0}));
  const ZoneCounts after = first.ledger().total();
  EXPECT_EQ(after.reads - before.reads, 154u);  // row 1, attention 4, MLP 3 * 8, head 125
  EXPECT_EQ(after.payload_bytes - before.payload_bytes, kTokenPayload);
  EXPECT_EQ(after.card_bytes - before.card_bytes, device.bytes);
  EXPECT_EQ(after.bounced_blocks - before.bounced_blocks, device.reads);
  EXPECT_EQ(device.largest, 512u);
  EXPECT_EQ(device.reads, kTokenBytes / 512);
  const plan::TokenCost& planned = first.plan().token_cost;
  EXPECT_EQ(planned.reads, 154u);
  EXPECT_EQ(planned.payload_bytes, kTokenPayload);
  EXPECT_EQ(planned.card_bytes, device.bytes);
  EXPECT_EQ(planned.bounced_blocks, device.reads);
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    EXPECT_EQ(first.arena(region).peak_bytes(), first.plan().region_bytes(region)) << RegionName(region);
  }
  // The bounce buffer alone is where the card's DMA writes.
  EXPECT_EQ(first.arena(Region::kSramDma).peak_bytes(), 4096u);
}

TEST_F(Counts, NothingAllocatesAfterOpen) {
  const std::array<TokenId, 3> prompt = {1, 2, 3};
  Result<void> prefilled;
  Result<TokenId> greedy = 0, second = 0, drawn = 0;
  {
    const NoAllocation none;
    prefilled = session()->Prefill(prompt);
    greedy = session()->Next({.temperature = 0});
    second = session()->Next({.temperature = 0});
    drawn = session()->Next({.temperature = 0.8f, .seed = 7});
  }
  EXPECT_TRUE(prefilled && greedy && second && drawn);
}

// A pass with drafts reads each weight once for all of its positions, the LM head included, and an embedding row for
// each; what comes as it was guessed has been read. Nothing is allocated.
TEST_F(Counts, APassWithDrafts) {
  constexpr uint32_t kDrafts = 3;
  constexpr std::array<TokenId, 2> kBegin = {1, 31999};
  for (const head::SamplerOptions& sampler :
       {head::SamplerOptions{.temperature = 0}, head::SamplerOptions{.repeat_penalty = 1.2f, .seed = 3}}) {
    OpenModel plain(device_, {.board = kEsp32Cam, .keep_logits = false, .sampler = sampler});
    ASSERT_NE(plain.session(), nullptr) << plain.error();
    std::vector<TokenId> text(kBegin.begin(), kBegin.end());
    ASSERT_TRUE(plain.session()->Prefill(text));
    for (uint32_t i = 0; i < 2 + kDrafts; ++i) {
      const Result<TokenId> next = plain.session()->Next(sampler);
      ASSERT_TRUE(next);
      text.push_back(*next);
    }

    TestDrafter drafter(Guesses::kRight, text, kTinyLlm.vocab_size);
    OpenModel drafted(device_, {.board = kEsp32Cam,
                                .plan = {.draft = plan::DraftMode::kGiven, .draft_max = kDrafts},
                                .keep_logits = false,
                                .sampler = sampler,
                                .drafter = &drafter});
    ASSERT_NE(drafted.session(), nullptr) << drafted.error();
    ASSERT_TRUE(drafted.session()->Prefill(kBegin));
    ASSERT_TRUE(drafted.session()->Next(sampler));
    device_.reads = device_.bytes = 0;
    for (uint32_t i = 0; i <= kDrafts; ++i) {
      Result<TokenId> next = 0;
      {
        const NoAllocation none;
        next = drafted.session()->Next(sampler);
      }
      ASSERT_TRUE(next);
      EXPECT_EQ(*next, text[3 + i]);
      EXPECT_EQ(device_.bytes, kTokenBytes + kDrafts * kEmbeddingBlocks);
      EXPECT_EQ(device_.reads, kTokenReads + kDrafts);
    }
    EXPECT_EQ(drafted.ledger().draft.passes, 1u);
    EXPECT_EQ(drafted.ledger().draft.accepted, kDrafts);
    for (size_t i = 0; i < kNumRegions; ++i) {
      const auto region = static_cast<Region>(i);
      EXPECT_EQ(drafted.arena(region).peak_bytes(), drafted.plan().region_bytes(region)) << RegionName(region);
    }
  }
}

// The tests above can fail.
TEST(NoAllocationDeathTest, SeesTheHeap) {
  EXPECT_DEATH(
      {
        const NoAllocation none;
        int* volatile p = new int(1);
        delete p;
      },
      "heap used where nothing may allocate");
  EXPECT_DEATH(
      {
        const NoAllocation none;
        void* volatile p = std::malloc(8);
        std::free(p);
      },
      "heap used where nothing may allocate");
}

}  // namespace
}  // namespace thimble::tests
