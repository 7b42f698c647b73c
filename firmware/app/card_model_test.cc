// The bundled model on a card, as a board finds, opens and runs it.
#include "firmware/app/card_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <iomanip>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "engine/formats/card_models.h"
#include "engine/storage/sectors.h"
#include "engine/storage/swap_file.h"
#include "firmware/app/autorun.h"
#include "firmware/simulated/simulated_board.h"
#include "host/cards/card_image.h"
#include "host/devices/file_device.h"
#include "host/devices/ram_device.h"
#include "host/models/convert.h"
#include "host/models/prepare.h"
#include "tests/support/checkpoints.h"
#include "tests/support/exfat_card.h"
#include "tests/support/open_model.h"
#include "tests/support/tool.h"

namespace thimble::firmware {
namespace {

using namespace thimble::tests;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

bool Shell(const std::string& command) {
  return std::system(
             ("export LC_ALL=C.UTF-8 PATH=\"$PATH:/usr/sbin:/sbin\"; { " + command + " ; } >/dev/null 2>&1").c_str()) ==
         0;
}

// Files of the root folder of a card without a partition table.
void PutFile(const std::string& image, const std::string& name, const std::string& text,
             const TemporaryFolder& folder) {
  WriteFile(folder / "file", text);
  ASSERT_TRUE(Shell("mcopy -o -i '" + image + "' '" + (folder / "file") + "' '::" + name + "'"));
}

// One card for all tests, which copy it.
class CardModelTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const std::string gguf = *folder_ / "stories.gguf";
    ASSERT_EQ(RunTool({"convert", "model/thimble-stories", "-o", gguf}).exit_code, 0);
    const auto bare =
        host::WriteCardImage({.contents = {.model = gguf}, .out = *folder_ / "bare.img", .superfloppy = true});
    ASSERT_TRUE(bare) << bare.error();
    ASSERT_EQ(RunTool({"prepare", gguf, "--screen", "48,3"}).exit_code, 0);
    const auto card =
        host::WriteCardImage({.contents = {.model = gguf}, .out = *folder_ / "card.img", .superfloppy = true});
    ASSERT_TRUE(card) << card.error();
  }
  static void TearDownTestSuite() { delete folder_; }

  // A board with a copy of this card in its slot.
  void Insert(const std::string& name, const Board& board = kEsp32Cam) {
    image_ = own_ / name;
    ASSERT_TRUE(Shell("cp --sparse=always '" + (*folder_ / name) + "' '" + image_ + "'"));
    Start(board);
  }
  void Start(const Board& board = kEsp32Cam) {
    device_ = *host::FileDevice::Open(image_);
    slot_ = std::make_unique<SimulatedSlot>(device_.get());
    board_ = std::make_unique<SimulatedBoard>(board, *slot_);
    model_ = std::make_unique<CardModel>(*board_, nullptr);
  }

  std::vector<std::string> Lines() const {
    std::vector<std::string> lines;
    std::stringstream output(board_->output());
    for (std::string line; std::getline(output, line);) lines.push_back(line);
    return lines;
  }
  // The numbers after "autorun KIND ".
  std::vector<TokenId> Ids(const std::string& kind) const {
    std::vector<TokenId> ids;
    for (const std::string& line : Lines()) {
      if (line.starts_with("autorun " + kind + " ")) {
        ids.push_back(static_cast<TokenId>(std::stoul(line.substr(kind.size() + 9))));
      }
    }
    return ids;
  }

  static TemporaryFolder* folder_;
  TemporaryFolder own_;
  std::string image_;
  std::unique_ptr<host::FileDevice> device_;
  std::unique_ptr<SimulatedSlot> slot_;
  std::unique_ptr<SimulatedBoard> board_;
  std::unique_ptr<CardModel> model_;
};
TemporaryFolder* CardModelTest::folder_ = nullptr;

// The card in memory, with a swap file: of the kind of board that has no room for all of a context.
class SwapCardTest : public CardModelTest {
 protected:
  void SetUp() override {
    const auto card = host::WriteCardImage({.contents = {.model = *folder_ / "stories.gguf", .swap_bytes = 4 << 20},
                                            .out = own_ / "swap.img",
                                            .superfloppy = true});
    ASSERT_TRUE(card) << card.error();
    EXPECT_EQ(card->others.back(), "thimble.swap");
    const std::string bytes = ReadFile(own_ / "swap.img");
    card_ = std::make_unique<host::RamDevice>(std::as_bytes(std::span(bytes)));
    before_.assign(card_->bytes().begin(), card_->bytes().end());
    slot_ = std::make_unique<SimulatedSlot>(card_.get());
    slot_->writable = card_.get();
    Board board = kEsp32Cam;
    board.capacity_bytes[static_cast<size_t>(Region::kPsram)] = 300 << 10;
    board_ = std::make_unique<SimulatedBoard>(board, *slot_);
    model_ = std::make_unique<CardModel>(*board_, nullptr);
  }

  // Where the swap file lies.
  storage::FileMap Map() {
    sectors_.emplace(*card_, sector_, ledger_);
    auto volume = formats::MountModels(*sectors_);
    EXPECT_TRUE(volume);
    EXPECT_TRUE(formats::FindFile(*volume, storage::kSwapFileName, file_));
    return file_.map;
  }

  GreedyRun Run() {
    EXPECT_TRUE(model_->Open(""));
    StartOptions options = {.n_ctx = 512, .keep_logits = true, .sampler = {.temperature = 0}};
    const Result<void> started = model_->Start(options);
    if (!started) {
      ADD_FAILURE() << started.error().what;
      return {};
    }
    return RunGreedy(model_->session(), prompt_, 20);
  }
  bool Starts(uint32_t n_ctx = 512) {
    EXPECT_TRUE(model_->Open(""));
    return model_->Start({.n_ctx = n_ctx, .sampler = {.temperature = 0}}).has_value();
  }

  // All of the card, quickly.
  bool Holds(const std::vector<std::byte>& bytes) const {
    return bytes.size() == card_->bytes().size() && std::memcmp(bytes.data(), card_->bytes().data(), bytes.size()) == 0;
  }

  std::vector<TokenId> prompt_ = [] {
    std::vector<TokenId> ids(480);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = 3 + static_cast<TokenId>(i * 7919 % 1000);
    return ids;
  }();
  std::unique_ptr<host::RamDevice> card_;
  std::vector<std::byte> before_;
  Ledger ledger_;
  alignas(64) std::array<std::byte, kSectorBytes> sector_;
  std::optional<storage::Sectors> sectors_;
  formats::CardFile file_;
};

TEST_F(SwapCardTest, ABoardWithoutRoomWritesToItsSwapFileAndNowhereElse) {
  const GreedyRun got = Run();
  ASSERT_TRUE(model_->plan().swaps());
  EXPECT_EQ(model_->swap_note(), nullptr);
  EXPECT_NE(model_->ledger().swap.pages, 0u);
  host::RamDevice device(before_);
  {
    SimulatedSlot slot(&device);
    SimulatedBoard board(kEsp32Cam, slot);
    CardModel whole(board, nullptr);
    ASSERT_TRUE(whole.Open(""));
    ASSERT_TRUE(whole.Start({.n_ctx = 512, .keep_logits = true, .sampler = {.temperature = 0}}));
    ASSERT_FALSE(whole.plan().swaps());
    EXPECT_EQ(RunGreedy(whole.session(), prompt_, 20), got);
  }
  for (const storage::Extent& e : Map().extents) {
    const auto begin = static_cast<size_t>(e.device_offset_bytes), size = static_cast<size_t>(e.size_bytes);
    std::ranges::copy(card_->bytes().subspan(begin, size), before_.begin() + static_cast<ptrdiff_t>(begin));
  }
  EXPECT_TRUE(Holds(before_));
}

TEST_F(SwapCardTest, ALockedCardIsOnlyRead) {
  slot_->writable = nullptr;
  EXPECT_FALSE(Starts());
  ASSERT_NE(model_->swap_note(), nullptr);
  EXPECT_TRUE(Starts(0));  // with what fits
  EXPECT_LT(model_->plan().n_ctx, 512u);
  EXPECT_TRUE(Holds(before_));
}

TEST_F(SwapCardTest, FilesThatWereWrittenSinceMakeItUnusable) {
  EXPECT_TRUE(Starts());
  // Another computer gives a cluster to a file: in the table of the volume that begins with the card.
  const auto sector = [&](size_t at) { return storage::Get(card_->bytes(), at, 4); };
  const size_t table = storage::Get(card_->bytes(), 14, 2) * kSectorBytes;
  const size_t entries = sector(36) * kSectorBytes / 4;
  size_t free = 2;
  while (free < entries && sector(table + 4 * free) != 0) ++free;
  card_->bytes()[table + 4 * free] = std::byte{0xff};
  std::vector<std::byte> changed(card_->bytes().begin(), card_->bytes().end());
  EXPECT_FALSE(Starts());
  ASSERT_NE(model_->swap_note(), nullptr);
  EXPECT_EQ(model_->swap_note()->code, Code::kInvalidArgument);
  EXPECT_TRUE(Holds(changed));
}

TEST_F(SwapCardTest, AFileThatSharesItsClustersMakesItUnusable) {
  const storage::Extent extent = Map().extents.front();
  const size_t table = storage::Get(card_->bytes(), 14, 2) * kSectorBytes;
  const uint64_t cluster_bytes = storage::Get(card_->bytes(), 13, 1) * uint64_t{kSectorBytes};
  const uint64_t first_cluster = table + 2 * uint64_t{storage::Get(card_->bytes(), 36, 4)} * kSectorBytes;
  const auto inside = static_cast<uint32_t>((extent.device_offset_bytes - first_cluster) / cluster_bytes + 2 + 5);
  const size_t entries = storage::Get(card_->bytes(), 36, 4) * kSectorBytes / 4;
  size_t free = 2;
  while (free < entries && storage::Get(card_->bytes(), table + 4 * free, 4) != 0) ++free;
  for (size_t i = 0; i < 4; ++i) card_->bytes()[table + 4 * free + i] = static_cast<std::byte>(inside >> 8 * i);
  EXPECT_FALSE(Starts());
  ASSERT_NE(model_->swap_note(), nullptr);
  EXPECT_EQ(model_->swap_note()->code, Code::kCorrupt);
}

TEST_F(SwapCardTest, AConversationSurvivesARestart) {
  ASSERT_TRUE(Starts());
  Session& session = model_->session();
  ASSERT_TRUE(session.Prefill(prompt_));
  const auto next = [](Session& of) { return of.Next({.temperature = 0}).value_or(0); };
  const TokenId first = next(session);
  EXPECT_EQ(session.Keep().value_or(0), prompt_.size());
  const TokenId second = next(session);
  model_ = std::make_unique<CardModel>(*board_, nullptr);
  ASSERT_TRUE(Starts());
  Session& again = model_->session();
  EXPECT_EQ(again.Restore().value_or(0), prompt_.size());
  EXPECT_EQ(next(again), first);
  EXPECT_EQ(next(again), second);
}

TEST_F(SwapCardTest, AWriteThatFailsCostsASentence) {
  ASSERT_TRUE(Starts());
  Session& session = model_->session();
  slot_->write_failures = 20;
  Result<void> read = session.Prefill(prompt_);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kIo);
  slot_->write_failures = 0;
  EXPECT_TRUE(session.Replace(prompt_));
}

TEST_F(CardModelTest, OpensThePlanAndTheSessionInTheBoardsMemory) {
  Insert("card.img");
  ASSERT_TRUE(model_->Open("STORIES.GGUF"));
  EXPECT_STREQ(model_->name().text.data(), "stories.gguf");
  EXPECT_EQ(model_->pieces(), 1u);
  ASSERT_NE(model_->index(), nullptr);
  EXPECT_EQ(model_->hint(), nullptr);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(model_->Start({}));
    EXPECT_TRUE(model_->plan().screened);
    for (const Arena& arena : board_->arenas()) {
      EXPECT_EQ(arena.used_bytes(), model_->plan().region_bytes(arena.region())) << RegionName(arena.region());
    }
  }
  model_->Close();
  for (const Arena& arena : board_->arenas()) EXPECT_EQ(arena.used_bytes(), 0u);
  const Result<void> started = model_->Start({});
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, Code::kInvalidArgument);
}

TEST_F(CardModelTest, AModelWithoutAnIndexRunsAndSaysWhatOneWouldGain) {
  Insert("bare.img");
  ASSERT_TRUE(model_->Open(""));
  EXPECT_EQ(model_->index(), nullptr);
  EXPECT_THAT(model_->hint(), HasSubstr("thimble prepare"));
  ASSERT_TRUE(model_->Start({}));
  EXPECT_FALSE(model_->plan().screened);
  EXPECT_TRUE(model_->session().Tokenize("Once"));
}

TEST_F(CardModelTest, ATensorFolderRuns) {
  const std::string weights = own_ / "esp32_float32_weights";
  ASSERT_EQ(RunTool({"convert", "model/thimble-stories", "--to", "folder", "-o", weights}).exit_code, 0);
  Insert("bare.img");
  ASSERT_TRUE(Shell("mdel -i '" + image_ + "' ::stories.gguf && mcopy -s -i '" + image_ + "' '" + weights + "' ::"));
  Start();
  ASSERT_TRUE(model_->Open("")) << model_->name().text.data();
  EXPECT_TRUE(model_->name().is_folder);
  ASSERT_TRUE(model_->Start({.n_ctx = 64}));
  EXPECT_LT(model_->board().capacity(Region::kPsram), board_->board().capacity(Region::kPsram));
  std::vector<std::string> names;
  ASSERT_TRUE(model_->ForModels([&](const ModelName& name) {
    names.push_back(name.text.data());
    return true;
  }));
  EXPECT_THAT(names, ElementsAre("esp32_float32_weights"));
}

// Behind a FAT32 volume that has no model.
TEST_F(CardModelTest, AnExFatCardRuns) {
  image_ = own_ / "exfat.img";
  if (!MakeExFatCard(image_, 16,
                     {{.name = u"stories.gguf", .contents = ReadFile(*folder_ / "stories.gguf"), .has_chain = true},
                      {.name = u"stories.thimble", .contents = ReadFile(*folder_ / "stories.thimble")},
                      {.name = u"autorun.txt", .contents = "prompt = Once upon a time\nn = 9\ntemp = 0\n"}})) {
    GTEST_SKIP() << "install exfatprogs and dosfstools";
  }
  Start();
  std::vector<std::string> names;
  ASSERT_TRUE(model_->ForModels([&](const ModelName& name) {
    names.push_back(name.text.data());
    return true;
  }));
  EXPECT_THAT(names, ElementsAre("stories.gguf"));
  bool passed = false;
  ASSERT_TRUE(AutorunIfAsked(*model_, *board_, "", passed)) << board_->output();
  EXPECT_TRUE(passed) << board_->output();
  EXPECT_NE(model_->index(), nullptr);
  const auto run = nlohmann::json::parse(
      RunTool({"run", "-m", *folder_ / "stories.gguf", "-p", "Once upon a time", "-n", "9", "--temp", "0", "--json"})
          .out);
  EXPECT_EQ(Ids("token"), run["ids"].get<std::vector<TokenId>>());
}

TEST_F(CardModelTest, APlanFileIsObeyedIfItIsForThisBoard) {
  Insert("card.img");
  PutFile(image_, "stories.plan", "board = esp32-cam\nn_ctx = 77\ntile_buffer_bytes = 4096\n", own_);
  Start();
  ASSERT_TRUE(model_->Open(""));
  EXPECT_TRUE(model_->has_plan_file());
  ASSERT_TRUE(model_->Start({}));
  EXPECT_EQ(model_->plan().n_ctx, 77u);
  EXPECT_EQ(model_->plan().tile_buffer_bytes, 4096u);
  ASSERT_TRUE(model_->Start({.n_ctx = 50}));
  EXPECT_EQ(model_->plan().n_ctx, 50u);

  // Keys and values are stored as it says.
  PutFile(image_, "stories.plan", "board = esp32-cam\ncache_type_k = f16\ncache_type_v = q8_0\n", own_);
  Start();
  ASSERT_TRUE(model_->Open(""));
  ASSERT_TRUE(model_->Start({}));
  EXPECT_EQ(model_->plan().options.cache, (model::CacheTypes{DType::kF16, DType::kQ8_0}));
  EXPECT_EQ(model_->plan().buffer(BufferId::kKvCache).bytes,
            uint64_t{model_->plan().n_ctx} * model_->model().shape.num_hidden_layers *
                (StoredBytes(DType::kF16, model_->model().shape.kv_dim()) +
                 StoredBytes(DType::kQ8_0, model_->model().shape.kv_dim())));
  ASSERT_TRUE(model_->session().Prefill(std::vector<TokenId>{1, 5, 9}));
  EXPECT_TRUE(model_->session().Next({.temperature = 0}));

  // One for another board, one that asks for too much, one that is none: said, and left aside.
  for (const char* text :
       {"board = esp32-s3\n", "board = esp32-cam\npsram_weights_percent = 90\nflash_weights_percent = 10\n",
        "n_ctx: 5\n"}) {
    PutFile(image_, "stories.plan", text, own_);
    Start();
    ASSERT_TRUE(model_->Open("")) << text;
    ASSERT_TRUE(model_->Start({})) << text;
    EXPECT_NE(model_->plan_note(), nullptr) << text;
    EXPECT_GT(model_->plan().tile_buffer_bytes, 4096u);
  }
}

TEST_F(CardModelTest, ADamagedIndexIsSaidAndLeftAside) {
  Insert("card.img");
  PutFile(image_, "stories.thimble", std::string(5000, 'x'), own_);
  Start();
  ASSERT_TRUE(model_->Open(""));
  EXPECT_EQ(model_->index(), nullptr);
  ASSERT_NE(model_->index_note(), nullptr);
  EXPECT_TRUE(model_->Start({}));
}

// Weights that were trained on, and an index of the version before.
TEST_F(CardModelTest, AnIndexThatDoesNotBelongIsSaidAndLeftAside) {
  Insert("card.img");
  std::string model = ReadFile(*folder_ / "stories.gguf");
  for (size_t at = model.size() / 4; at < model.size(); at += 1024) model[at] ^= 1;
  PutFile(image_, "stories.gguf", model, own_);
  Start();
  ASSERT_TRUE(model_->Open(""));
  EXPECT_EQ(model_->index(), nullptr);
  ASSERT_NE(model_->index_note(), nullptr);
  EXPECT_THAT(model_->index_note()->what, HasSubstr("these weights are not those that the index was made from"));
  EXPECT_TRUE(model_->Start({}));

  Insert("card.img");
  std::string index = ReadFile(*folder_ / "stories.thimble");
  index[8] = 1;
  PutFile(image_, "stories.thimble", index, own_);
  Start();
  ASSERT_TRUE(model_->Open(""));
  ASSERT_NE(model_->index_note(), nullptr);
  EXPECT_THAT(model_->index_note()->what, HasSubstr("'thimble prepare'"));
  EXPECT_EQ(model_->index_note()->have, 1u);
}

TEST_F(CardModelTest, AnotherCardIsFoundWithoutARestart) {
  Insert("card.img");
  ASSERT_TRUE(model_->Open(""));
  ASSERT_TRUE(model_->Start({}));
  slot_->Insert(nullptr, 0);
  EXPECT_FALSE(model_->session().Prefill(std::vector<TokenId>{1, 2, 3}));
  EXPECT_FALSE(model_->Open(""));
  const std::string bare = *folder_ / "bare.img";
  const auto other = *host::FileDevice::Open(bare);
  slot_->Insert(other.get(), 7);
  ASSERT_TRUE(model_->Open(""));
  EXPECT_EQ(model_->index(), nullptr);
  EXPECT_TRUE(model_->Start({}));
}

TEST_F(CardModelTest, TheAutomaticRunPrintsWhatTheToolMakes) {
  for (const bool is_greedy : {true, false}) {
    const std::string mode = is_greedy ? "temp = 0\nhead = full\n" : "temp=0.8 # as usual\nseed = 5\nhead = screen\n";
    Insert("card.img");
    PutFile(image_, "autorun.txt", "# a test\nprompt = Once upon a time\nn = 9\n" + mode, own_);
    Start();
    bool passed = false;
    ASSERT_TRUE(AutorunIfAsked(*model_, *board_, "", passed)) << board_->output();
    EXPECT_TRUE(passed) << board_->output();
    EXPECT_EQ(Lines().front(), "autorun begin stories.gguf");
    EXPECT_EQ(Lines().back(), "autorun PASS");
    std::vector<std::string> words = {"run", "-m", image_, "-p", "Once upon a time", "-n", "9", "--json"};
    for (const char* word : is_greedy ? std::array{"--temp", "0"} : std::array{"-s", "5"}) words.push_back(word);
    const auto run = nlohmann::json::parse(RunTool(words).out);
    EXPECT_EQ(Ids("prompt"), run["prompt_ids"].get<std::vector<TokenId>>());
    EXPECT_EQ(Ids("token"), run["ids"].get<std::vector<TokenId>>());
  }
}

// The sums are those of the logits, however the session came about.
TEST_F(CardModelTest, TheAutomaticRunsSumsAreThoseOfTheLogits) {
  Insert("bare.img");
  ASSERT_TRUE(Autorun(*model_, *board_,
                      {.model = "", .prompt = "Lily", .run = {.start = {.head = plan::HeadMode::kFull}, .n = 3}}));
  const std::vector<TokenId> prompt = Ids("prompt");
  const std::vector<TokenId> ids = Ids("token");
  const auto file = *host::FileDevice::Open(*folder_ / "stories.gguf");
  tests::OpenModel direct(*file, {.board = kEsp32S3, .keep_logits = true});
  ASSERT_NE(direct.session(), nullptr) << direct.error();
  ASSERT_TRUE(direct.session()->Prefill(prompt));
  uint32_t all = 0;
  for (const TokenId id : ids) {
    const auto bytes = std::as_bytes(direct.session()->logits());
    all = math::kReferenceKernels.crc32c(all, bytes.data(), bytes.size());
    ASSERT_TRUE(direct.session()->Prefill(std::array{id}));
  }
  std::ostringstream line;
  line << "autorun tokens 3 hash " << std::hex << std::setw(8) << std::setfill('0') << all;
  EXPECT_THAT(Lines(), testing::Contains(line.str()));
}

TEST_F(CardModelTest, WhatIsWrongWithTheAutomaticRunIsItsLastLine) {
  Insert("bare.img");
  bool passed = true;
  EXPECT_FALSE(AutorunIfAsked(*model_, *board_, "", passed));
  EXPECT_EQ(board_->output(), "");
  ASSERT_TRUE(AutorunIfAsked(*model_, *board_, "prompt = Once; n = 2; temp = hot", passed));
  EXPECT_FALSE(passed);
  EXPECT_EQ(Lines().back(),
            "autorun FAIL: line 3 of the automatic run has a value that is none for its key: 'temp = hot'");
  ASSERT_TRUE(AutorunIfAsked(*model_, *board_, "prompt = Once; n = 2", passed));
  EXPECT_TRUE(passed) << board_->output();
  slot_->Insert(nullptr, 0);
  ASSERT_TRUE(AutorunIfAsked(*model_, *board_, "prompt = Once; n = 2", passed));
  EXPECT_FALSE(passed);
  EXPECT_THAT(Lines().back(), StartsWith("autorun FAIL: "));
  slot_->Insert(device_.get(), 1);
  ASSERT_TRUE(AutorunIfAsked(*model_, *board_, "prompt = Once; n = 2", passed));
  EXPECT_TRUE(passed) << "the card is back";
}

TEST_F(CardModelTest, WhereNoAutomaticRunIsAskedForNoneFails) {
  Insert("bare.img");
  bool passed = true;
  // A card that is out, one that is no FAT32, one that cannot be read: its owner is told by whoever wants it.
  slot_->Insert(nullptr, 0);
  EXPECT_FALSE(AutorunIfAsked(*model_, *board_, "", passed));
  std::vector<std::byte> exfat(1 << 20);
  std::ranges::copy(std::as_bytes(std::span("\xeb\x76\x90"
                                            "EXFAT   ",
                                            11)),
                    exfat.begin());
  exfat[510] = std::byte{0x55};
  exfat[511] = std::byte{0xaa};
  host::RamDevice formatted_otherwise(exfat);
  slot_->Insert(&formatted_otherwise, 9);
  EXPECT_FALSE(AutorunIfAsked(*model_, *board_, "", passed));
  EXPECT_EQ(board_->output(), "");
  ASSERT_TRUE(AutorunIfAsked(*model_, *board_, "n = 2", passed));
  EXPECT_FALSE(passed);
  EXPECT_THAT(Lines().back(), StartsWith("autorun FAIL: "));
  // A file that is there asks, whatever is wrong with it.
  Insert("card.img");
  PutFile(image_, "autorun.txt", std::string(formats::kMaxAutorunBytes + 1, '#'), own_);
  Start();
  ASSERT_TRUE(AutorunIfAsked(*model_, *board_, "", passed));
  EXPECT_FALSE(passed);
  EXPECT_THAT(Lines().back(), StartsWith("autorun FAIL: autorun.txt has 1025 bytes"));
}

}  // namespace
}  // namespace thimble::firmware
