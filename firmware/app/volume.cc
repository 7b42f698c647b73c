#include "firmware/app/volume.h"

#include "engine/formats/card_models.h"

namespace thimble::firmware {

Result<void> MountedVolume::Mount(storage::BlockDevice& device) {
  volume_.reset();
  device_ = &device;
  sectors_.emplace(device, sector_, ledger_);
  THIMBLE_ASSIGN(volume_, formats::MountModels(*sectors_));
  return {};
}

Result<storage::DirEntry> MountedVolume::Find(std::string_view name) {
  storage::DirEntry found;
  bool is_there = false;
  THIMBLE_TRY(volume_->ListRoot([&](const storage::DirEntry& entry) {
    is_there = storage::SameName(entry.name.data(), name);
    if (is_there) found = entry;
    return !is_there;
  }));
  if (is_there) return found;
  return Fail(Error{.code = Code::kNotFound, .what = "the card has no file {name} in its root folder"}.Named(name));
}

Result<std::string_view> MountedVolume::ReadText(std::string_view name, std::span<char> out) {
  THIMBLE_ASSIGN(const storage::DirEntry entry, Find(name));
  if (entry.size_bytes > out.size()) {
    return Fail(Error{.code = Code::kUnsupported,
                      .what = "{name} has {have} bytes; {need} at most are read",
                      .have = entry.size_bytes,
                      .need = out.size()}
                    .Named(name));
  }
  std::array<storage::Extent, 16> extents;
  THIMBLE_ASSIGN(const storage::FileMap map, volume_->MapFile(entry, extents));
  storage::FileReader reader(*device_, map, ledger_);
  storage::ByteReader bytes(reader, text_);
  const std::span<char> text = out.first(static_cast<size_t>(entry.size_bytes));
  THIMBLE_TRY(bytes.Read(std::as_writable_bytes(text)));
  return std::string_view(text.data(), text.size());
}

}  // namespace thimble::firmware
