// Models in pieces on a card: the same bits as in one, up to as many pieces as are stated, and a sentence beyond.
#include "host/models/card_open.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/storage/volume.h"
#include "host/cards/card_image.h"
#include "host/commands/command.h"
#include "tests/support/checkpoints.h"
#include "tests/support/exfat_card.h"
#include "tests/support/open_model.h"
#include "tests/support/test_gguf.h"
#include "tests/support/tool.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr ModelShape kShape = {.vocab_size = 301,
                               .hidden_size = 48,
                               .intermediate_size = 100,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 4,
                               .num_key_value_heads = 2,
                               .head_dim = 12,
                               .max_position_embeddings = 64,
                               .rms_norm_eps = 1e-5f,
                               .rope_theta = 10000.0f};

// A card without a partition table, whose only file can be cut into pieces.
class PiecesTest : public testing::Test {
 protected:
  PiecesTest() {
    const std::vector<std::byte> bytes = MakeGguf({.shape = kShape, .alignment = 32});
    file_.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    WriteFile(folder_ / "model.gguf", file_);
    const auto card =
        WriteCardImage({.contents = {.model = folder_ / "model.gguf"}, .out = image_, .superfloppy = true});
    EXPECT_TRUE(card) << card.error();
    whole_ = ReadFile(image_);
  }

  uint32_t Get(size_t offset, size_t size) const { return LittleEndian(whole_, offset, size); }

  // Cuts the file at random clusters and lays its pieces down in the reverse order, so that none follows another.
  void WriteInPieces(size_t pieces, uint32_t seed) {
    const size_t cluster_bytes = 512 * Get(13, 1);
    const size_t first_table = 512 * Get(14, 2);
    const size_t table_bytes = 512 * Get(36, 4);
    const size_t data = first_table + Get(16, 1) * table_bytes;
    // The root folder is the first cluster; the file's entry is the one of its short name, behind those of its long
    // one.
    const size_t entry = whole_.find("FILE0", data);
    ASSERT_NE(entry, whole_.npos);
    const uint32_t first = Get(entry + 20, 2) << 16 | Get(entry + 26, 2);
    const size_t clusters = (file_.size() + cluster_bytes - 1) / cluster_bytes;
    ASSERT_LE(pieces, clusters);

    std::minstd_rand random(seed);
    std::set<size_t> cuts = {0, clusters};
    while (cuts.size() < pieces + 1) cuts.insert(1 + random() % (clusters - 1));
    std::vector<uint32_t> place(clusters);  // of each cluster of the file
    size_t next = first;
    for (auto end = cuts.rbegin(); std::next(end) != cuts.rend(); ++end) {
      for (size_t i = *std::next(end); i < *end; ++i) place[i] = static_cast<uint32_t>(next++);
    }
    std::string card = whole_;
    const auto put = [&](size_t offset, uint32_t value, size_t size) {
      card.replace(offset, size, Bytes(value), 0, size);
    };
    for (size_t i = 0; i < clusters; ++i) {
      std::string bytes = file_.substr(i * cluster_bytes, cluster_bytes);
      bytes.resize(cluster_bytes);
      card.replace(data + (place[i] - 2) * cluster_bytes, cluster_bytes, bytes);
      for (size_t table = 0; table < 2; ++table) {
        put(first_table + table * table_bytes + 4 * place[i], i + 1 < clusters ? place[i + 1] : 0x0fffffff, 4);
      }
    }
    put(entry + 20, place[0] >> 16, 2);
    put(entry + 26, place[0], 2);
    WriteFile(image_, card);
    // Another program agrees that this is a card.
    ASSERT_EQ(std::system(("PATH=$PATH:/usr/sbin:/sbin fsck.fat -n '" + image_ + "' >/dev/null").c_str()), 0);
  }

  TemporaryFolder folder_;
  const std::string image_ = folder_ / "card.img";
  std::string file_;
  std::string whole_;
};

TEST_F(PiecesTest, GiveTheSameBitsAsAWholeFile) {
  const std::vector<TokenId> prompt = {1, 17, 300, 5};
  const auto run = [&](const OpenedModel& opened) {
    tests::OpenModel model(*opened.device, {}, opened.extents);
    EXPECT_NE(model.session(), nullptr) << model.error();
    return model.session() == nullptr ? GreedyRun{} : RunGreedy(*model.session(), prompt, 12);
  };
  const auto whole = OpenModelFile(folder_ / "model.gguf", "");
  ASSERT_TRUE(whole) << whole.error();
  const GreedyRun want = run(*whole);
  ASSERT_EQ(want.ids.size(), 12u);
  for (const size_t pieces : {size_t{1}, size_t{2}, size_t{3}, size_t{17}, storage::kUsualExtents}) {
    SCOPED_TRACE(pieces);
    ASSERT_NO_FATAL_FAILURE(WriteInPieces(pieces, static_cast<uint32_t>(pieces)));
    const auto opened = OpenModelFile(image_, "");
    ASSERT_TRUE(opened) << opened.error();
    EXPECT_EQ(opened->extents.size(), pieces);
    EXPECT_THAT(opened->description, HasSubstr("(" + std::to_string(pieces) + (pieces == 1 ? " piece)" : " pieces)")));
    EXPECT_EQ(run(*opened), want);
  }
}

TEST_F(PiecesTest, AreTakenUpToALimitAndThenRefusedWithTheRemedy) {
  ASSERT_NO_FATAL_FAILURE(WriteInPieces(storage::kUsualExtents, 1));
  const std::vector<std::string> run = {"run", "-m", image_, "--ids", "1,2", "-n", "3", "--temp", "0"};
  EXPECT_EQ(RunTool(run).exit_code, 0);
  ToolRun inspect = RunTool({"inspect", image_});
  EXPECT_EQ(inspect.exit_code, 0);
  EXPECT_THAT(inspect.out, HasSubstr("warning   the file lies in 64 pieces on the card"));
  EXPECT_THAT(RunTool({"verify", image_, "--against", folder_ / "model.gguf"}).out,
              AllOf(HasSubstr(", in 64 pieces\n"), HasSubstr("verdict    sound\n")));

  ASSERT_NO_FATAL_FAILURE(WriteInPieces(storage::kUsualExtents + 1, 1));
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{run, {"inspect", image_}, {"verify", image_}}) {
    const ToolRun refused = RunTool(arguments);
    EXPECT_EQ(refused.exit_code, kExitFailed);
    EXPECT_THAT(refused.error, AllOf(StartsWith("thimble: "), HasSubstr("65 pieces or more on the card, and 64 can be"),
                                     HasSubstr("format the card and copy the file again")));
    EXPECT_EQ(std::ranges::count(refused.error, '\n'), 1);
  }
  ASSERT_NO_FATAL_FAILURE(WriteInPieces(1, 1));
  EXPECT_THAT(RunTool({"inspect", image_}).out, Not(HasSubstr("pieces")));
}

// Behind a FAT32 volume without a model, in a partition of another type, whole and in pieces: as the file itself.
TEST(ExFatCardTest, EveryCommandReadsIt) {
  const TemporaryFolder folder;
  const std::string gguf = folder / "stories.gguf", image = folder / "card.img";
  ASSERT_EQ(RunTool({"convert", "model/thimble-stories", "-o", gguf}).exit_code, 0);
  ASSERT_EQ(RunTool({"prepare", gguf, "--screen", "48,3"}).exit_code, 0);
  const std::string model = ReadFile(gguf), index = ReadFile(folder / "stories.thimble");
  const auto ids = [](const std::string& path) {
    std::vector<TokenId> both;
    for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
             {"run", "-m", path, "-p", "Once upon a time", "-n", "20", "--temp", "0", "--json"},
             {"simulate", path, "--board", "esp32-cam", "-p", "Once", "-n", "5", "--temp", "0", "--json"}}) {
      const ToolRun run = RunTool(command);
      EXPECT_EQ(run.exit_code, 0) << run.error;
      const auto made = nlohmann::json::parse(run.out)["ids"].get<std::vector<TokenId>>();
      both.insert(both.end(), made.begin(), made.end());
    }
    return both;
  };
  const std::vector<TokenId> want = ids(gguf);
  ASSERT_EQ(want.size(), 25u);
  for (const bool in_pieces : {false, true}) {
    SCOPED_TRACE(in_pieces);
    const size_t clusters = (model.size() + 4095) / 4096;
    std::vector<uint32_t> places;  // in three pieces, in no order
    for (size_t i = 0; in_pieces && i < clusters; ++i) {
      places.push_back(static_cast<uint32_t>(i < 10 ? 900 + i : i < 100 ? 500 + i : 1000 + i));
    }
    if (!MakeExFatCard(image, 16,
                       {{.name = u"notes.txt", .contents = "not a model"},
                        {.name = u"Stories.GGUF", .contents = model, .clusters = places, .has_chain = in_pieces},
                        {.name = u"Stories.thimble", .contents = index, .has_chain = in_pieces}})) {
      GTEST_SKIP() << "install exfatprogs and dosfstools";
    }
    const char* const pieces = in_pieces ? "in 3 pieces" : "in 1 piece";
    EXPECT_THAT(RunTool({"verify", image, "--against", gguf}).out,
                AllOf(HasSubstr("card       exFAT, with one allocation table\n"), HasSubstr(pieces),
                      HasSubstr("verdict    sound\n")));
    EXPECT_EQ(RunTool({"inspect", image}).exit_code, 0);
    EXPECT_EQ(ids(image), want);
    EXPECT_THAT(RunTool({"inspect", image, "--card-file", "none.gguf"}).error,
                HasSubstr("its models are Stories.GGUF"));
  }
}

}  // namespace
}  // namespace thimble::host
