// Files put onto an exFAT volume that mkfs.exfat made, cluster by cluster: what no tool can do without mounting it.
#ifndef THIMBLE_TESTS_SUPPORT_EXFAT_CARD_H_
#define THIMBLE_TESTS_SUPPORT_EXFAT_CARD_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thimble::tests {

// A volume in memory. fsck.exfat agrees with what is put there, as long as nothing is asked for that is wrong on
// purpose. After Microsoft, "exFAT file system specification"; section numbers are its.
class ExFatCard {
 public:
  struct Folder {
    std::vector<uint32_t> clusters;
    size_t used_bytes = 0;
  };
  struct Item {
    std::u16string name;
    std::string contents = {};
    std::vector<uint32_t> clusters = {};    // empty: Free() ones
    bool has_chain = false;                 // its clusters stand in the allocation table
    uint32_t attributes = 0x20;             // 10: a folder
    uint64_t written_bytes = ~uint64_t{0};  // valid data length, if it is less than all
    size_t vendor_entries = 0;              // benign ones, behind the name
  };

  // `image` has the volume at this byte.
  explicit ExFatCard(std::string image, size_t volume_bytes = 0);

  const std::string& image() const { return image_; }
  std::string& image() { return image_; }
  Folder& root() { return root_; }
  uint32_t cluster_bytes() const { return 1u << cluster_shift_; }
  uint32_t cluster_count() const { return cluster_count_; }
  size_t ClusterAt(uint32_t cluster) const { return heap_ + (size_t{cluster - 2} << cluster_shift_); }
  size_t TableEntryAt(uint32_t cluster) const { return fat_ + 4 * size_t{cluster}; }

  // Returns where in the image the item's first entry stands; the next ones follow, 32 bytes each, as far as the
  // cluster goes.
  size_t Add(Folder& folder, const Item& item);

  // A folder of so many clusters in `folder`.
  Folder AddFolder(Folder& folder, const std::u16string& name, std::vector<uint32_t> clusters, bool has_chain);

  // The first `count` clusters that follow one another and are free; they stay so.
  std::vector<uint32_t> Free(size_t count) const;

  uint64_t Get(size_t offset, size_t size) const;
  void Put(size_t offset, uint64_t value, size_t size);

  // Writes the checksum of the set of entries at `offset` anew (6.3.3), after a change.
  void SealEntries(size_t offset);

 private:
  void Take(const std::vector<uint32_t>& clusters, bool has_chain);
  size_t NextEntryAt(Folder& folder);
  uint16_t NameHash(std::u16string_view name) const;

  std::string image_;
  uint32_t cluster_shift_ = 0;
  uint32_t cluster_count_ = 0;
  size_t fat_ = 0, heap_ = 0, bitmap_ = 0;
  std::vector<uint16_t> capitals_;
  Folder root_;
};

// Writes the image of a card whose second partition, of Linux's type, is an exFAT volume of so many MiB with these
// items in its root folder, the first one an empty FAT32 volume. False: mkfs.exfat or mkfs.fat is not there.
bool MakeExFatCard(const std::string& path, int mib, const std::vector<ExFatCard::Item>& items);

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_EXFAT_CARD_H_
