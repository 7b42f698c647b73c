#include "engine/storage/fat32.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "host/devices/faulty_device.h"
#include "host/devices/file_device.h"
#include "host/devices/ram_device.h"

namespace thimble::storage {
namespace {

using testing::HasSubstr;

// A folder of its own for each test, and the tools that make cards.
class Workshop {
 public:
  Workshop() : folder_(std::filesystem::path(testing::TempDir()) / ("fat32_test_" + std::to_string(getpid()))) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
  }
  ~Workshop() { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  // Runs a shell command in the folder; false if it fails.
  bool Run(const std::string& command) const {
    const std::string line = "cd '" + folder_.string() +
                             "' && export LC_ALL=C.UTF-8 PATH=\"$PATH:/usr/sbin:/sbin\" && { " + command +
                             " ; } >log 2>&1";
    return std::system(line.c_str()) == 0;
  }
  std::string Log() const { return Read("log"); }

  std::string Read(const std::string& name) const {
    std::ifstream stream(folder_ / name, std::ios::binary | std::ios::ate);
    if (!stream) return "";
    std::string contents(static_cast<size_t>(stream.tellg()), '\0');
    stream.seekg(0).read(contents.data(), static_cast<std::streamsize>(contents.size()));
    return contents;
  }
  void Write(const std::string& name, const std::string& contents) const {
    std::ofstream(folder_ / name, std::ios::binary)
        .write(contents.data(), static_cast<std::streamsize>(contents.size()));
  }

 private:
  std::filesystem::path folder_;
};

// A device with a volume, and what a caller has to bring.
class Mounted {
 public:
  explicit Mounted(BlockDevice& device)
      : whole_(WholeDevice(device)),
        disk_(device, {{&whole_, 1}, whole_.size_bytes}, ledger_),
        device_(&device),
        volume_(Fat32::Mount(disk_, std::span(sector_).first(device.geometry().block_bytes))) {}

  const Result<Fat32>& volume() const { return volume_; }
  const Ledger& ledger() const { return ledger_; }

  std::string Sentence() const { return volume_ ? "" : Sentence(volume_.error()); }
  static std::string Sentence(const Error& error) {
    char text[300];
    return std::string(text, FormatError(error, text));
  }

  Result<std::vector<DirEntry>> List() {
    std::vector<DirEntry> entries;
    THIMBLE_TRY(volume_->ListRoot([&](const DirEntry& entry) {
      entries.push_back(entry);
      return true;
    }));
    return entries;
  }

  Result<FileMap> Map(const DirEntry& entry, size_t max_extents = kUsualExtents) {
    extents_.assign(max_extents, Extent{});
    return volume_->MapFile(entry, extents_);
  }

  // The file's bytes, read through its extents.
  Result<std::string> Read(const DirEntry& entry, size_t max_extents = kUsualExtents) {
    THIMBLE_ASSIGN(const FileMap map, Map(entry, max_extents));
    FileReader reader(*device_, map, ledger_);
    std::string contents(static_cast<size_t>(map.size_bytes), '\0');
    alignas(64) std::byte buffer[8192];
    ByteReader bytes(reader, buffer);
    THIMBLE_TRY(bytes.Read(std::as_writable_bytes(std::span(contents))));
    return contents;
  }

 private:
  alignas(64) std::byte sector_[4096];
  Extent whole_;
  Ledger ledger_;
  FileReader disk_;
  BlockDevice* device_;
  Result<Fat32> volume_;
  std::vector<Extent> extents_;
};

std::string RandomText(size_t size, std::mt19937& random) {
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

void PutLe(std::string& image, size_t offset, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) image[offset + i] = static_cast<char>(value >> (8 * i));
}
uint32_t GetLe(std::string_view image, size_t offset, size_t size) {
  uint32_t value = 0;
  for (size_t i = size; i > 0; --i) value = value << 8 | static_cast<uint8_t>(image[offset + i - 1]);
  return value;
}

std::string MasterBootRecord(uint32_t type, uint32_t start, uint32_t sectors, size_t index = 0) {
  std::string record(512, '\0');
  PutLe(record, 446 + 16 * index + 4, type, 1);
  PutLe(record, 446 + 16 * index + 8, start, 4);
  PutLe(record, 446 + 16 * index + 12, sectors, 4);
  PutLe(record, 510, 0xAA55, 2);
  return record;
}

class Fat32Test : public testing::Test {
 protected:
  void SetUp() override {
    if (!shop_.Run("which mkfs.fat && which mcopy")) GTEST_SKIP() << "install dosfstools and mtools";
  }

  // Formats the file `name` of this size. `mtools_` is how mtools refers to the volume.
  void Format(const std::string& name, uint64_t sectors, uint32_t sectors_per_cluster, uint64_t partition_start = 0) {
    ASSERT_TRUE(shop_.Run("rm -f " + name + " && truncate -s " + std::to_string((sectors + partition_start) * 512) +
                          " " + name + " && mkfs.fat -F 32 -a -s " + std::to_string(sectors_per_cluster) +
                          " --offset " + std::to_string(partition_start) + " " + name))
        << shop_.Log();
    mtools_ = name + "@@" + std::to_string(partition_start * 512);
    if (partition_start == 0) return;
    std::fstream image(shop_.Path(name), std::ios::binary | std::ios::in | std::ios::out);
    image << MasterBootRecord(0x0C, static_cast<uint32_t>(partition_start), static_cast<uint32_t>(sectors), 1);
  }

  std::unique_ptr<host::FileDevice> Open(const std::string& name) {
    auto device = host::FileDevice::Open(shop_.Path(name));
    EXPECT_TRUE(device) << device.error();
    return std::move(*device);
  }

  Workshop shop_;
  std::string mtools_;
  std::mt19937 random_{1};
};

TEST_F(Fat32Test, ListsAndReadsWhatMtoolsWrote) {
  struct {
    uint64_t sectors;
    uint32_t sectors_per_cluster;
    uint64_t partition_start;
  } cards[] = {{70000, 1, 0},     {70000, 1, 63},   {140000, 2, 2048},
               {600000, 8, 8192}, {4300000, 64, 0}, {8500000, 128, 1}};
  for (const auto& card : cards) {
    SCOPED_TRACE(testing::Message() << card.sectors << " sectors, " << card.sectors_per_cluster << " in a cluster");
    Format("card.img", card.sectors, card.sectors_per_cluster, card.partition_start);
    const size_t cluster = card.sectors_per_cluster * 512;
    std::map<std::string, std::string> files;
    // mtools cannot write a name that needs more entries than a cluster has.
    const std::string longest(card.sectors_per_cluster == 1 ? 150 : 255, 'n');
    const std::string names[] = {"UPPER.BIN",
                                 "lower.bin",
                                 "small.BIN",
                                 "NOEXT",
                                 "tiny-llm-float32.gguf",
                                 "a name, with. spaces and dots...x",
                                 "Zwölf Boxkämpfer.gguf",
                                 "日本語のモデル.gguf",
                                 "another model.gguf",
                                 longest,
                                 "exactly13char",
                                 "x.y"};
    for (const std::string& name : names) {
      const size_t sizes[] = {0, 1, 511, 512, 513, cluster - 1, cluster, cluster + 1, 3 * cluster, 100000, 123, 70001};
      files[name] = RandomText(sizes[files.size()], random_);
    }
    ASSERT_TRUE(shop_.Run("rm -rf in && mkdir in"));
    for (const auto& [name, contents] : files) shop_.Write("in/" + name, contents);
    ASSERT_TRUE(shop_.Run("mcopy -i " + mtools_ + " in/* :: && mmd -i " + mtools_ +
                          " ::folder ::LONG_FOLDER_NAME && mcopy -i " + mtools_ +
                          " in/x.y ::folder/inner.gguf && mlabel -i " + mtools_ + " ::LABEL && mcopy -i " + mtools_ +
                          " in/x.y ::hidden.gguf && mattrib -i " + mtools_ + " +h ::hidden.gguf && mcopy -i " +
                          mtools_ + " in/x.y ::system.gguf && mattrib -i " + mtools_ + " +s ::system.gguf"))
        << shop_.Log();

    const auto device = Open("card.img");
    Mounted mounted(*device);
    ASSERT_TRUE(mounted.volume()) << mounted.Sentence();
    EXPECT_EQ(mounted.volume()->cluster_bytes(), cluster);
    const auto entries = mounted.List();
    ASSERT_TRUE(entries) << Mounted::Sentence(entries.error());
    EXPECT_EQ(entries->size(), files.size());
    ASSERT_TRUE(shop_.Run("rm -rf out && mkdir out && mcopy -n -i " + mtools_ + " '::*' out")) << shop_.Log();
    for (const DirEntry& entry : *entries) {
      std::string name = entry.name.data();
      SCOPED_TRACE(name);
      ASSERT_TRUE(files.contains(name));
      EXPECT_EQ(entry.size_bytes, files[name].size());
      const auto contents = mounted.Read(entry);
      ASSERT_TRUE(contents) << Mounted::Sentence(contents.error());
      EXPECT_TRUE(*contents == files[name]);
      EXPECT_TRUE(*contents == shop_.Read("out/" + name));
      const auto map = mounted.Map(entry);
      EXPECT_EQ(map->extents.size(), files[name].empty() ? 0u : 1u) << "a fresh card has no fragments";
    }
  }
}

// mtools cannot be trusted with names of more than 255 bytes of UTF-8 (it fails now and then), so it writes letters,
// and each x of the long name's UTF-16 becomes U+8A9E here. The entries' checksum is of the short name and stays right.
TEST_F(Fat32Test, CutsALongNameBetweenCharacters) {
  Format("card.img", 70000, 1);
  shop_.Write("x", "x");
  const std::string letters = std::string(80, 'x') + std::string(14, 'a') + std::string(3, 'x');
  ASSERT_TRUE(shop_.Run("mcopy -i " + mtools_ + " x '::" + letters + "'")) << shop_.Log();
  std::string image = shop_.Read("card.img");
  int changed = 0;
  for (size_t entry = 0; entry + 32 <= image.size(); entry += 32) {
    const bool is_long_name = image[entry + 11] == 0x0f && image[entry + 12] == 0 && image[entry + 26] == 0;
    if (!is_long_name || (image[entry] & 0x3f) < 1 || (image[entry] & 0x3f) > 20) continue;
    for (const size_t at : {1u, 3u, 5u, 7u, 9u, 14u, 16u, 18u, 20u, 22u, 24u, 28u, 30u}) {
      if (image[entry + at] != 'x' || image[entry + at + 1] != 0) continue;
      image[entry + at] = '\x9e';
      image[entry + at + 1] = '\x8a';
      ++changed;
    }
  }
  ASSERT_EQ(changed, 83);
  shop_.Write("card.img", image);
  std::string expected;
  for (int i = 0; i < 80; ++i) expected += "語";  // 240 bytes
  expected += std::string(14, 'a');
  const auto device = Open("card.img");
  Mounted mounted(*device);
  const auto entries = mounted.List();
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 1u);
  EXPECT_STREQ((*entries)[0].name.data(), expected.c_str());
}

TEST_F(Fat32Test, ReadsFragmentedFiles) {
  Format("card.img", 70000, 1);
  shop_.Write("small", RandomText(512, random_));
  // Full, then every third file deleted: what is copied now lies in many pieces.
  ASSERT_TRUE(shop_.Run("i=0; while [ $i -lt 120 ]; do cp small s$i; i=$((i+1)); done; mcopy -i " + mtools_ +
                        " s* :: && mcopy -i " + mtools_ + " s1 ::last && rm s*"))
      << shop_.Log();
  // mcopy removes what did not fit, so fill the rest in halves.
  for (size_t bytes = 1 << 24; bytes >= 512; bytes /= 2) {
    shop_.Write("fill" + std::to_string(bytes), std::string(bytes, 'f'));
    for (int i = 0; i < 2; ++i) {
      shop_.Run("mcopy -n -i " + mtools_ + " fill" + std::to_string(bytes) + " ::f" + std::to_string(bytes) + "_" +
                std::to_string(i));
    }
  }
  ASSERT_TRUE(shop_.Run("i=0; while [ $i -lt 120 ]; do mdel -i " + mtools_ + " ::s$i; i=$((i+3)); done"))
      << shop_.Log();
  const std::string contents = RandomText(30 * 512 + 100, random_);
  shop_.Write("pieces.gguf", contents);
  ASSERT_TRUE(shop_.Run("mcopy -i " + mtools_ + " pieces.gguf ::")) << shop_.Log();
  ASSERT_TRUE(shop_.Run("mtype -i " + mtools_ + " ::pieces.gguf >out")) << shop_.Log();
  const auto device = Open("card.img");
  Mounted mounted(*device);
  ASSERT_TRUE(mounted.volume());
  const auto entries = mounted.List();
  ASSERT_TRUE(entries);
  const auto entry = std::find_if(entries->begin(), entries->end(),
                                  [](const DirEntry& e) { return std::string_view(e.name.data()) == "pieces.gguf"; });
  ASSERT_NE(entry, entries->end());
  const auto map = mounted.Map(*entry);
  ASSERT_TRUE(map) << Mounted::Sentence(map.error());
  const size_t pieces = map->extents.size();
  EXPECT_GE(pieces, 20u);
  uint64_t end = 0;
  for (const Extent& extent : map->extents) {
    EXPECT_EQ(extent.file_offset_bytes, end);
    end += extent.size_bytes;
  }
  EXPECT_EQ(end, contents.size());
  const auto read = mounted.Read(*entry, pieces);
  ASSERT_TRUE(read);
  EXPECT_TRUE(*read == contents);
  EXPECT_TRUE(*read == shop_.Read("out"));
  const auto too_many = mounted.Map(*entry, pieces - 1);
  ASSERT_FALSE(too_many);
  EXPECT_EQ(too_many.error().code, Code::kUnsupported);
  EXPECT_EQ(too_many.error().have, pieces);
  EXPECT_THAT(Mounted::Sentence(too_many.error()),
              HasSubstr("pieces.gguf lies in " + std::to_string(pieces) + " pieces"));
}

TEST_F(Fat32Test, ReadsARootFolderOfManyClusters) {
  Format("card.img", 70000, 1);
  // Names that begin differently, because mtools looks for a free short name one by one.
  ASSERT_TRUE(shop_.Run("mkdir in; i=0; while [ $i -lt 250 ]; do : >in/${i}" + std::string(150, 'z') +
                        "; i=$((i+1)); done; mcopy -i " + mtools_ + " in/* ::"))
      << shop_.Log();
  const auto device = Open("card.img");
  Mounted mounted(*device);
  const auto entries = mounted.List();
  ASSERT_TRUE(entries);
  EXPECT_EQ(entries->size(), 250u);
  int seen = 0;
  Result<Fat32> volume = mounted.volume();
  ASSERT_TRUE(volume->ListRoot([&](const DirEntry&) { return ++seen < 3; }));
  EXPECT_EQ(seen, 3);
}

TEST_F(Fat32Test, RefusesOtherFormatsByName) {
  struct {
    const char* make;
    uint32_t type;  // of the partition
    const char* says;
  } formats[] = {{"mkfs.exfat v", 0x07, "formatted as exFAT"},
                 {"mkntfs -F -Q -q v", 0x07, "formatted as NTFS"},
                 {"mkfs.fat -F 12 -s 8 v", 0x01, "formatted as FAT12"},
                 {"mkfs.fat -F 16 -s 4 v", 0x06, "formatted as FAT16"},
                 {"mkfs.fat -F 32 -s 1 -S 4096 v", 0x0C, "sectors of 4096 bytes"}};
  for (const auto& format : formats) {
    SCOPED_TRACE(format.make);
    ASSERT_TRUE(shop_.Run(std::string("rm -f v && truncate -s 12M v && ") + format.make)) << shop_.Log();
    const std::string volume = shop_.Read("v");
    // As a superfloppy, in a partition of its own type, and in one that claims to be FAT32.
    for (const std::string& image :
         {volume, MasterBootRecord(format.type, 8, 24576) + std::string(7 * 512, '\0') + volume,
          MasterBootRecord(0x0C, 8, 24576) + std::string(7 * 512, '\0') + volume}) {
      host::RamDevice device(std::as_bytes(std::span(image)));
      Mounted mounted(device);
      ASSERT_FALSE(mounted.volume());
      EXPECT_EQ(mounted.volume().error().code, Code::kUnsupported);
      EXPECT_THAT(mounted.Sentence(), testing::AllOf(HasSubstr(format.says), HasSubstr("FAT32")));
    }
  }
}

TEST(Fat32Boot, RefusesCardsWithoutAFat32Volume) {
  struct {
    std::string image;
    Code code;
    const char* says;
  } cards[] = {
      {std::string(1 << 16, '\0'), Code::kNotFound, "no volume"},
      {std::string(1 << 16, 'x'), Code::kNotFound, "no volume"},
      {MasterBootRecord(0, 0, 0), Code::kNotFound, "partition table is empty"},
      {MasterBootRecord(0xEE, 1, 127), Code::kUnsupported, "GUID partition table"},
      {MasterBootRecord(0x83, 1, 100), Code::kUnsupported, "of type 131"},
      {MasterBootRecord(0x07, 1, 100), Code::kUnsupported, "of type 7"},
      {MasterBootRecord(0x07, 1, 100000), Code::kUnsupported, "of type 7"},
      {MasterBootRecord(0x01, 1, 100), Code::kUnsupported, "FAT12"},
      {MasterBootRecord(0x0E, 1, 100), Code::kUnsupported, "FAT16"},
      {MasterBootRecord(0x0C, 1, 100000), Code::kCorrupt, "ends at sector 100001, and the card has 128"},
      {MasterBootRecord(0x0B, 0xffffffff, 0xffffffff), Code::kCorrupt, "ends at sector 8589934590"},
      {MasterBootRecord(0x0C, 0, 100), Code::kCorrupt, "ends at sector 100"},
      {MasterBootRecord(0x0C, 1, 0), Code::kCorrupt, "ends at sector 1"},
      {MasterBootRecord(0x0C, 1, 100), Code::kCorrupt, "at byte 512 is no boot sector"},
  };
  for (auto& card : cards) {
    card.image.resize(1 << 16);
    host::RamDevice device(std::as_bytes(std::span(card.image)));
    Mounted mounted(device);
    ASSERT_FALSE(mounted.volume()) << card.says;
    EXPECT_EQ(mounted.volume().error().code, card.code) << card.says;
    EXPECT_THAT(mounted.Sentence(), HasSubstr(card.says));
  }
}

// A card with three files, held in memory to be damaged and repaired.
class DamagedCard : public Fat32Test {
 protected:
  static constexpr size_t kBoot = 8 * 512;  // the partition begins here

  void SetUp() override {
    Fat32Test::SetUp();
    if (IsSkipped()) return;
    Format("card.img", 70000, 1, 8);
    for (const char* name : {"one.gguf", "a long name for two.gguf", "three"}) {
      contents_.push_back(RandomText(2000 + 700 * contents_.size(), random_));
      shop_.Write(name, contents_.back());
      ASSERT_TRUE(shop_.Run("mcopy -i " + mtools_ + " '" + name + "' ::")) << shop_.Log();
    }
    const std::string image = shop_.Read("card.img");
    device_ = std::make_unique<host::RamDevice>(std::as_bytes(std::span(image)));
    fat_ = kBoot + 512 * Get(kBoot + 14, 2);
    fat_bytes_ = 512 * Get(kBoot + 36, 4);
    data_ = fat_ + 2 * fat_bytes_;
  }

  size_t FatEntry(uint32_t cluster) const { return fat_ + 4 * cluster; }
  size_t Cluster(uint32_t cluster) const { return data_ + 512 * (cluster - 2); }

  uint32_t Get(size_t offset, size_t size) const {
    return GetLe({reinterpret_cast<const char*>(device_->bytes().data()) + offset, size}, 0, size);
  }
  void Put(size_t offset, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      std::byte& byte = device_->bytes()[offset + i];
      undo_.emplace_back(offset + i, byte);
      byte = static_cast<std::byte>(value >> (8 * i));
    }
  }
  void Flip(size_t offset, uint32_t bits) { Put(offset, Get(offset, 1) ^ bits, 1); }
  void Repair() {
    for (; !undo_.empty(); undo_.pop_back()) device_->bytes()[undo_.back().first] = undo_.back().second;
  }
  // Where in the root folder the short name begins with these letters.
  size_t FindEntry(std::string_view letters) const {
    size_t at = Cluster(2);
    while (std::memcmp(device_->bytes().data() + at, letters.data(), letters.size()) != 0) at += 32;
    return at;
  }

  // Every byte of all files; returns the first sentence that says why not, or nothing.
  std::string ReadAll(std::vector<std::string>& contents) const {
    Mounted mounted(*device_);
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
  std::string ReadAll() const {
    std::vector<std::string> contents;
    return ReadAll(contents);
  }
  std::vector<std::string> Names() const {
    Mounted mounted(*device_);
    std::vector<std::string> names;
    const auto entries = mounted.List();
    if (!entries) return {Mounted::Sentence(entries.error())};
    for (const DirEntry& entry : *entries) names.push_back(entry.name.data());
    return names;
  }

  std::unique_ptr<host::RamDevice> device_;
  std::vector<std::pair<size_t, std::byte>> undo_;
  std::vector<std::string> contents_;
  size_t fat_ = 0, fat_bytes_ = 0, data_ = 0;
};

TEST_F(DamagedCard, IsReadWhenItIsWhole) {
  std::vector<std::string> contents;
  EXPECT_EQ(ReadAll(contents), "");
  EXPECT_EQ(contents, contents_);
}

TEST_F(DamagedCard, EveryFieldOfTheBootSectorIsChecked) {
  struct {
    size_t offset, size;
    uint64_t value;
    const char* says;
  } fields[] = {
      {11, 2, 0, "sectors of 0 bytes"},
      {11, 2, 513, "sectors of 513 bytes"},
      {11, 2, 2048, "sectors of 2048 bytes"},
      {13, 1, 0, "0 sectors in a cluster"},
      {13, 1, 3, "3 sectors in a cluster"},
      {14, 2, 0, "no reserved sectors"},
      {16, 1, 0, "0 allocation tables"},
      {16, 1, 3, "3 allocation tables"},
      {17, 2, 512, "fields of FAT16 are in use (512)"},
      {19, 2, 2000, "fields of FAT16 are in use (2000)"},
      {22, 2, 8, "formatted as FAT16"},
      {32, 4, 0, "allocation tables of"},
      {32, 4, 70001, "has 70001 sectors, and there is room for 70000"},
      {32, 4, 0xffffffff, "has 4294967295 sectors"},
      {36, 4, 0, "allocation tables of 0 sectors"},
      {36, 4, 1, "and an allocation table for 126"},
      {36, 4, 0xffffffff, "allocation tables of 4294967295 sectors"},
      {40, 2, 0x82, "allocation table 2 of 2"},
      {42, 2, 1, "later version"},
      {44, 4, 0, "the root folder is in cluster 0"},
      {44, 4, 1, "the root folder is in cluster 1"},
      {44, 4, 70000, "the root folder is in cluster 70000"},
      {44, 4, 0xffffffff, "the root folder is in cluster 4294967295"},
      {510, 2, 0, "is no boot sector"},
  };
  for (const auto& field : fields) {
    Put(kBoot + field.offset, field.value, field.size);
    EXPECT_THAT(ReadAll(), HasSubstr(field.says)) << field.offset;
    Repair();
  }
}

TEST_F(DamagedCard, AnyChangedByteOfTheBootSectorsIsRefusedOrHarmless) {
  int refused = 0, harmless = 0;
  for (const size_t sector : {size_t{0}, kBoot}) {
    for (size_t at = 0; at < 512; ++at) {
      for (uint32_t change : {1u, 4u, 16u, 128u, 255u}) {
        Flip(sector + at, change);
        std::vector<std::string> contents;
        const std::string sentence = ReadAll(contents);
        sentence.empty() ? ++harmless : ++refused;
        // A volume that says that its tables or its root folder lie elsewhere may hold anything.
        const bool says_where = sector == kBoot && ((at >= 13 && at <= 16) || (at >= 36 && at < 48));
        if (!contents.empty() && !says_where) {
          EXPECT_TRUE(contents == contents_) << sector << " " << at;
        }
        Repair();
      }
    }
  }
  EXPECT_GT(refused, 60);
  EXPECT_GT(harmless, 1000);
}

TEST_F(DamagedCard, ChainsAreChecked) {
  // mtools puts the root folder into cluster 2, the files behind it.
  const uint32_t first = 3;
  struct {
    uint32_t cluster, next;
    const char* says;
  } links[] = {
      {first, 0, "one.gguf is damaged: after cluster 3 its chain goes on in cluster 0"},
      {first, 1, "one.gguf is damaged: after cluster 3 its chain goes on in cluster 1"},
      {first + 1, 0x0FFFFFF7, "one.gguf is damaged: after cluster 4 its chain goes on in cluster 268435447"},
      {first + 1, 0x00FFFFFF, "one.gguf is damaged: after cluster 4"},
      {first, first, "one.gguf is damaged: its chain of clusters comes back to cluster 3"},
      {first + 2, first, "one.gguf is damaged: its chain of clusters comes back to cluster 3"},
      {first + 2, first + 1, "one.gguf is damaged: its chain of clusters comes back to cluster 4"},
      {first + 1, 0x0FFFFFFF, "one.gguf is cut off: it has 2 of its 4 clusters"},
      {first + 3, first + 4, "one.gguf is damaged: its chain of clusters goes on after its 4 clusters"},
      {first + 3, first, "one.gguf is damaged: its chain of clusters goes on after its 4 clusters"},
      {2, 2, "the root folder is damaged: its chain of clusters does not end"},
      {2, 1, "the root folder is damaged: after cluster 2"},
  };
  for (const auto& link : links) {
    Put(FatEntry(link.cluster), link.next, 4);
    if (link.cluster == 2) {
      // Deleted entries to the end, so that the next cluster of the folder is looked for.
      for (size_t at = Cluster(2); at < Cluster(3); at += 32) Put(at, 0xE5, 1);
    }
    EXPECT_THAT(ReadAll(), HasSubstr(link.says));
    Repair();
  }
  // The upper four bits of an entry are not part of it.
  for (uint32_t cluster = 2; cluster < 20; ++cluster) Flip(FatEntry(cluster) + 3, 0xF0);
  EXPECT_EQ(ReadAll(), "");
}

TEST_F(DamagedCard, FolderEntriesAreChecked) {
  const size_t entry = FindEntry("ONE");
  struct {
    size_t offset, size;
    uint64_t value;
    const char* says;
  } fields[] = {
      {26, 2, 0, "one.gguf is cut off: it has 0 of its 4"}, {26, 2, 1, "begins in cluster 1"},
      {20, 2, 0x0FFF, "begins in cluster 268369923"},       {28, 4, 0xffffffff, "more than the volume"},
      {28, 4, 2049, "is cut off: it has 4 of its 5"},       {28, 4, 1536, "goes on after its 3 clusters"},
  };
  for (const auto& field : fields) {
    Put(entry + field.offset, field.value, field.size);
    EXPECT_THAT(ReadAll(), HasSubstr(field.says));
    Repair();
  }
}

TEST_F(DamagedCard, ABrokenLongNameGivesTheShortOne) {
  EXPECT_THAT(Names(), testing::ElementsAre("one.gguf", "a long name for two.gguf", "three"));
  const size_t entry = FindEntry("ALONG");
  for (const size_t part : {entry - 32, entry - 64}) {
    for (const size_t at : {size_t{0}, size_t{13}}) {
      Flip(part + at, 0x04);
      EXPECT_THAT(Names(), testing::ElementsAre("one.gguf", "ALONGN~1.GGU", "three"));
      Repair();
    }
  }
  // A pair of surrogates, and one alone.
  Put(entry - 32 + 1, 0xD800, 2);
  Put(entry - 32 + 3, 0xDC00, 2);
  Put(entry - 32 + 5, 0xDC00, 2);
  EXPECT_EQ(Names()[1], "\U00010000\uFFFDong name for two.gguf");
  Repair();
  // A name has 20 parts at most.
  Put(entry - 64, 0x40 | 21, 1);
  EXPECT_THAT(Names(), testing::ElementsAre("one.gguf", "ALONGN~1.GGU", "three"));
}

TEST_F(DamagedCard, TheTableInUseIsTheOneThatIsRead) {
  Put(kBoot + 40, 0x81, 2);
  for (size_t at = fat_; at < fat_ + 100; ++at) Put(at, 0, 1);
  EXPECT_EQ(ReadAll(), "");
  Put(kBoot + 40, 0, 2);
  EXPECT_NE(ReadAll(), "");
}

// With scratch of any size, so that differences lie at all places of a piece; large pieces are few reads.
TEST_F(DamagedCard, TablesAreComparedClusterByCluster) {
  std::vector<std::byte> memory(1 << 20);
  const auto compare = [&](size_t scratch_bytes) {
    Mounted mounted(*device_);
    device_->ClearReads();
    Result<Fat32> volume = mounted.volume();
    const auto same = volume->CompareTables(std::span(memory).first(scratch_bytes));
    return same ? std::string("same") : Mounted::Sentence(same.error());
  };
  EXPECT_EQ(compare(1 << 20), "same");
  EXPECT_EQ(device_->reads().size(), 2u);
  EXPECT_THAT(compare(2048), HasSubstr("too small"));
  for (const size_t scratch : {4096u, 10'000u, 100'000u}) {
    EXPECT_EQ(compare(scratch), "same");
    for (const uint32_t cluster : {2u, 3u, 255u, 256u, 257u, 40'000u, 65'000u}) {
      for (const size_t table : {fat_, fat_ + fat_bytes_}) {
        Flip(table + 4 * cluster, 1);
        EXPECT_THAT(compare(scratch), HasSubstr("differ at cluster " + std::to_string(cluster) + " (byte " +
                                                std::to_string(fat_ + fat_bytes_ + 4 * cluster) + " of the card)"));
        Repair();
      }
    }
    // Flags in the first two entries, reserved bits, and what lies behind the last cluster.
    for (const size_t offset : {size_t{1}, size_t{7}, size_t{11}, fat_bytes_ - 1})
      Flip(fat_ + fat_bytes_ + offset, 0x80);
    EXPECT_EQ(compare(scratch), "same");
    Repair();
  }
}

TEST_F(DamagedCard, ReadsAreRetriedLikeAllOthers) {
  host::FaultyDevice faulty(*device_, {{.times = 2}});
  Mounted mounted(faulty);
  ASSERT_TRUE(mounted.volume());
  EXPECT_EQ(mounted.ledger().retries, 2u);
  faulty.Add({.times = host::Fault::kForever});
  const auto entries = mounted.List();
  ASSERT_FALSE(entries);
  EXPECT_EQ(entries.error().code, Code::kIo);
}

TEST_F(DamagedCard, WorksOnDevicesWithLargeBlocks) {
  host::RamDevice misaligned(device_->bytes(), 4096);
  Mounted refused(misaligned);
  ASSERT_FALSE(refused.volume());
  EXPECT_THAT(refused.Sentence(), HasSubstr("blocks of 4096 bytes"));

  ASSERT_TRUE(
      shop_.Run("truncate -s 300M big.img && mkfs.fat -F 32 -s 8 -R 32 big.img && mcopy -i big.img one.gguf ::"))
      << shop_.Log();
  // The boot sectors, the tables and the first clusters: all that is in use. The volume says how large it is.
  std::string image = shop_.Read("big.img").substr(0, 8 << 20);
  PutLe(image, 32, image.size() / 512, 4);
  host::RamDevice device(std::as_bytes(std::span(image)), 4096, 64);
  Mounted mounted(device);
  ASSERT_TRUE(mounted.volume()) << mounted.Sentence();
  const auto entries = mounted.List();
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 1u);
  const auto read = mounted.Read((*entries)[0]);
  ASSERT_TRUE(read);
  EXPECT_TRUE(*read == contents_[0]);
}

}  // namespace
}  // namespace thimble::storage
