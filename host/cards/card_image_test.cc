#include "host/cards/card_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "host/models/card_open.h"
#include "tests/support/checkpoints.h"
#include "tests/support/gguf_builder.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(PlanCard, AlwaysGivesFat32WithRoomForTheFile) {
  for (const bool superfloppy : {false, true}) {
    uint32_t last_cluster = 1;
    for (uint64_t file_bytes = 1; file_bytes <= 0xffffffff; file_bytes = file_bytes * 5 / 3 + 1000) {
      const CardLayout layout = PlanCard(file_bytes, superfloppy);
      SCOPED_TRACE(file_bytes);
      EXPECT_GE(layout.image_bytes, 64'000'000u);
      EXPECT_EQ(layout.image_bytes % (1 << 20), 0u);
      EXPECT_EQ(layout.partition_start_sector, superfloppy ? 0u : 8192u);
      EXPECT_LE(layout.image_bytes, std::max<uint64_t>(66'000'000, file_bytes + file_bytes / 40 + (7 << 20)));

      // 32 reserved sectors, 2 tables of 4 bytes a cluster: as the specification has it.
      const uint64_t sectors = layout.image_bytes / 512 - layout.partition_start_sector;
      uint64_t clusters = sectors / layout.sectors_per_cluster;
      const uint64_t table_sectors = (clusters * 4 + 8 + 511) / 512;
      clusters = (sectors - 32 - layout.sectors_per_cluster - 2 * table_sectors) / layout.sectors_per_cluster;
      EXPECT_GE(clusters, 65525u);
      EXPECT_GE((clusters - 1) * layout.sectors_per_cluster * 512, file_bytes);
      EXPECT_LE(layout.sectors_per_cluster, 64u);
      EXPECT_GE(layout.sectors_per_cluster, last_cluster);
      last_cluster = layout.sectors_per_cluster;
    }
    EXPECT_EQ(last_cluster, 64u);
  }
}

class CardImageTest : public testing::Test {
 protected:
  CardImageTest() { WriteFile(model_, GgufBuilder::Llama().Build()); }

  // The tools as their authors meant them, on the volume that begins at this byte.
  bool Shell(const std::string& command) const {
    return std::system(("export LC_ALL=C.UTF-8 PATH=\"$PATH:/usr/sbin:/sbin\"; cd '" + folder_.path() + "' && { " +
                        command + " ; } >/dev/null 2>&1")
                           .c_str()) == 0;
  }

  static std::string ReadModel(const OpenedModel& model) {
    Ledger ledger;
    storage::FileReader reader(*model.device, model.file, ledger);
    std::vector<uint32_t> buffer(static_cast<size_t>(reader.BufferBytes(model.file.size_bytes)) / 4);
    if (!reader.Start(0, model.file.size_bytes, std::as_writable_bytes(std::span(buffer)))) return "";
    const auto bytes = reader.Wait();
    return bytes ? std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) : "";
  }

  TemporaryFolder folder_;
  const std::string model_ = folder_ / "a model's long name.gguf";
  const std::string image_ = folder_ / "card.img";
};

TEST_F(CardImageTest, HoldsTheModelUnderItsName) {
  for (const bool superfloppy : {false, true}) {
    const auto card = WriteCardImage({.contents = {.model = model_}, .out = image_, .superfloppy = superfloppy});
    ASSERT_TRUE(card) << card.error();
    EXPECT_EQ(card->name_on_card, "a model's long name.gguf");
    EXPECT_EQ(card->pieces, 1u);
    struct stat status = {};
    ASSERT_EQ(stat(image_.c_str(), &status), 0);
    EXPECT_EQ(static_cast<uint64_t>(status.st_size), card->layout.image_bytes);

    const auto opened = OpenModelFile(image_, "");
    ASSERT_TRUE(opened) << opened.error();
    EXPECT_EQ(opened->name_on_card, "a model's long name.gguf");
    EXPECT_EQ(opened->description, "a model's long name.gguf on the card " + image_ + " (1 piece)");
    EXPECT_TRUE(ReadModel(*opened) == ReadFile(model_));

    const std::string start = superfloppy ? "0" : "4194304";
    EXPECT_TRUE(Shell("mtype -i card.img@@" + start + " '::a model'\\''s long name.gguf' | cmp - a*.gguf"));
    EXPECT_TRUE(
        Shell("tail -c +$((1 + " + start + ")) card.img > volume && fsck.fat -n volume; e=$?; rm volume; exit $e"));
    EXPECT_EQ(Shell("sfdisk -d card.img | grep -q 'start= *8192, size= *118784, type=c'"), !superfloppy);
  }
  EXPECT_THAT(folder_.Names(), ElementsAre("a model's long name.gguf", "card.img"));
}

// With clusters of all sizes that there are, and no program but fsck.fat to judge them: free clusters counted, both
// tables and both boot sectors alike.
TEST_F(CardImageTest, IsSoundAtAnySize) {
  const std::string head = ReadFile(model_);
  for (const uint64_t megabytes : {1, 70, 150, 300}) {
    SCOPED_TRACE(megabytes);
    // A model may have anything behind its tensors, here a hole.
    WriteFile(model_, head);
    ASSERT_TRUE(Shell("truncate -s " + std::to_string(megabytes) + "M a*.gguf"));
    for (const bool superfloppy : {false, true}) {
      const auto card = WriteCardImage({.contents = {.model = model_}, .out = image_, .superfloppy = superfloppy});
      ASSERT_TRUE(card) << card.error();
      const std::string start = superfloppy ? "0" : "4194304";
      EXPECT_TRUE(
          Shell("tail -c +$((1 + " + start +
                ")) card.img | cp --sparse=always /dev/stdin volume && fsck.fat -nv volume; e=$?; rm volume; exit $e"));
      EXPECT_TRUE(Shell("minfo -i card.img@@" + start +
                        " :: | grep -q 'cluster size: " + std::to_string(card->layout.sectors_per_cluster) + " '"));
    }
  }
}

TEST_F(CardImageTest, HasTheSameBytesEachTime) {
  ASSERT_TRUE(WriteCardImage({.contents = {.model = model_}, .out = image_}));
  ASSERT_TRUE(WriteCardImage({.contents = {.model = model_}, .out = folder_ / "again.img"}));
  EXPECT_TRUE(ReadFile(image_) == ReadFile(folder_ / "again.img"));
  EXPECT_TRUE(Shell("mlabel -s -i card.img@@4194304 :: | grep -q THIMBLE"));
}

TEST_F(CardImageTest, HoldsWhatGoesWithTheModel) {
  WriteFile(folder_ / "a model's long name.thimble", "index");
  WriteFile(folder_ / "a model's long name.plan", "board = esp32-cam\n");
  WriteFile(folder_ / "autorun.txt", "prompt = Once\n");
  WriteFile(folder_ / "try.txt", "prompt = Twice\n");
  const std::string name = "a \U0001F600.gguf";
  auto card = WriteCardImage({.contents = {.model = model_, .name_on_card = name}, .out = image_});
  ASSERT_TRUE(card) << card.error();
  EXPECT_EQ(card->index_bytes, 5u);
  EXPECT_THAT(card->others, ElementsAre("a \U0001F600.plan", "autorun.txt"));
  EXPECT_TRUE(Shell("mtype -i card.img@@4194304 ::autorun.txt | cmp - autorun.txt"));
  EXPECT_TRUE(Shell("mdir -b -i card.img@@4194304 :: | grep -q '[.]plan$'"));

  card = WriteCardImage({.contents = {.model = model_, .autorun = folder_ / "try.txt"}, .out = image_});
  ASSERT_TRUE(card) << card.error();
  EXPECT_TRUE(Shell("mtype -i card.img@@4194304 ::autorun.txt | cmp - try.txt"));
  EXPECT_TRUE(Shell("mtype -i card.img@@4194304 '::a model'\\''s long name.plan' | cmp - a*.plan"));

  const auto refused = WriteCardImage({.contents = {.model = model_, .plan = folder_ / "try.txt"}, .out = image_});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error(), HasSubstr("try.txt"));
}

TEST_F(CardImageTest, ConvertsWhatIsNoGguf) {
  const std::string checkpoint = folder_ / "stories.bin";
  ModelShape shape = SmallShape();
  shape.head_dim = 8;
  shape.hidden_size = shape.num_attention_heads * shape.head_dim;
  WriteFile(checkpoint, Llama2cModel::Make(shape, true, 1).File());
  WriteFile(folder_ / "tokenizer.bin", Llama2cTokenizerFile(shape.vocab_size));
  const auto card =
      WriteCardImage({.contents = {.model = checkpoint, .tokenizer = folder_ / "tokenizer.bin"}, .out = image_});
  ASSERT_TRUE(card) << card.error();
  EXPECT_EQ(card->name_on_card, "stories.gguf");
  HfModel::Make(SmallShape(), "F32", 1).Write(folder_ / "hf.model");
  const auto from_folder = WriteCardImage({.contents = {.model = (folder_ / "hf.model") + "/"}, .out = image_});
  ASSERT_TRUE(from_folder) << from_folder.error();
  EXPECT_EQ(from_folder->name_on_card, "hf.model.gguf");
  EXPECT_TRUE(OpenModelFile(image_, ""));
}

// Whatever the language of who runs it.
TEST_F(CardImageTest, KeepsLettersBeyondAscii) {
  const char* const before = std::getenv("LC_ALL");
  const std::string kept = before == nullptr ? "" : before;
  setenv("LC_ALL", "C", 1);
  const std::string name = "Modell f\u00fcr \u4e2d\u6587.gguf";
  const auto card = WriteCardImage({.contents = {.model = model_, .name_on_card = name}, .out = image_});
  before == nullptr ? unsetenv("LC_ALL") : setenv("LC_ALL", kept.c_str(), 1);
  ASSERT_TRUE(card) << card.error();
  const auto opened = OpenModelFile(image_, name);
  ASSERT_TRUE(opened) << opened.error();
  EXPECT_EQ(opened->name_on_card, name);
}

TEST_F(CardImageTest, WritesCharactersBeyondUFFFF) {
  WriteFile(folder_ / "a model's long name.thimble", "index");
  // With two units for each character: as long as a name may be.
  std::string longest;
  for (int i = 0; i < 61; ++i) longest += "\U0001F600";
  for (const std::string& name :
       {std::string("\U0001F600.gguf"), std::string("a \U00020000x\U0010FFFFxx.gguf"), longest + "xxx.gguf"}) {
    for (const bool superfloppy : {false, true}) {
      const auto card = WriteCardImage(
          {.contents = {.model = model_, .name_on_card = name}, .out = image_, .superfloppy = superfloppy});
      ASSERT_TRUE(card) << card.error();
      const auto opened = OpenModelFile(image_, name);
      ASSERT_TRUE(opened) << opened.error();
      EXPECT_EQ(opened->name_on_card, name);
      EXPECT_TRUE(opened->has_index());
      EXPECT_TRUE(ReadModel(*opened) == ReadFile(model_));
      const std::string start = superfloppy ? "0" : "4194304";
      EXPECT_TRUE(
          Shell("tail -c +$((1 + " + start + ")) card.img > volume && fsck.fat -n volume; e=$?; rm volume; exit $e"));
    }
  }
}

TEST_F(CardImageTest, RefusesAndLeavesNothing) {
  WriteFile(folder_ / "text.gguf", "GGUF is a format");
  WriteFile(folder_ / "noise.bin", std::string(3000, 'x'));
  GgufBuilder quantised = GgufBuilder::Llama();
  quantised.Tensor("blk.0.ffn_up.weight").type = 10;
  WriteFile(folder_ / "q2.gguf", quantised.Build());
  const std::set<std::string> before = folder_.Names();
  struct {
    CardOptions options;
    const char* says;
  } cases[] = {
      {{.contents = {.model = folder_ / "absent.gguf"}, .out = image_}, "absent.gguf"},
      {{.contents = {.model = folder_ / "text.gguf"}, .out = image_}, "text.gguf: this is a GGUF file of version"},
      {{.contents = {.model = folder_ / "noise.bin"}, .out = image_}, "noise.bin"},
      {{.contents = {.model = folder_ / "q2.gguf"}, .out = image_}, "tensor blk.0.ffn_up.weight is stored as Q2_K"},
      {{.contents = {.model = model_}, .out = folder_ / "no/card.img"}, "no/card.img"},
      {{.contents = {.model = model_}, .out = folder_.path()}, "not a regular file"},
      {{.contents = {.model = model_}, .out = model_}, "it is what is being read"},
      {{.contents = {.model = model_, .name_on_card = "a:b.gguf"}, .out = image_},
       "\"a:b.gguf\" is no name for a file on FAT32"},
      {{.contents = {.model = model_, .name_on_card = " x"}, .out = image_}, "is no name for a file on FAT32"},
      {{.contents = {.model = model_, .name_on_card = "x.gguf."}, .out = image_}, "is no name for a file on FAT32"},
      {{.contents = {.model = model_, .name_on_card = "x.gguf "}, .out = image_}, "it ends with a space or a dot"},
      {{.contents = {.model = model_, .name_on_card = "con.gguf"}, .out = image_}, "Windows keeps it for a device"},
      {{.contents = {.model = model_, .name_on_card = "Lpt1 .x.gguf"}, .out = image_}, "Windows keeps it for a device"},
      {{.contents = {.model = model_, .name_on_card = "model"}, .out = image_},
       "a board takes names for models that end in .gguf"},
      {{.contents = {.model = model_, .name_on_card = ".gguf"}, .out = image_},
       "a board takes names for models that end in .gguf"},
      {{.contents = {.model = model_, .name_on_card = "._x.gguf"}, .out = image_}, "do not begin with ._"},
      {{.contents = {.model = model_, .name_on_card = "\xff.gguf"}, .out = image_}, "it is not UTF-8"},
      {{.contents = {.model = model_, .name_on_card = "a\nb.gguf"}, .out = image_}, "control characters"},
      {{.contents = {.model = model_, .name_on_card = std::string(248, 'x') + ".gguf"}, .out = image_},
       "more than 252 bytes"},
      // The name before all else.
      {{.contents = {.model = folder_ / "absent.gguf", .name_on_card = "a?.gguf"}, .out = image_},
       "is no name for a file on FAT32"},
      {{.contents = {.model = model_, .name_on_card = std::string(256, 'x')}, .out = image_},
       "is no name for a file on FAT32"},
  };
  for (const auto& c : cases) {
    const auto card = WriteCardImage(c.options);
    ASSERT_FALSE(card) << c.says;
    EXPECT_THAT(card.error(), HasSubstr(c.says));
    EXPECT_EQ(folder_.Names(), before);
  }
}

TEST_F(CardImageTest, OpensTheOnlyModelOrTheOneThatIsNamed) {
  ASSERT_TRUE(WriteCardImage({.contents = {.model = model_, .name_on_card = "one.gguf"}, .out = image_}));
  WriteFile(folder_ / "other", "not looked at");
  const std::string at = " -i card.img@@4194304 ";
  ASSERT_TRUE(Shell("mcopy" + at + "other ::README.TXT && mcopy" + at + "other ::._one.gguf"));
  auto opened = OpenModelFile(image_, "");
  ASSERT_TRUE(opened) << opened.error();
  EXPECT_EQ(opened->name_on_card, "one.gguf");
  ASSERT_TRUE(Shell("mcopy" + at + "other ::Two.GGUF"));
  EXPECT_THAT(OpenModelFile(image_, "").error(), HasSubstr("several models: one.gguf, Two.GGUF; choose one"));
  opened = OpenModelFile(image_, "two.gguf");
  ASSERT_TRUE(opened) << opened.error();
  EXPECT_EQ(opened->name_on_card, "Two.GGUF");
  EXPECT_EQ(ReadModel(*opened), "not looked at");
  EXPECT_TRUE(OpenModelFile(image_, "readme.txt"));
  EXPECT_THAT(OpenModelFile(image_, "three.gguf").error(),
              HasSubstr("no file \"three.gguf\" in its root folder; its models are one.gguf, Two.GGUF"));
  ASSERT_TRUE(Shell("mdel" + at + "::one.gguf ::Two.GGUF"));
  EXPECT_THAT(OpenModelFile(image_, "").error(), HasSubstr("without a .gguf file in its root folder"));
  EXPECT_THAT(OpenModelFile(image_, "x").error(), HasSubstr("no file \"x\" in its root folder"));
}

TEST_F(CardImageTest, OpensAFileAsItIs) {
  const auto opened = OpenModelFile(model_, "");
  ASSERT_TRUE(opened) << opened.error();
  EXPECT_EQ(opened->name_on_card, "");
  EXPECT_TRUE(ReadModel(*opened) == ReadFile(model_));
  EXPECT_THAT(OpenModelFile(model_, "x.gguf").error(), HasSubstr("is a GGUF file, not a card"));
}

TEST_F(CardImageTest, SaysWhatAPathIsNot) {
  WriteFile(folder_ / "text", "Once upon a time");
  WriteFile(folder_ / "empty", "");
  WriteFile(folder_ / "GG", "GG");
  struct {
    std::string path;
    const char* says;
  } cases[] = {{folder_ / "absent", "absent"},
               {folder_.path(), "is no tensor folder: it has no model_config.json"},
               {folder_ / "empty", "it is empty"},
               {folder_ / "text", "text is neither a GGUF file nor a card: there is no volume"},
               {folder_ / "GG", "GG"},
               {"/dev/null", "/dev/null"}};
  for (const auto& c : cases) {
    const auto opened = OpenModelFile(c.path, "");
    ASSERT_FALSE(opened) << c.path;
    EXPECT_THAT(opened.error(), HasSubstr(c.says));
  }
  ASSERT_TRUE(Shell("truncate -s 16M exfat && mkfs.exfat exfat"));
  EXPECT_THAT(OpenModelFile(folder_ / "exfat", "").error(),
              HasSubstr("is an exFAT card without a .gguf file in its root folder"));
}

}  // namespace
}  // namespace thimble::host
