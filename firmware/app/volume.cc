#include "firmware/app/volume.h"

namespace thimble::firmware {

Result<void> Volume::Mount(storage::BlockDevice& device) {
  fat_.reset();
  device_ = &device;
  whole_ = storage::WholeDevice(device);
  disk_.emplace(device, storage::FileMap{.extents = {&whole_, 1}, .size_bytes = whole_.size_bytes}, ledger_);
  THIMBLE_ASSIGN(fat_, storage::Fat32::Mount(*disk_, sector_));
  return {};
}

Result<storage::DirEntry> Volume::Find(std::string_view name) {
  storage::DirEntry found;
  bool is_there = false;
  THIMBLE_TRY(fat_->ListRoot([&](const storage::DirEntry& entry) {
    is_there = storage::SameName(entry.name.data(), name);
    if (is_there) found = entry;
    return !is_there;
  }));
  if (is_there) return found;
  return Fail(Error{.code = Code::kNotFound, .what = "the card has no file {name} in its root folder"}.Named(name));
}

Result<std::string_view> Volume::ReadText(std::string_view name, std::span<char> out) {
  THIMBLE_ASSIGN(const storage::DirEntry entry, Find(name));
  if (entry.size_bytes > out.size()) {
    return Fail(Error{.code = Code::kUnsupported,
                      .what = "{name} has {have} bytes; {need} at most are read",
                      .have = entry.size_bytes,
                      .need = out.size()}
                    .Named(name));
  }
  std::array<storage::Extent, 16> extents;
  THIMBLE_ASSIGN(const storage::FileMap map, fat_->MapFile(entry, extents));
  storage::FileReader reader(*device_, map, ledger_);
  storage::ByteReader bytes(reader, text_);
  const std::span<char> text = out.first(static_cast<size_t>(entry.size_bytes));
  THIMBLE_TRY(bytes.Read(std::as_writable_bytes(text)));
  return std::string_view(text.data(), text.size());
}

}  // namespace thimble::firmware
