#include "engine/storage/exfat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/storage/volume.h"
#include "host/devices/file_device.h"
#include "host/devices/ram_device.h"
#include "tests/support/exfat_card.h"
#include "tests/support/mounted_card.h"

namespace thimble::storage {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class ExFatTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!shop_.Run("which mkfs.exfat && which fsck.exfat")) GTEST_SKIP() << "install exfatprogs";
  }

  // An empty volume of so many MiB, made by mkfs.exfat.
  ExFatCard Make(int mib, const std::string& options) {
    EXPECT_TRUE(shop_.Run("rm -f v && truncate -s " + std::to_string(mib) + "M v && mkfs.exfat " + options + " v"))
        << shop_.Log();
    return ExFatCard(shop_.Read("v"));
  }

  // Another program finds nothing wrong with the volume.
  void ExpectSound(const ExFatCard& card) {
    shop_.Write("sound", card.image());
    EXPECT_TRUE(shop_.Run("fsck.exfat -n sound")) << shop_.Log();
  }

  static host::RamDevice Device(const ExFatCard& card) {
    return host::RamDevice(std::as_bytes(std::span(card.image())));
  }

  static std::vector<std::string> Names(host::RamDevice& device) {
    Mounted mounted(device);
    if (!mounted.volume()) return {mounted.Sentence()};
    const auto entries = mounted.List();
    if (!entries) return {Mounted::Sentence(entries.error())};
    std::vector<std::string> names;
    for (const DirEntry& entry : *entries) names.push_back(entry.name.data());
    return names;
  }

  // Every byte of all files, or the first sentence that says why not.
  static std::string ReadAll(host::RamDevice& device, std::vector<std::string>& contents) {
    Mounted mounted(device);
    if (!mounted.volume()) return mounted.Sentence();
    const auto entries = mounted.List();
    if (!entries) return Mounted::Sentence(entries.error());
    for (const DirEntry& entry : *entries) {
      const auto read = mounted.Read(entry);
      if (!read) return Mounted::Sentence(read.error());
      contents.push_back(*read);
    }
    return "";
  }
  static std::string ReadAll(host::RamDevice& device) {
    std::vector<std::string> contents;
    return ReadAll(device, contents);
  }

  // Free clusters, none of which follows another.
  static std::vector<uint32_t> Scattered(const ExFatCard& card, size_t count) {
    const std::vector<uint32_t> free = card.Free(2 * count);
    std::vector<uint32_t> clusters;
    for (size_t i = 0; i < free.size(); i += 2) clusters.push_back(free[i]);
    return clusters;
  }

  Workshop shop_;
  std::mt19937 random_{1};
};

TEST_F(ExFatTest, ListsAndReadsWholeAndScatteredFiles) {
  struct {
    int mib;
    const char* options;
    size_t start_sectors;  // of the partition; 0: none
    uint32_t type;
  } cards[] = {{4, "-c 512", 0, 0},     {12, "-c 512 -b 512", 63, 0x07}, {12, "-c 4K", 2048, 0x0C},
               {33, "-c 32K", 1, 0x83}, {64, "-c 128K -L CARD", 0, 0},   {80, "-c 1M --pack-bitmap", 8, 0x17}};
  for (const auto& shape : cards) {
    SCOPED_TRACE(testing::Message() << shape.mib << " MiB " << shape.options);
    ExFatCard card = Make(shape.mib, shape.options);
    const size_t cluster = card.cluster_bytes();
    std::map<std::string, std::string> files;
    const auto add = [&](const std::u16string& name, const std::string& utf8, size_t bytes, bool chain, bool scatter) {
      files[utf8] = RandomText(bytes, random_);
      const size_t clusters = (bytes + cluster - 1) / cluster;
      card.Add(card.root(), {.name = name,
                             .contents = files[utf8],
                             .clusters = scatter ? Scattered(card, clusters) : card.Free(clusters),
                             .has_chain = chain});
    };
    add(u"empty", "empty", 0, false, false);
    add(u"one.gguf", "one.gguf", 1, false, false);
    add(u"Whole.GGUF", "Whole.GGUF", 3 * cluster, false, false);
    add(u"chained.gguf", "chained.gguf", 3 * cluster + 100, true, false);
    add(u"scattered, with blanks.gguf", "scattered, with blanks.gguf", 4 * cluster - 1, true, true);
    add(u"Zwölf Boxkämpfer.gguf", "Zwölf Boxkämpfer.gguf", cluster + 1, false, false);
    add(u"日本語のモデル.gguf", "日本語のモデル.gguf", 511, false, false);
    add(u"\U0001F600 \U00020000.gguf", "\U0001F600 \U00020000.gguf", 513, false, false);
    add(std::u16string(255, u'n'), std::string(255, 'n'), 7, false, false);
    add(std::u16string(15, u'e'), std::string(15, 'e'), 8, false, false);
    add(std::u16string(16, u'f'), std::string(16, 'f'), 9, false, false);
    card.Add(card.root(), {.name = u"hidden.gguf", .contents = "h", .attributes = 0x22});
    card.Add(card.root(), {.name = u"system.gguf", .contents = "s", .attributes = 0x24});
    card.AddFolder(card.root(), u"folder", card.Free(1), false);
    ExpectSound(card);

    std::string image = card.image();
    if (shape.start_sectors != 0) {
      image = MasterBootRecord(shape.type, static_cast<uint32_t>(shape.start_sectors),
                               static_cast<uint32_t>(image.size() / 512), 2) +
              std::string((shape.start_sectors - 1) * 512, '\0') + image;
    }
    host::RamDevice device(std::as_bytes(std::span(image)));
    Mounted mounted(device);
    ASSERT_TRUE(mounted.volume()) << mounted.Sentence();
    EXPECT_EQ(mounted.volume()->format(), VolumeFormat::kExFat);
    EXPECT_EQ(mounted.volume()->cluster_bytes(), cluster);
    // As another program has it.
    ASSERT_TRUE(shop_.Run("dump.exfat sound | grep '^Cluster Count:[[:space:]]*" +
                          std::to_string(mounted.volume()->cluster_count()) + "$'"))
        << shop_.Log();
    const auto entries = mounted.List();
    ASSERT_TRUE(entries) << Mounted::Sentence(entries.error());
    EXPECT_EQ(entries->size(), files.size());
    for (const DirEntry& entry : *entries) {
      SCOPED_TRACE(entry.name.data());
      ASSERT_TRUE(files.contains(entry.name.data()));
      const std::string& want = files[entry.name.data()];
      EXPECT_EQ(entry.size_bytes, want.size());
      const auto contents = mounted.Read(entry);
      ASSERT_TRUE(contents) << Mounted::Sentence(contents.error());
      EXPECT_TRUE(*contents == want);
      const size_t pieces = std::string_view(entry.name.data()).starts_with("scattered") ? 4 : want.empty() ? 0 : 1;
      EXPECT_EQ(mounted.Map(entry)->extents.size(), pieces);
    }
  }
}

// What a board pays for a file's place: nothing where there is no chain, else 128 clusters a read.
TEST_F(ExFatTest, CountsTheReadsOfAChain) {
  ExFatCard card = Make(8, "-c 512");
  card.Add(card.root(), {.name = u"whole", .contents = std::string(1000 * 512, 'w')});
  const uint32_t first = card.Free(1)[0];
  card.Add(card.root(), {.name = u"chained", .contents = std::string(1000 * 512, 'c'), .has_chain = true});
  ExpectSound(card);
  host::RamDevice device = Device(card);
  Mounted mounted(device);
  EXPECT_EQ(device.reads().size(), 1u) << "the boot sector";
  const auto entries = mounted.List();
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ(device.reads().size(), 2u) << "and one sector of the root folder";
  device.ClearReads();
  ASSERT_TRUE(mounted.Map((*entries)[0]));
  EXPECT_EQ(device.reads().size(), 0u);
  ASSERT_TRUE(mounted.Map((*entries)[1]));
  EXPECT_EQ(device.reads().size(), (first + 999) / 128 - first / 128 + 1);
}

TEST_F(ExFatTest, TakesUpToALimitOfPieces) {
  ExFatCard card = Make(8, "-c 512");
  const std::string contents = RandomText(65 * 512 - 100, random_);
  card.Add(card.root(),
           {.name = u"pieces.gguf", .contents = contents, .clusters = Scattered(card, 65), .has_chain = true});
  ExpectSound(card);
  host::RamDevice device = Device(card);
  Mounted mounted(device);
  const auto entries = mounted.List();
  ASSERT_TRUE(entries);
  const auto read = mounted.Read((*entries)[0], 65);
  ASSERT_TRUE(read) << Mounted::Sentence(read.error());
  EXPECT_TRUE(*read == contents);
  const auto refused = mounted.Map((*entries)[0], 64);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
  EXPECT_THAT(Mounted::Sentence(refused.error()), HasSubstr("pieces.gguf lies in 65 pieces"));
}

TEST_F(ExFatTest, FoldersAreListedToTheirLength) {
  for (const bool has_chain : {false, true}) {
    SCOPED_TRACE(has_chain);
    ExFatCard card = Make(8, "-c 512");
    ExFatCard::Folder folder =
        card.AddFolder(card.root(), u"Weights", has_chain ? Scattered(card, 3) : card.Free(3), has_chain);
    // 48 entries: 12 files of 4 fill the folder to its last byte.
    for (int i = 0; i < 12; ++i) {
      const auto letter = static_cast<char16_t>(u'a' + i);
      card.Add(folder, {.name = letter + std::u16string(u" file in a folder"), .contents = std::string(700, 'x')});
    }
    card.AddFolder(card.root(), u"empty", card.Free(1), false);
    ExpectSound(card);
    host::RamDevice device = Device(card);
    Mounted mounted(device);
    Result<Volume> volume = mounted.volume();
    std::vector<DirEntry> folders;
    ASSERT_TRUE(volume->ListRootFolders([&](const DirEntry& entry) {
      folders.push_back(entry);
      return true;
    }));
    ASSERT_EQ(folders.size(), 2u);
    EXPECT_STREQ(folders[0].name.data(), "Weights");
    std::vector<std::string> names;
    const auto listed = volume->ListFolder(folders[0], [&](const DirEntry& entry) {
      names.push_back(entry.name.data());
      const auto read = mounted.Read(entry);
      EXPECT_TRUE(read && *read == std::string(700, 'x'));
      return true;
    });
    ASSERT_TRUE(listed) << Mounted::Sentence(listed.error());
    EXPECT_EQ(names.size(), 12u);
    EXPECT_EQ(names.back(), "l file in a folder");
    int in_empty = 0;
    ASSERT_TRUE(volume->ListFolder(folders[1], [&](const DirEntry&) { return ++in_empty < 9; }));
    EXPECT_EQ(in_empty, 0);
    DirEntry nowhere = folders[0];
    nowhere.first_cluster = 1;
    EXPECT_FALSE(volume->ListFolder(nowhere, [](const DirEntry&) { return true; }));
  }
}

TEST_F(ExFatTest, ReadsARootFolderOfManyClusters) {
  ExFatCard card = Make(8, "-c 512");
  for (int i = 0; i < 200; ++i) {
    const std::string number = std::to_string(i);
    card.Add(card.root(), {.name = std::u16string(number.begin(), number.end()) + std::u16string(60, u'z')});
  }
  EXPECT_GT(card.root().clusters.size(), 70u);
  ExpectSound(card);
  host::RamDevice device = Device(card);
  EXPECT_EQ(Names(device).size(), 200u);
}

// Cards of 64 GB are sold so; a file may be larger than FAT32 allows. Both files are holes.
TEST_F(ExFatTest, ReadsACardOf64GbAndAFileOf5GiB) {
  constexpr uint64_t kFile = 5ull << 30;
  constexpr size_t kBegin = 32 << 20;
  ASSERT_TRUE(shop_.Run("truncate -s 64G card && mkfs.exfat card && head -c 32M card >begin")) << shop_.Log();
  ExFatCard card(shop_.Read("begin"));
  const uint32_t first = card.Free(1)[0];
  const size_t entry = card.Add(card.root(), {.name = u"large.gguf", .contents = "begin"});
  for (const size_t at : {8u, 24u}) card.Put(entry + 32 + at, kFile + 3, 8);
  card.SealEntries(entry);
  const uint64_t at = card.ClusterAt(first);
  ASSERT_LT(at, kBegin);
  {
    std::fstream file(shop_.Path("card"), std::ios::binary | std::ios::in | std::ios::out);
    file << card.image();
    file.seekp(static_cast<std::streamoff>(at + kFile)) << "end";
  }
  const auto device = host::FileDevice::Open(shop_.Path("card"));
  ASSERT_TRUE(device);
  Mounted mounted(**device);
  ASSERT_TRUE(mounted.volume()) << mounted.Sentence();
  const auto entries = mounted.List();
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 1u);
  EXPECT_EQ((*entries)[0].size_bytes, kFile + 3);
  const auto map = mounted.Map((*entries)[0]);
  ASSERT_TRUE(map) << Mounted::Sentence(map.error());
  ASSERT_EQ(map->extents.size(), 1u);
  Ledger ledger;
  FileReader reader(**device, *map, ledger);
  alignas(64) std::array<std::byte, 1024> buffer;
  ASSERT_TRUE(reader.Start(kFile, 3, buffer));
  const auto bytes = reader.Wait();
  ASSERT_TRUE(bytes);
  EXPECT_EQ(std::memcmp(bytes->data(), "end", 3), 0);
}

// A card with three files, held in memory to be damaged and repaired.
class DamagedExFat : public ExFatTest {
 protected:
  void SetUp() override {
    ExFatTest::SetUp();
    if (IsSkipped()) return;
    card_.emplace(Make(4, "-c 512 -b 512"));
    for (const bool has_chain : {false, true}) {
      contents_.push_back(RandomText(2000, random_));
      entries_.push_back(card_->Add(
          card_->root(),
          {.name = has_chain ? u"chained.gguf" : u"whole.gguf", .contents = contents_.back(), .has_chain = has_chain}));
      first_.push_back(static_cast<uint32_t>(card_->Get(entries_.back() + 32 + 20, 4)));
    }
    ExpectSound(*card_);
    // fsck.exfat 1.2 does not know that it may pass over these.
    contents_.push_back("v");
    entries_.push_back(card_->Add(card_->root(), {.name = u"vendor", .contents = "v", .vendor_entries = 2}));
    device_.emplace(Device(*card_));
  }

  // The sentence that reading everything ends with after a change of the card.
  std::string After(size_t offset, uint64_t value, size_t size, bool sealed = false) {
    ExFatCard changed = *card_;
    changed.Put(offset, value, size);
    if (sealed) {
      for (const size_t entry : entries_) {
        if (offset >= entry && offset < entry + 3 * 32) changed.SealEntries(entry);
      }
    }
    host::RamDevice device = Device(changed);
    return ReadAll(device);
  }

  std::optional<ExFatCard> card_;
  std::optional<host::RamDevice> device_;
  std::vector<std::string> contents_;
  std::vector<size_t> entries_;
  std::vector<uint32_t> first_;
};

TEST_F(DamagedExFat, IsReadWhenItIsWhole) {
  std::vector<std::string> contents;
  EXPECT_EQ(ReadAll(*device_, contents), "");
  EXPECT_EQ(contents, contents_);
}

TEST_F(DamagedExFat, EveryFieldOfTheBootSectorIsChecked) {
  const uint64_t sectors = card_->image().size() / 512;
  struct {
    size_t offset, size;
    uint64_t value;
    const char* says;
  } fields[] = {
      {3, 1, 'e', "partition table is empty"},
      {11, 1, 1, "bytes that must be zero are not"},
      {63, 1, 0x80, "bytes that must be zero are not"},
      {72, 8, sectors + 1, "and there is room for"},
      {72, 8, ~uint64_t{0}, "and there is room for"},
      {72, 8, 100, "clusters do not fit into 100 sectors"},
      {72, 8, 0, "clusters do not fit into 0 sectors"},
      {80, 4, 23, "its allocation table ends"},
      {80, 4, 0xffffffff, "its allocation table ends"},
      {84, 4, 0xffffffff, "its allocation table ends"},
      {84, 4, 1, "and an allocation table for 128"},
      {88, 4, 24, "its clusters begin at sector 24"},
      {88, 4, 0xffffffff, "clusters do not fit"},
      {92, 4, 0, "0 clusters"},
      {92, 4, 0xffffffff, "4294967295 clusters"},
      {92, 4, 0xfffffff0, "4294967280 clusters"},
      {96, 4, 0, "the root folder is in cluster 0"},
      {96, 4, 1, "the root folder is in cluster 1"},
      {96, 4, 0xffffffff, "the root folder is in cluster 4294967295"},
      {105, 1, 0, "another version of exFAT (0)"},
      {105, 1, 2, "another version of exFAT (2)"},
      {108, 1, 8, "sectors of 2^8 bytes"},
      {108, 1, 13, "sectors of 2^13 bytes"},
      {109, 1, 17, "clusters of 2^26 bytes"},
      {109, 1, 255, "clusters of 2^264 bytes"},
      {110, 1, 0, "has 0 allocation tables"},
      {110, 1, 2, "has 2 allocation tables"},
      {510, 2, 0, "no boot sector"},
  };
  for (const auto& field : fields) {
    EXPECT_THAT(After(field.offset, field.value, field.size), HasSubstr(field.says)) << field.offset;
  }
  // For those who write, or for people: the volume's place, flags, serial number, how full it is, minor version.
  for (const size_t at : {64u, 71u, 100u, 103u, 104u, 106u, 107u, 111u, 112u, 113u, 120u}) {
    EXPECT_EQ(After(at, 0x5A, 1), "") << at;
  }
}

TEST_F(DamagedExFat, AnyChangedByteIsRefusedOrHarmless) {
  int refused = 0, harmless = 0;
  const auto change = [&](size_t at, unsigned bits) {
    std::byte& byte = device_->bytes()[at];
    byte ^= static_cast<std::byte>(bits);
    std::vector<std::string> contents;
    ReadAll(*device_, contents).empty() ? ++harmless : ++refused;
    byte ^= static_cast<std::byte>(bits);
    return contents;
  };
  for (size_t at = 0; at < 512; ++at) {
    for (const unsigned bits : {1u, 4u, 16u, 128u, 255u}) change(at, bits);
  }
  EXPECT_GT(refused, 300);
  EXPECT_GT(harmless, 1000);
  // No bit of a file's entries may change without its set being dropped: the checksum is of all of them.
  for (size_t file = 0; file < 2; ++file) {
    for (size_t at = entries_[file]; at < entries_[file] + 3 * 32; ++at) {
      for (const unsigned bits : {1u, 8u, 64u}) {
        const std::vector<std::string> contents = change(at, bits);
        ASSERT_EQ(std::ranges::count(contents, contents_[file]), 0) << at;
      }
    }
  }
}

TEST_F(DamagedExFat, EntriesAreChecked) {
  const size_t whole = entries_[0] + 32, chained = entries_[1] + 32;
  const uint32_t count = card_->cluster_count();
  struct {
    size_t offset, size;
    uint64_t value;
    const char* says;
  } fields[] = {
      {whole + 20, 4, 0, "whole.gguf is cut off: it has 0 of its 4"},
      {whole + 20, 4, 1, "whole.gguf is damaged: it begins in cluster 1"},
      {whole + 20, 4, count + 2, "whole.gguf is damaged: it begins in cluster"},
      {whole + 20, 4, count - 1, "whole.gguf is damaged: its clusters go on behind the volume's end"},
      {whole + 8, 8, 1999, "whole.gguf was not copied to its end: 1999 of its 2000 bytes were written; copy it again"},
      {whole + 8, 8, 0, "0 of its 2000 bytes"},
      {whole + 1, 1, 1, "whole.gguf is damaged: after cluster"},
      {whole + 1, 1, 2, "whole.gguf is cut off: it has 0 of its 4"},
      {chained + 20, 4, first_[1] + 1, "chained.gguf is cut off: it has 3 of its 4"},
  };
  for (const auto& field : fields) {
    EXPECT_THAT(After(field.offset, field.value, field.size, true), HasSubstr(field.says)) << field.offset;
  }
  for (const uint64_t bytes : {uint64_t{1} << 40, ~uint64_t{0}}) {
    ExFatCard changed = *card_;
    for (const size_t at : {8u, 24u}) changed.Put(whole + at, bytes, 8);
    changed.SealEntries(entries_[0]);
    host::RamDevice device = Device(changed);
    EXPECT_THAT(ReadAll(device), HasSubstr("clusters, more than the volume's"));
  }
}

TEST_F(DamagedExFat, SetsThatAreNotWholeArePassedOver) {
  const auto names_after = [&](size_t offset, uint64_t value) {
    ExFatCard changed = *card_;
    changed.Put(offset, value, 1);
    changed.SealEntries(entries_[0]);
    host::RamDevice device = Device(changed);
    return Names(device);
  };
  const size_t entry = entries_[0];
  EXPECT_THAT(names_after(entry + 32 + 4, 7), ElementsAre("whole.gguf", "chained.gguf", "vendor"))
      << "the hash of a name is not read";
  for (const auto& [offset, value] : {std::pair{entry, uint64_t{0x05}},
                                      {entry + 1, 1},
                                      {entry + 32, 0xC1},
                                      {entry + 32, 0x40},
                                      {entry + 64, 0xC0},
                                      {entry + 64, 0xE0},
                                      {entry + 64, 0x41},
                                      {entry + 32 + 3, 0},
                                      {entry + 32 + 3, 16},
                                      {entry + 32 + 3, 255},
                                      {entry + 32 + 9, 255}}) {
    EXPECT_THAT(names_after(offset, value), ElementsAre("chained.gguf", "vendor")) << offset - entry << " " << value;
  }
  // A vendor's entry may be passed over only when it says so.
  ExFatCard changed = *card_;
  changed.Put(entries_[2] + 96, 0xC2, 1);
  changed.SealEntries(entries_[2]);
  host::RamDevice device = Device(changed);
  EXPECT_THAT(Names(device), ElementsAre("whole.gguf", "chained.gguf"));
  // Halves of a character.
  changed = *card_;
  changed.Put(entry + 64 + 2, 0xD83D, 2);
  changed.Put(entry + 64 + 4, 0xDE00, 2);
  changed.Put(entry + 64 + 6, 0xDE00, 2);
  changed.SealEntries(entry);
  device = Device(changed);
  EXPECT_EQ(Names(device)[0], "\U0001F600\uFFFDle.gguf");
}

TEST_F(DamagedExFat, ChainsAreChecked) {
  const uint32_t first = first_[1];
  const uint32_t root = card_->root().clusters[0];
  struct {
    uint32_t cluster, next;
    const char* says;
  } links[] = {
      {first, 0, "chained.gguf is damaged: after cluster"},
      {first, 1, "its chain goes on in cluster 1"},
      {first + 1, 0xFFFFFFF7, "its chain goes on in cluster 4294967287"},
      {first + 1, 0x0FFFFFFF, "its chain goes on in cluster 268435455"},
      {first, first, "its chain of clusters comes back"},
      {first + 2, first + 1, "its chain of clusters comes back"},
      {first + 1, 0xFFFFFFFF, "chained.gguf is cut off: it has 2 of its 4 clusters"},
      {first + 3, first + 4, "its chain of clusters goes on after its 4 clusters"},
  };
  for (const auto& link : links) {
    EXPECT_THAT(After(card_->TableEntryAt(link.cluster), link.next, 4), HasSubstr(link.says));
  }
  // A root folder without an end.
  ExFatCard changed = *card_;
  for (size_t at = changed.ClusterAt(root); at < changed.ClusterAt(root + 1); at += 32) changed.Put(at, 0x05, 1);
  for (const auto& [next, says] : {std::pair(root, "the root folder is damaged: its chain of clusters does not end"),
                                   std::pair(0u, "the root folder is damaged: after cluster")}) {
    changed.Put(changed.TableEntryAt(root), next, 4);
    host::RamDevice device = Device(changed);
    EXPECT_THAT(ReadAll(device), HasSubstr(says));
  }
}

// Sectors of 4096 bytes: cards have 512, but the volume may have been made elsewhere. mkfs.exfat takes the sector's
// size from a drive, so a volume of 512 is told otherwise: the parts keep their places.
TEST_F(ExFatTest, ReadsVolumesOfLargerSectors) {
  for (const uint32_t shift : {10u, 11u, 12u}) {
    ExFatCard card = Make(24, "-c 4K -b 128K");
    const std::string contents = RandomText(70000, random_);
    card.Add(card.root(),
             {.name = u"model.gguf", .contents = contents, .clusters = Scattered(card, 18), .has_chain = true});
    for (const size_t at : {80u, 84u, 88u}) card.Put(at, card.Get(at, 4) >> (shift - 9), 4);
    card.Put(72, card.Get(72, 8) >> (shift - 9), 8);
    card.Put(109, 12 - shift, 1);
    card.Put(108, shift, 1);
    host::RamDevice device = Device(card);
    std::vector<std::string> read;
    EXPECT_EQ(ReadAll(device, read), "");
    EXPECT_TRUE(read == std::vector{contents});
    host::RamDevice large(std::as_bytes(std::span(card.image())), 4096, 64);
    EXPECT_EQ(ReadAll(large), "");
  }
}

}  // namespace
}  // namespace thimble::storage
