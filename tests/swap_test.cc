// Keys and values in a swap file change what a text costs and not a bit of it: every type of cache, one layer and
// several, prompts in pieces and at once, drafts, conversations that go back. A card that fails, is exchanged or gives
// back something else costs a sentence.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/math/kernels.h"
#include "engine/storage/swap_file.h"
#include "host/devices/faulty_device.h"
#include "host/devices/ram_device.h"
#include "tests/support/drafters.h"
#include "tests/support/open_model.h"
#include "tests/support/test_gguf.h"
#include "tests/support/workers.h"

namespace thimble::tests {
namespace {

constexpr ModelShape kShape = {
    .vocab_size = 211,
    .hidden_size = 32,
    .intermediate_size = 64,
    .num_hidden_layers = 3,
    .num_attention_heads = 4,
    .num_key_value_heads = 2,
    .head_dim = 32,
    .max_position_embeddings = 256,
    .rms_norm_eps = 1e-5f,
    .rope_theta = 10000.0f,
};
constexpr int kTokens = 150;
constexpr size_t kSwapBytes = 1 << 20;

struct Case {
  const char* name;
  uint32_t layers = 3;
  Architecture architecture = Architecture::kLlama;
  model::CacheTypes cache = {};
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};
constexpr Case kCases[] = {{"F32"},
                           {"OneLayer", 1},
                           {"Qwen3", 3, Architecture::kQwen3},
                           {"F16", 3, Architecture::kLlama, {DType::kF16, DType::kF16}},
                           {"Q8F32", 3, Architecture::kLlama, {DType::kQ8_0, DType::kF32}}};

std::vector<TokenId> Prompt(size_t n) {
  std::vector<TokenId> prompt(n);
  std::mt19937 random(static_cast<uint32_t>(n));
  for (TokenId& id : prompt) id = 3 + static_cast<TokenId>(random() % (kShape.vocab_size - 3));
  return prompt;
}

class SwapTest : public testing::TestWithParam<Case> {
 protected:
  static std::vector<std::byte> Bytes(const Case& c) {
    ModelShape shape = kShape;
    shape.num_hidden_layers = c.layers;
    shape.architecture = c.architecture;
    return MakeGguf({.shape = shape});
  }

  OpenModel::Options Options() const {
    return {.plan = {.cache = GetParam().cache}, .keep_logits = true, .sampler = {.temperature = 0}};
  }

  // A board whose PSRAM holds so many kilobytes.
  static OpenModel::Options Tight(OpenModel::Options options, uint64_t kilobytes) {
    options.board = kEsp32Cam;
    options.board.capacity_bytes[static_cast<size_t>(Region::kPsram)] = kilobytes << 10;
    options.board.capacity_bytes[static_cast<size_t>(Region::kSram)] = 40 << 10;
    options.board.capacity_bytes[static_cast<size_t>(Region::kSramDma)] = 24 << 10;
    options.board.tile_buffer_bytes = 8 << 10;
    return options;
  }

  // One that swaps.
  OpenModel::Options Swapping() {
    OpenModel::Options options = Tight(Options(), 60);
    options.plan.n_ctx = 200;
    options.swap = &swap_;
    return options;
  }

  std::unique_ptr<OpenModel> Open(const OpenModel::Options& options) {
    auto model = std::make_unique<OpenModel>(device_, options);
    EXPECT_NE(model->session(), nullptr) << model->error();
    return model;
  }

  host::RamDevice device_{Bytes(GetParam())};
  host::RamDevice swap_{std::vector<std::byte>(kSwapBytes)};
};

TEST_P(SwapTest, NoBitChangesHoweverLittleMemoryThereIs) {
  const std::vector<TokenId> prompt = Prompt(37);
  const GreedyRun want = RunGreedy(*Open(Options())->session(), prompt, kTokens);
  int swapped = 0;
  for (const uint64_t kilobytes : {16, 30, 60, 100, 150}) {
    OpenModel::Options options = Tight(Options(), kilobytes);
    options.plan.n_ctx = 200;
    options.swap = &swap_;
    OpenModel model(device_, options);
    if (model.session() == nullptr) continue;
    swapped += model.plan().swaps();
    EXPECT_EQ(RunGreedy(*model.session(), prompt, kTokens), want) << kilobytes;
    if (!model.plan().swaps()) continue;
    EXPECT_LT(model.plan().window, 200u);
    const uint32_t page = model.plan().swap.page_positions;
    const uint32_t run = static_cast<uint32_t>(prompt.size()) + kTokens - 1;
    EXPECT_EQ(model.ledger().swap.pages, (run - model.plan().window + page - 1) / page);
    for (size_t i = 0; i < kNumRegions; ++i) {
      const auto region = static_cast<Region>(i);
      EXPECT_EQ(model.arena(region).peak_bytes(), model.plan().region_bytes(region)) << RegionName(region);
    }
  }
  EXPECT_GE(swapped, 2);
}

TEST_P(SwapTest, TokenReadsWhatThePlanSays) {
  OpenModel::Options options = Swapping();
  const auto model = Open(options);
  ASSERT_TRUE(model->plan().swaps());
  ASSERT_TRUE(model->session()->Prefill(Prompt(100)));
  Session& session = *model->session();
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(session.Next({.temperature = 0}));
    const ZoneCounts before = model->ledger().zones[static_cast<size_t>(Zone::kAttention)];
    const SwapCounts swap_before = model->ledger().swap;
    ASSERT_TRUE(session.Next({.temperature = 0}));
    const ZoneCounts spent = model->ledger().zones[static_cast<size_t>(Zone::kAttention)].Since(before);
    plan::TokenCost want = model->plan().SwapCost(session.shape(), session.n_past() - 1);
    for (const TensorRef& tensor : model->model().tensors) {
      if (ZoneOf(tensor.id.kind) == Zone::kAttention) want += model->plan().PlacementOf(tensor).cost;
    }
    if (model->ledger().swap.pages != swap_before.pages) continue;  // the header was read, too
    EXPECT_EQ(spent.reads, want.reads);
    EXPECT_EQ(spent.card_bytes, want.card_bytes);
  }
}

TEST_P(SwapTest, PromptsInPiecesDraftsAndCoresChangeNothing) {
  DividingWorkers workers(3);
  for (const uint32_t prompt_batch : {0, 1, 7}) {
    for (const uint32_t draft_max : {0, 3}) {
      const std::vector<TokenId> prompt = Prompt(90);
      const GreedyRun want = RunGreedy(*Open(Options())->session(), prompt, 60);
      std::vector<TokenId> all = prompt;
      all.insert(all.end(), want.ids.begin(), want.ids.end());
      TestDrafter drafter(Guesses::kAtTimes, all, kShape.vocab_size);
      OpenModel::Options options = Tight(Options(), 70);
      options.plan.n_ctx = 160;
      options.plan.prompt_batch = prompt_batch;
      options.plan.draft_max = draft_max;
      if (draft_max != 0) options.plan.draft = plan::DraftMode::kGiven;
      options.drafter = &drafter;
      options.workers = &workers;
      options.swap = &swap_;
      const auto model = Open(options);
      ASSERT_NE(model->session(), nullptr);
      ASSERT_TRUE(model->plan().swaps());
      EXPECT_EQ(RunGreedy(*model->session(), prompt, 60), want) << prompt_batch << ' ' << draft_max;
      EXPECT_NE(model->ledger().swap.pages, 0u);
    }
  }
}

TEST_P(SwapTest, ConversationsThatGoBackChangeNothing) {
  OpenModel::Options options = Swapping();
  const auto swapped = Open(options);
  ASSERT_TRUE(swapped->plan().swaps());
  const auto whole = Open(Options());
  std::vector<TokenId> text = Prompt(120);
  std::mt19937 random(5);
  for (int turn = 0; turn < 12; ++turn) {
    const size_t kept = random() % text.size();
    const std::vector<TokenId> more = Prompt(1 + random() % 50);
    text.resize(kept);
    text.insert(text.end(), more.begin(), more.end());
    if (text.size() > 180) text.resize(180);
    const auto a = swapped->session()->Replace(text);
    const auto b = whole->session()->Replace(text);
    ASSERT_TRUE(a);
    ASSERT_TRUE(b);
    EXPECT_LE(*a, *b);
    EXPECT_TRUE(std::ranges::equal(swapped->session()->logits(), whole->session()->logits())) << turn;
    for (int i = 0; i < 5; ++i) {
      const auto c = swapped->session()->Next({.temperature = 0}), d = whole->session()->Next({.temperature = 0});
      ASSERT_TRUE(c);
      EXPECT_EQ(*c, *d);
    }
  }
}

TEST_P(SwapTest, NothingOutsideTheFileIsWritten) {
  std::vector<std::byte> card(3 << 20);
  std::mt19937 random(9);
  for (std::byte& b : card) b = static_cast<std::byte>(random());
  host::RamDevice device(card);
  // Four pieces, out of order, with other bytes between them.
  constexpr uint64_t kPiece = 128 << 10;
  const std::array<storage::Extent, 4> extents = {{{0, 2 << 20, kPiece},
                                                   {kPiece, 512, kPiece},
                                                   {2 * kPiece, 1 << 20, kPiece},
                                                   {3 * kPiece, (1 << 20) + 2 * kPiece, kPiece}}};
  OpenModel::Options options = Tight(Options(), 60);
  options.plan.n_ctx = 200;
  options.swap = &device;
  options.swap_extents = extents;
  const std::vector<TokenId> prompt = Prompt(37);
  const GreedyRun want = RunGreedy(*Open(Options())->session(), prompt, kTokens);
  const auto model = Open(options);
  ASSERT_TRUE(model->plan().swaps());
  EXPECT_EQ(RunGreedy(*model->session(), prompt, kTokens), want);
  EXPECT_GT(device.writes().size(), 4u);
  for (const storage::Extent& e : extents) {
    std::ranges::copy(device.bytes().subspan(static_cast<size_t>(e.device_offset_bytes), kPiece),
                      card.begin() + static_cast<ptrdiff_t>(e.device_offset_bytes));
  }
  EXPECT_TRUE(std::ranges::equal(device.bytes(), card));
}

TEST_P(SwapTest, BytesThatChangeOnTheCardAreASentence) {
  OpenModel::Options options = Swapping();
  const auto model = Open(options);
  const std::vector<TokenId> prompt = Prompt(120);
  const GreedyRun want = RunGreedy(*Open(Options())->session(), prompt, 10);
  ASSERT_TRUE(model->session()->Prefill(prompt));
  ASSERT_NE(model->ledger().swap.pages, 0u);
  for (const size_t at : {size_t{storage::kSwapHeaderBytes}, size_t{storage::kSwapHeaderBytes} + 4097}) {
    swap_.bytes()[at] ^= std::byte{1};
    ASSERT_TRUE(!model->session()->Next({.temperature = 0}) || !model->session()->Next({.temperature = 0}));
    swap_.bytes()[at] ^= std::byte{1};
    model->session()->Clear();
    EXPECT_EQ(RunGreedy(*model->session(), prompt, 10), want);
  }
}

TEST_P(SwapTest, AFailingWriteIsTriedAgainAndThenASentence) {
  const std::vector<TokenId> prompt = Prompt(60);
  const GreedyRun want = RunGreedy(*Open(Options())->session(), prompt, 80);
  for (const Code code : {Code::kIo, Code::kTimeout}) {
    host::FaultyDevice faulty(swap_);
    OpenModel::Options options = Tight(Options(), 60);
    options.plan.n_ctx = 200;
    options.swap = &faulty;
    const auto model = Open(options);
    ASSERT_TRUE(model->plan().swaps());
    // Now and then.
    for (uint64_t first = faulty.writes(); first < 60; first += 7) {
      faulty.Add({.in = host::Fault::In::kWrite, .code = code, .first_read = first, .times = 1 + first % 4});
    }
    EXPECT_EQ(RunGreedy(*model->session(), prompt, 80), want);
    EXPECT_NE(model->ledger().retries, 0u);
    // For good, and then not.
    model->session()->Clear();
    faulty.Add({.in = host::Fault::In::kWrite, .code = code, .times = 20});
    Result<void> prefilled = model->session()->Prefill(Prompt(190));
    ASSERT_FALSE(prefilled);
    EXPECT_EQ(prefilled.error().code, code);
    for (int i = 0; i < 9 && !prefilled; ++i)
      prefilled = model->session()->Prefill(Prompt(190 - model->session()->n_past()));
    model->session()->Clear();
    EXPECT_EQ(RunGreedy(*model->session(), prompt, 80), want);
  }
}

TEST_P(SwapTest, AConversationIsKeptAndTakenAgain) {
  OpenModel::Options options = Swapping();
  const std::vector<TokenId> prompt = Prompt(120);
  const auto write = [](Session& session, int n) {
    std::vector<TokenId> ids;
    for (int i = 0; i < n; ++i) {
      const auto id = session.Next({.temperature = 0});
      EXPECT_TRUE(id);
      if (id) ids.push_back(*id);
    }
    return ids;
  };
  const auto first = Open(options);
  ASSERT_TRUE(first->plan().swaps());
  ASSERT_TRUE(first->session()->Prefill(prompt));
  const std::vector<TokenId> begun = write(*first->session(), 10);
  const Result<uint32_t> kept = first->session()->Keep();
  ASSERT_TRUE(kept);
  EXPECT_EQ(*kept, 129u);  // the tenth has not run yet
  const std::vector<std::byte> card(swap_.bytes().begin(), swap_.bytes().end());
  EXPECT_EQ(first->session()->n_past(), 129u);
  const std::vector<TokenId> rest = write(*first->session(), 30);  // goes on as if nothing had been kept

  const auto restore = [&](std::vector<std::byte> bytes, auto use) {
    host::RamDevice device(bytes);
    OpenModel::Options again = options;
    again.swap = &device;
    const auto second = Open(again);
    use(*second->session(), second->session()->Restore());
  };
  restore(card, [&](Session& session, const Result<uint32_t>& restored) {
    ASSERT_TRUE(restored) << restored.error().what;
    EXPECT_EQ(*restored, *kept);
    EXPECT_TRUE(std::ranges::equal(session.past().first(prompt.size()), prompt));
    std::vector<TokenId> want = {begun.back()};
    want.insert(want.end(), rest.begin(), rest.end());
    EXPECT_EQ(write(session, 31), want);
  });
  // Written on while it went on, and not kept again: what was kept is still there.
  restore({swap_.bytes().begin(), swap_.bytes().end()},
          [&](Session&, const Result<uint32_t>& restored) { EXPECT_EQ(restored.value_or(0), *kept); });
  // Another conversation in its place.
  first->session()->Clear();
  ASSERT_TRUE(first->session()->Prefill(Prompt(150)));
  restore({swap_.bytes().begin(), swap_.bytes().end()}, [&](Session& session, const Result<uint32_t>& restored) {
    EXPECT_EQ(restored.value_or(1), 0u);
    EXPECT_EQ(session.n_past(), 0u);
  });
  // Damaged: its pages, its ids, its header.
  const auto damaged = [&](size_t at) {
    std::vector<std::byte> bytes = card;
    bytes[at] ^= std::byte{4};
    return bytes;
  };
  const auto is_corrupt = [](Session&, const Result<uint32_t>& restored) {
    ASSERT_FALSE(restored);
    EXPECT_EQ(restored.error().code, Code::kCorrupt);
  };
  const size_t at = static_cast<size_t>(first->plan().swap.KeptAt(first->plan().swap_pages()));
  restore(damaged(storage::kSwapHeaderBytes + 8), is_corrupt);
  restore(damaged(at + 512), is_corrupt);
  restore(damaged(at + 9), [](Session&, const Result<uint32_t>& restored) { EXPECT_EQ(restored.value_or(1), 0u); });
  // Of another plan.
  options.plan.n_ctx = 190;
  restore(card, [](Session&, const Result<uint32_t>& restored) { EXPECT_EQ(restored.value_or(1), 0u); });
  // All in memory: there is nothing to keep it in.
  const Result<uint32_t> whole = Open(Options())->session()->Keep();
  ASSERT_FALSE(whole);
  EXPECT_EQ(whole.error().code, Code::kInvalidArgument);
}

TEST_P(SwapTest, AnotherCardIsNotWritten) {
  OpenModel::Options options = Swapping();
  const auto model = Open(options);
  ASSERT_TRUE(model->plan().swaps());
  const auto other = storage::EncodeSwapHeader({.file_bytes = kSwapBytes, .id = 2, .generation = 1, .tables_check = {}},
                                               math::BestKernels().crc32c);
  std::ranges::copy(other, swap_.bytes().begin());
  const size_t writes = swap_.writes().size();
  const Result<void> prefilled = model->session()->Prefill(Prompt(190));
  ASSERT_FALSE(prefilled);
  EXPECT_EQ(prefilled.error().code, Code::kInvalidArgument);
  EXPECT_EQ(swap_.writes().size(), writes);
}

INSTANTIATE_TEST_SUITE_P(, SwapTest, testing::ValuesIn(kCases), [](const auto& test) { return test.param.name; });

TEST(SwapFileTest, DamagedHeadersAreSentences) {
  const auto& crc32c = math::BestKernels().crc32c;
  const storage::SwapHeader header = {.file_bytes = 8192, .id = 77, .generation = 3, .tables_check = 5};
  const auto encoded = storage::EncodeSwapHeader(header, crc32c);
  const auto decoded = storage::DecodeSwapHeader(encoded, crc32c);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->file_bytes, 8192u);
  EXPECT_EQ(decoded->id, 77u);
  EXPECT_EQ(decoded->generation, 3u);
  EXPECT_EQ(decoded->tables_check, 5u);
  for (size_t i = 0; i < encoded.size(); ++i) {
    auto damaged = encoded;
    damaged[i] ^= std::byte{0x10};
    EXPECT_FALSE(storage::DecodeSwapHeader(damaged, crc32c)) << i;
  }
  alignas(8) std::array<std::byte, 512> buffer;
  Ledger ledger;
  const auto open = [&](size_t device_bytes, uint64_t file_bytes, std::optional<uint32_t> tables) {
    host::RamDevice device{std::vector<std::byte>(device_bytes)};
    std::ranges::copy(encoded, device.bytes().begin());
    const storage::Extent whole = {.size_bytes = device_bytes};
    const auto opened = storage::SwapFile::Open(device, {.extents = {&whole, 1}, .size_bytes = file_bytes}, ledger,
                                                nullptr, buffer, crc32c, tables);
    EXPECT_EQ(device.writes().empty(), !opened);
    return opened.has_value();
  };
  EXPECT_TRUE(open(8192, 8192, 5));
  EXPECT_TRUE(open(8192, 8192, std::nullopt));
  EXPECT_FALSE(open(8192, 8192, 6));    // somebody wrote files
  EXPECT_FALSE(open(8192, 4096, 5));    // it was cut
  EXPECT_FALSE(open(12288, 12288, 5));  // it has grown
  EXPECT_FALSE(open(8192, 8000, 5));
}

}  // namespace
}  // namespace thimble::tests
