#include "firmware/app/volume.h"

namespace thimble::firmware {

Result<void> Volume::Mount(card::BlockDevice& device) {
  fat_.reset();
  device_ = &device;
  whole_ = card::WholeDevice(device);
  disk_.emplace(device, card::FileMap{.extents = {&whole_, 1}, .size_bytes = whole_.size_bytes}, ledger_);
  THIMBLE_ASSIGN(fat_, card::Fat32::Mount(*disk_, sector_));
  return {};
}

Result<card::DirEntry> Volume::Find(std::string_view name) {
  card::DirEntry found;
  bool is_there = false;
  THIMBLE_TRY(fat_->ListRoot([&](const card::DirEntry& entry) {
    is_there = card::SameName(entry.name.data(), name);
    if (is_there) found = entry;
    return !is_there;
  }));
  if (is_there) return found;
  return Fail(Error{.code = Code::kNotFound, .what = "the card has no file {name} in its root folder"}.Named(name));
}

Result<std::string_view> Volume::ReadText(std::string_view name, std::span<char> out) {
  THIMBLE_ASSIGN(const card::DirEntry entry, Find(name));
  if (entry.size_bytes > out.size()) {
    return Fail(Error{.code = Code::kUnsupported,
                      .what = "{name} has {have} bytes; {need} at most are read",
                      .have = entry.size_bytes,
                      .need = out.size()}
                    .Named(name));
  }
  std::array<card::Extent, 16> extents;
  THIMBLE_ASSIGN(const card::FileMap map, fat_->MapFile(entry, extents));
  card::FileReader reader(*device_, map, ledger_);
  card::ByteReader bytes(reader, text_);
  const std::span<char> text = out.first(static_cast<size_t>(entry.size_bytes));
  THIMBLE_TRY(bytes.Read(std::as_writable_bytes(text)));
  return std::string_view(text.data(), text.size());
}

}  // namespace thimble::firmware
