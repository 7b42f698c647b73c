// Cards in tests: a folder with the tools that make them, and a mounted volume with what a caller has to bring.
#ifndef THIMBLE_TESTS_SUPPORT_MOUNTED_CARD_H_
#define THIMBLE_TESTS_SUPPORT_MOUNTED_CARD_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/storage/volume.h"

namespace thimble::tests {

// A folder of its own for each test, and the tools that make cards.
class Workshop {
 public:
  Workshop() : folder_(std::filesystem::path(testing::TempDir()) / ("card_" + std::to_string(getpid()))) {
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
  explicit Mounted(storage::BlockDevice& device)
      : sectors_(device, std::span(sector_).first(device.geometry().block_bytes), ledger_),
        device_(&device),
        volume_(storage::Volume::Mount(sectors_)) {}

  const Result<storage::Volume>& volume() const { return volume_; }
  const Ledger& ledger() const { return ledger_; }

  std::string Sentence() const { return volume_ ? "" : Sentence(volume_.error()); }
  static std::string Sentence(const Error& error) {
    char text[300];
    return std::string(text, FormatError(error, text));
  }

  Result<std::vector<storage::DirEntry>> List() {
    std::vector<storage::DirEntry> entries;
    THIMBLE_TRY(volume_->ListRoot([&](const storage::DirEntry& entry) {
      entries.push_back(entry);
      return true;
    }));
    return entries;
  }

  Result<storage::FileMap> Map(const storage::DirEntry& entry, size_t max_extents = storage::kUsualExtents) {
    extents_.assign(max_extents, storage::Extent{});
    return volume_->MapFile(entry, extents_);
  }

  // The file's bytes, read through its extents.
  Result<std::string> Read(const storage::DirEntry& entry, size_t max_extents = storage::kUsualExtents) {
    THIMBLE_ASSIGN(const storage::FileMap map, Map(entry, max_extents));
    storage::FileReader reader(*device_, map, ledger_);
    std::string contents(static_cast<size_t>(map.size_bytes), '\0');
    alignas(64) std::byte buffer[8192];
    storage::ByteReader bytes(reader, buffer);
    THIMBLE_TRY(bytes.Read(std::as_writable_bytes(std::span(contents))));
    return contents;
  }

 private:
  alignas(64) std::byte sector_[4096];
  Ledger ledger_;
  storage::Sectors sectors_;
  storage::BlockDevice* device_;
  Result<storage::Volume> volume_;
  std::vector<storage::Extent> extents_;
};

inline std::string RandomText(size_t size, std::mt19937& random) {
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

inline void PutLe(std::string& image, size_t offset, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) image[offset + i] = static_cast<char>(value >> (8 * i));
}
inline uint32_t GetLe(std::string_view image, size_t offset, size_t size) {
  uint32_t value = 0;
  for (size_t i = size; i > 0; --i) value = value << 8 | static_cast<uint8_t>(image[offset + i - 1]);
  return value;
}

inline std::string MasterBootRecord(uint32_t type, uint32_t start, uint32_t sectors, size_t index = 0) {
  std::string record(512, '\0');
  PutLe(record, 446 + 16 * index + 4, type, 1);
  PutLe(record, 446 + 16 * index + 8, start, 4);
  PutLe(record, 446 + 16 * index + 12, sectors, 4);
  PutLe(record, 510, 0xAA55, 2);
  return record;
}

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_MOUNTED_CARD_H_
