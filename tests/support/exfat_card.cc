#include "tests/support/exfat_card.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

namespace thimble::tests {

namespace {

// The checksum of a file's entries (6.3.3).
uint16_t SetChecksum(std::string_view entries) {
  uint16_t sum = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i == 2 || i == 3) continue;
    sum = static_cast<uint16_t>(((sum & 1) << 15) + (sum >> 1) + static_cast<uint8_t>(entries[i]));
  }
  return sum;
}

}  // namespace

ExFatCard::ExFatCard(std::string image, size_t volume_bytes) : image_(std::move(image)) {
  const size_t boot = volume_bytes;
  const auto sector_shift = static_cast<uint32_t>(Get(boot + 108, 1));
  cluster_shift_ = sector_shift + static_cast<uint32_t>(Get(boot + 109, 1));
  cluster_count_ = static_cast<uint32_t>(Get(boot + 92, 4));
  fat_ = boot + static_cast<size_t>(Get(boot + 80, 4) << sector_shift);
  heap_ = boot + static_cast<size_t>(Get(boot + 88, 4) << sector_shift);
  for (auto cluster = static_cast<uint32_t>(Get(boot + 96, 4)); cluster < 0xFFFFFFF7;
       cluster = static_cast<uint32_t>(Get(TableEntryAt(cluster), 4))) {
    root_.clusters.push_back(cluster);
  }
  // What mkfs.exfat leaves in the root folder: bitmap, capital letters, perhaps a label.
  for (size_t at = ClusterAt(root_.clusters[0]); image_[at] != 0; at += 32, root_.used_bytes += 32) {
    const size_t data = ClusterAt(static_cast<uint32_t>(Get(at + 20, 4)));
    if (Get(at, 1) == 0x81) bitmap_ = data;
    if (Get(at, 1) != 0x82) continue;
    const size_t units = static_cast<size_t>(Get(at + 24, 8)) / 2;
    for (size_t i = 0; i < units; ++i) {
      const auto unit = static_cast<uint16_t>(Get(data + 2 * i, 2));
      if (unit != 0xFFFF || i + 1 == units) {
        capitals_.push_back(unit);
        continue;
      }
      // So many letters stay as they are.
      for (auto left = static_cast<size_t>(Get(data + 2 * ++i, 2)); left > 0; --left) {
        capitals_.push_back(static_cast<uint16_t>(capitals_.size()));
      }
    }
  }
}

uint64_t ExFatCard::Get(size_t offset, size_t size) const {
  uint64_t value = 0;
  for (size_t i = size; i > 0; --i) value = value << 8 | static_cast<uint8_t>(image_.at(offset + i - 1));
  return value;
}

void ExFatCard::Put(size_t offset, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) image_.at(offset + i) = static_cast<char>(value >> (8 * i));
}

std::vector<uint32_t> ExFatCard::Free(size_t count) const {
  std::vector<uint32_t> clusters;
  for (uint32_t i = 0; i < cluster_count_ && clusters.size() < count; ++i) {
    if ((Get(bitmap_ + i / 8, 1) >> (i % 8) & 1) == 0) {
      clusters.push_back(i + 2);
    } else {
      clusters.clear();
    }
  }
  return clusters;
}

void ExFatCard::Take(const std::vector<uint32_t>& clusters, bool has_chain) {
  for (size_t i = 0; i < clusters.size(); ++i) {
    const uint32_t bit = clusters[i] - 2;
    Put(bitmap_ + bit / 8, Get(bitmap_ + bit / 8, 1) | 1u << (bit % 8), 1);
    if (has_chain) Put(TableEntryAt(clusters[i]), i + 1 < clusters.size() ? clusters[i + 1] : 0xFFFFFFFF, 4);
  }
}

size_t ExFatCard::NextEntryAt(Folder& folder) {
  const size_t index = folder.used_bytes >> cluster_shift_;
  if (index == folder.clusters.size()) {
    // Only the root folder grows: other folders have a length.
    const uint32_t more = Free(1)[0];
    Put(TableEntryAt(folder.clusters.back()), more, 4);
    Take({more}, true);
    folder.clusters.push_back(more);
  }
  const size_t at = ClusterAt(folder.clusters[index]) + folder.used_bytes % cluster_bytes();
  folder.used_bytes += 32;
  return at;
}

// 7.6.4.
uint16_t ExFatCard::NameHash(std::u16string_view name) const {
  uint16_t hash = 0;
  for (const char16_t c : name) {
    const uint16_t capital = c < capitals_.size() ? capitals_[c] : static_cast<uint16_t>(c);
    for (const uint32_t byte : {capital & 0xFFu, capital >> 8 & 0xFFu}) {
      hash = static_cast<uint16_t>(((hash & 1) << 15) + (hash >> 1) + byte);
    }
  }
  return hash;
}

void ExFatCard::SealEntries(size_t offset) {
  const size_t entries = 1 + static_cast<size_t>(Get(offset + 1, 1));
  Put(offset + 2, SetChecksum(std::string_view(image_).substr(offset, 32 * entries)), 2);
}

size_t ExFatCard::Add(Folder& folder, const Item& item) {
  const size_t needed = (item.contents.size() + cluster_bytes() - 1) >> cluster_shift_;
  const std::vector<uint32_t> clusters = item.clusters.empty() ? Free(needed) : item.clusters;
  Take(clusters, item.has_chain);
  for (size_t i = 0; i < needed; ++i) {
    const std::string_view piece = std::string_view(item.contents).substr(i << cluster_shift_, cluster_bytes());
    std::ranges::copy(piece, image_.begin() + static_cast<std::ptrdiff_t>(ClusterAt(clusters[i])));
  }

  const size_t names = (item.name.size() + 14) / 15;
  const size_t count = 1 + names + item.vendor_entries;  // after the first
  std::string entries(32 * (1 + count), '\0');
  const auto put = [&](size_t offset, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) entries[offset + i] = static_cast<char>(value >> (8 * i));
  };
  put(0, 0x85, 1);
  put(1, count, 1);
  put(4, item.attributes, 2);
  for (const size_t time : {8, 12, 16}) put(time, 0x5a210000, 4);  // 2025-01-01
  for (const size_t zone : {22, 23, 24}) put(zone, 0x80, 1);
  put(32, 0xC0, 1);
  put(32 + 1, clusters.empty() ? 1 : item.has_chain ? 1 : 3, 1);
  put(32 + 3, item.name.size(), 1);
  put(32 + 4, NameHash(item.name), 2);
  put(32 + 8, std::min<uint64_t>(item.written_bytes, item.contents.size()), 8);
  put(32 + 20, clusters.empty() ? 0 : clusters[0], 4);
  put(32 + 24, item.contents.size(), 8);
  for (size_t i = 0; i < names; ++i) {
    put(64 + 32 * i, 0xC1, 1);
    for (size_t j = 0; j < 15 && 15 * i + j < item.name.size(); ++j)
      put(64 + 32 * i + 2 + 2 * j, item.name[15 * i + j], 2);
  }
  for (size_t i = 0; i < item.vendor_entries; ++i) put(64 + 32 * (names + i), 0xE0, 1);
  put(2, SetChecksum(entries), 2);
  size_t first = 0;
  for (size_t i = 0; i <= count; ++i) {
    const size_t at = NextEntryAt(folder);
    if (i == 0) first = at;
    image_.replace(at, 32, entries, 32 * i, 32);
  }
  return first;
}

ExFatCard::Folder ExFatCard::AddFolder(Folder& folder, const std::u16string& name, std::vector<uint32_t> clusters,
                                       bool has_chain) {
  Add(folder, {.name = name,
               .contents = std::string(clusters.size() << cluster_shift_, '\0'),
               .clusters = clusters,
               .has_chain = has_chain,
               .attributes = 0x10});
  return {.clusters = std::move(clusters)};
}

bool MakeExFatCard(const std::string& path, int mib, const std::vector<ExFatCard::Item>& items) {
  constexpr size_t kFat32Sector = 2048, kFat32Sectors = 66'600, kExFatSector = 69'632;
  const std::string size = std::to_string(kFat32Sector + kFat32Sectors);
  const std::string commands = "PATH=$PATH:/usr/sbin:/sbin; truncate -s " + std::to_string(mib) + "M '" + path +
                               ".v' && mkfs.exfat -c 4K '" + path + ".v' && truncate -s $((512 * " + size + ")) '" +
                               path + "' && mkfs.fat -F 32 -s 1 --offset " + std::to_string(kFat32Sector) + " '" +
                               path + "'";
  if (std::system(("{ " + commands + "; } >/dev/null 2>&1").c_str()) != 0) return false;
  const auto read = [](const std::string& name) {
    std::ifstream file(name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  ExFatCard card(read(path + ".v"));
  for (const ExFatCard::Item& item : items) card.Add(card.root(), item);
  std::string image = read(path);
  image.resize(kExFatSector * 512);
  const auto put = [&](size_t offset, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) image[offset + i] = static_cast<char>(value >> (8 * i));
  };
  put(446 + 4, 0x0C, 1);
  put(446 + 8, kFat32Sector, 4);
  put(446 + 12, kFat32Sectors, 4);
  put(462 + 4, 0x83, 1);
  put(462 + 8, kExFatSector, 4);
  put(462 + 12, card.image().size() / 512, 4);
  put(510, 0xAA55, 2);
  image += card.image();
  std::ofstream(path, std::ios::binary).write(image.data(), static_cast<std::streamsize>(image.size()));
  return std::remove((path + ".v").c_str()) == 0;
}

}  // namespace thimble::tests
