// Which volumes of a card are found: those that are there, whatever the types of their partitions.
#include "engine/storage/volume.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/formats/card_models.h"
#include "host/devices/faulty_device.h"
#include "host/devices/ram_device.h"
#include "tests/support/mounted_card.h"

namespace thimble::storage {
namespace {

using namespace thimble::tests;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr size_t kVolumeSectors = 2048;  // of a small volume
constexpr size_t kDataSector = 34;       // its first cluster

class VolumeTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!shop_.Run("which mkfs.exfat && which sfdisk")) GTEST_SKIP() << "install exfatprogs and fdisk";
  }

  // Appends a file or a folder and its long name to the folder in this cluster of a volume that Fat32With() made.
  static void AddEntry(std::string& volume, uint32_t folder, const std::string& name, uint32_t attributes = 0x20,
                       uint32_t cluster = 0) {
    size_t at = (kDataSector + folder - 2) * 512;
    while (volume[at] != 0) at += 32;
    const std::string short_name = "SHORT   NAM";
    uint32_t checksum = 0;
    for (const char c : short_name) checksum = ((checksum >> 1 | checksum << 7) + static_cast<uint8_t>(c)) & 0xFF;
    const size_t parts = (name.size() + 12) / 13;
    for (size_t part = parts; part > 0; --part, at += 32) {
      PutLe(volume, at, part == parts ? 0x40 | part : part, 1);
      PutLe(volume, at + 11, 0x0F, 1);
      PutLe(volume, at + 13, checksum, 1);
      for (size_t i = 0; i < 13; ++i) {
        const size_t unit = 13 * (part - 1) + i;
        const size_t place = i < 5 ? 1 + 2 * i : i < 11 ? 14 + 2 * (i - 5) : 28 + 2 * (i - 11);
        const uint32_t value = unit < name.size() ? static_cast<uint8_t>(name[unit]) : unit == name.size() ? 0 : 0xFFFF;
        PutLe(volume, at + place, value, 2);
      }
    }
    volume.replace(at, 11, short_name);
    PutLe(volume, at + 11, attributes, 1);
    PutLe(volume, at + 26, cluster, 2);
  }

  // A volume of 1 MiB with an empty file of this name: smaller than mtools would take it.
  static std::string Fat32With(const std::string& name) {
    std::string volume(kVolumeSectors * 512, '\0');
    PutLe(volume, 0, 0x9058EB, 3);
    PutLe(volume, 11, 512, 2);
    PutLe(volume, 13, 1, 1);
    PutLe(volume, 14, 2, 2);  // reserved
    PutLe(volume, 16, 2, 1);  // tables
    PutLe(volume, 32, kVolumeSectors, 4);
    PutLe(volume, 36, 16, 4);  // sectors of a table
    PutLe(volume, 44, 2, 4);   // root folder
    volume.replace(82, 8, "FAT32   ");
    PutLe(volume, 510, 0xAA55, 2);
    for (const size_t table : {2u, 18u}) {
      for (const size_t cluster : {2u, 3u, 4u}) PutLe(volume, table * 512 + 4 * cluster, 0x0FFFFFFF, 4);
    }
    AddEntry(volume, 2, name);
    return volume;
  }
  std::string EmptyExFat() {
    EXPECT_TRUE(shop_.Run("rm -f v && truncate -s 1M v && mkfs.exfat -c 512 -b 512 v")) << shop_.Log();
    return shop_.Read("v");
  }

  static void Place(std::string& card, size_t sector, const std::string& bytes) {
    if (card.size() < sector * 512 + bytes.size()) card.resize(sector * 512 + bytes.size());
    card.replace(sector * 512, bytes.size(), bytes);
  }
  static void PutEntry(std::string& card, size_t table, size_t index, uint32_t type, uint32_t start, uint32_t sectors) {
    const std::string record = MasterBootRecord(type, start, sectors, index);
    card.replace(table * 512 + 446 + 16 * index, 16, record, 446 + 16 * index, 16);
    card.replace(table * 512 + 510, 2, record, 510, 2);
  }

  // The first file of each volume that is found, "exFAT" for an empty one, and the sentence after the last.
  static std::vector<std::string> All(const std::string& card) {
    host::RamDevice device(std::as_bytes(std::span(card)));
    return All(device);
  }
  static std::vector<std::string> All(BlockDevice& device) {
    alignas(64) std::array<std::byte, 512> memory;
    Ledger ledger;
    Sectors sectors(device, memory, ledger);
    VolumeSearch search(sectors);
    std::vector<std::string> found;
    while (true) {
      Result<Volume> volume = search.Next();
      if (!volume) {
        found.push_back(Mounted::Sentence(volume.error()));
        return found;
      }
      found.push_back(volume->format_name());
      EXPECT_TRUE(volume->ListRoot([&](const DirEntry& entry) {
        found.back() = entry.name.data();
        return false;
      }));
    }
  }

  Workshop shop_;
};

TEST_F(VolumeTest, TheTypeOfAPartitionDecidesNothing) {
  const std::string fat = Fat32With("a.gguf"), exfat = EmptyExFat();
  for (const uint32_t type : {0x01, 0x04, 0x06, 0x07, 0x0B, 0x0C, 0x0E, 0x11, 0x17, 0x1B, 0x1C, 0x27, 0x82, 0x83, 0xA5,
                              0xAF, 0xDA, 0xEF, 0xFF}) {
    SCOPED_TRACE(type);
    for (size_t index = 0; index < 4; ++index) {
      std::string card(1 << 20, '\0');
      PutEntry(card, 0, index, type, 63, kVolumeSectors);
      Place(card, 63, fat);
      EXPECT_THAT(All(card), ElementsAre("a.gguf", "the card has no further volume"));
      Place(card, 63, exfat);
      EXPECT_THAT(All(card), ElementsAre("exFAT", "the card has no further volume"));
    }
  }
  EXPECT_THAT(All(fat), ElementsAre("a.gguf", "the card has no further volume"));
  EXPECT_THAT(All(exfat), ElementsAre("exFAT", "the card has no further volume"));
}

TEST_F(VolumeTest, PartitionsAreTriedInOrder) {
  std::string card(512, '\0');
  PutEntry(card, 0, 0, 0x83, 3, 20);          // nothing known
  PutEntry(card, 0, 1, 0x0C, 1 << 20, 2048);  // leaves the card
  PutEntry(card, 0, 2, 0x07, 9000, kVolumeSectors);
  PutEntry(card, 0, 3, 0x83, 100, kVolumeSectors);
  Place(card, 100, Fat32With("last"));
  Place(card, 9000, Fat32With("first"));
  EXPECT_THAT(All(card),
              ElementsAre("first", "last", HasSubstr("a partition ends at sector 1050624, and the card has")));
}

TEST_F(VolumeTest, ChainsOfLogicalPartitionsAreFollowed) {
  const std::string volumes[] = {Fat32With("primary"), Fat32With("five"), Fat32With("six"), Fat32With("seven")};
  for (const uint32_t type : {0x05, 0x0F, 0x85}) {
    std::string card(512, '\0');
    const uint32_t extended = 3000, size = 20000;
    PutEntry(card, 0, 0, type, extended, size);
    PutEntry(card, 0, 1, 0x83, 63, kVolumeSectors);
    Place(card, 63, volumes[0]);
    // Tables at 3000, 16000 and 9000, the second with no partition of its own, each partition 63 behind its table.
    Place(card, extended + size, "");
    PutEntry(card, extended, 0, 0x0B, 63, kVolumeSectors);
    PutEntry(card, extended, 1, 0x05, 13000, 4000);
    Place(card, extended + 63, volumes[1]);
    PutEntry(card, extended + 13000, 1, 0x05, 10000, 4000);
    PutEntry(card, extended + 10000, 0, 0x07, 63, kVolumeSectors - 1);
    PutEntry(card, extended + 10000, 1, 0x0F, 6000, 4000);
    Place(card, extended + 10000 + 63, volumes[2]);
    PutEntry(card, extended + 6000, 0, 0x83, 63, kVolumeSectors);
    Place(card, extended + 6000 + 63, volumes[3]);
    const char* const kCutOff = "the volume has 2048 sectors, and there is room for 2047; the image may be cut off";
    EXPECT_THAT(All(card), ElementsAre("primary", "five", "seven", kCutOff));
    PutEntry(card, extended + 10000, 0, 0x07, 63, kVolumeSectors);
    EXPECT_THAT(All(card), ElementsAre("primary", "five", "six", "seven", "the card has no further volume"));

    struct {
      uint32_t next, size;  // behind the last table
      const char* says;
    } faults[] = {{0, 100, "does not end after 64"},
                  {6000, 100, "does not end after 64"},
                  {20000, 100, "goes on at sector 23000, outside of the extended one"},
                  {0xffffffff, 1, "goes on at sector 4294970295"},
                  {5000, 100, "sector 8000 holds no table"}};
    for (const auto& fault : faults) {
      PutEntry(card, extended + 6000, 1, 0x05, fault.next, fault.size);
      const std::vector<std::string> found = All(card);
      EXPECT_THAT(found.back(), HasSubstr(fault.says));
      ASSERT_GE(found.size(), 5u);
      EXPECT_LE(found.size(), 66u);
      EXPECT_EQ(found[3], "seven");
    }
    // The extended partition itself leaves the card.
    PutEntry(card, 0, 0, type, extended, 1 << 20);
    EXPECT_THAT(All(card), ElementsAre("primary", HasSubstr("a partition ends at sector")));
  }
}

// Tables as another program writes them.
TEST_F(VolumeTest, FindsWhatSfdiskMade) {
  const std::string volumes[] = {Fat32With("one"), EmptyExFat(), Fat32With("three")};
  struct {
    const char* script;
    std::vector<size_t> starts;
  } tables[] = {
      {"label: dos\\n2048,2048,c\\n6144,20480,f\\n8192,2048,7\\n12288,2048,83\\n", {2048, 8192, 12288}},
      {"label: gpt\\n2048,2048,U\\n8192,2048\\n12288,2048,L\\n", {2048, 8192, 12288}},
  };
  for (const auto& table : tables) {
    ASSERT_TRUE(
        shop_.Run(std::string("rm -f card && truncate -s 16M card && printf '") + table.script + "' | sfdisk card"))
        << shop_.Log();
    std::string card = shop_.Read("card");
    for (size_t i = 0; i < 3; ++i) Place(card, table.starts[i], volumes[i]);
    EXPECT_THAT(All(card), ElementsAre("one", "exFAT", "three", "the card has no further volume"));
  }
}

TEST_F(VolumeTest, AGuidPartitionTableIsChecked) {
  std::string card(512, '\0');
  PutEntry(card, 0, 0, 0xEE, 1, 0xffffffff);
  Place(card, 63, Fat32With("a"));
  Place(card, 4000, Fat32With("b"));
  const auto entry = [&](size_t index, uint64_t first, uint64_t last, size_t entry_bytes = 128) {
    const size_t at = 2 * 512 + index * entry_bytes;
    PutLe(card, at, 0xA2A0D0EBE5B9334 + index, 8);
    PutLe(card, at + 32, first, 8);
    PutLe(card, at + 40, last, 8);
  };
  const auto header = [&](uint64_t entries_at, uint32_t count, uint32_t entry_bytes) {
    card.replace(512, 8, "EFI PART");
    PutLe(card, 512 + 72, entries_at, 8);
    PutLe(card, 512 + 80, count, 4);
    PutLe(card, 512 + 84, entry_bytes, 4);
  };
  EXPECT_THAT(All(card), ElementsAre(HasSubstr("GUID partition table cannot be read")));
  entry(0, 63, 63 + 2047);
  entry(3, 4000, 4000 + 2047);
  header(2, 128, 128);
  EXPECT_THAT(All(card), ElementsAre("a", "b", "the card has no further volume"));
  header(2, 2, 128);
  EXPECT_THAT(All(card), ElementsAre("a", "the card has no further volume"));
  header(2, 0xffffffff, 128);  // 128 are looked at
  EXPECT_THAT(All(card), ElementsAre("a", "b", "the card has no further volume"));
  for (const auto& [at, size] :
       {std::pair{uint64_t{2}, 0u}, {2, 64}, {2, 192}, {2, 1u << 31}, {card.size() / 512, 128}, {~uint64_t{0}, 128}}) {
    header(at, 128, size);
    EXPECT_THAT(All(card), ElementsAre(HasSubstr("GUID partition table cannot be read"))) << at << " " << size;
  }
  header(2, 128, 128);
  for (const auto& [first, last] : {std::pair{uint64_t{63}, uint64_t{62}},
                                    {63, 1 << 20},
                                    {0, 2047},
                                    {~uint64_t{0}, ~uint64_t{0}},
                                    {1, ~uint64_t{0}},
                                    {0, ~uint64_t{0}}}) {
    entry(0, first, last);
    EXPECT_THAT(All(card), ElementsAre("b", HasSubstr("a partition ends at sector")));
  }
}

TEST_F(VolumeTest, AFailingDeviceIsNoMissingVolume) {
  std::string card(512, '\0');
  PutEntry(card, 0, 0, 0x83, 63, kVolumeSectors);
  PutEntry(card, 0, 1, 0x83, 4000, kVolumeSectors);
  Place(card, 63, std::string(512, 'x'));
  Place(card, 4000, Fat32With("b"));
  host::RamDevice device(std::as_bytes(std::span(card)));
  host::FaultyDevice faulty(device,
                            {{.times = host::Fault::kForever, .offset_begin = 63 * 512, .offset_end = 64 * 512}});
  alignas(64) std::array<std::byte, 512> memory;
  Ledger ledger;
  Sectors sectors(faulty, memory, ledger);
  const Result<Volume> volume = Volume::Mount(sectors);
  ASSERT_FALSE(volume);
  EXPECT_EQ(volume.error().code, Code::kIo);
}

// The rule that the tool and the firmware share.
TEST_F(VolumeTest, TheFirstVolumeWithAModelIsTaken) {
  const auto first_file = [](const std::string& card) -> std::string {
    host::RamDevice device(std::as_bytes(std::span(card)));
    alignas(64) std::array<std::byte, 512> memory;
    Ledger ledger;
    Sectors sectors(device, memory, ledger);
    Result<Volume> volume = formats::MountModels(sectors);
    if (!volume) return Mounted::Sentence(volume.error());
    std::string name = "none";
    EXPECT_TRUE(volume->ListRoot([&](const DirEntry& entry) {
      name = entry.name.data();
      return false;
    }));
    return name;
  };
  std::string card(512, '\0');
  PutEntry(card, 0, 0, 0xEF, 63, kVolumeSectors);
  PutEntry(card, 0, 1, 0x07, 3000, kVolumeSectors);
  PutEntry(card, 0, 2, 0x0C, 6000, kVolumeSectors);
  PutEntry(card, 0, 3, 0x0C, 9000, kVolumeSectors);
  Place(card, 63, Fat32With("notes.txt"));
  Place(card, 3000, EmptyExFat());
  Place(card, 6000, Fat32With("._model.gguf"));
  Place(card, 9000, Fat32With("Model.GGUF"));
  EXPECT_EQ(first_file(card), "Model.GGUF");
  // A tensor folder is a model, too.
  std::string folder = Fat32With("text.txt");
  AddEntry(folder, 2, "empty", 0x10, 3);
  AddEntry(folder, 2, "w", 0x10, 4);
  AddEntry(folder, 4, "model_config.json");
  Place(card, 6000, folder);
  EXPECT_EQ(first_file(card), "text.txt");
  // None has one: the first volume, for whoever looks for other files.
  Place(card, 6000, Fat32With("three"));
  Place(card, 9000, Fat32With("four"));
  EXPECT_EQ(first_file(card), "notes.txt");
  // Damage where a model may have been is not passed over.
  PutLe(card, 9000 * 512 + 11, 513, 2);
  EXPECT_THAT(first_file(card), HasSubstr("sectors of 513 bytes"));
  Place(card, 6000, Fat32With("sound.gguf"));
  EXPECT_EQ(first_file(card), "sound.gguf");
}

}  // namespace
}  // namespace thimble::storage
