#include "host/cards/card_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/formats/card_models.h"
#include "engine/storage/volume.h"
#include "host/models/card_open.h"
#include "host/support/input_file.h"
#include "host/support/utf8.h"

namespace thimble::host {
namespace {

constexpr size_t kMaxNameBytes = 255;

bool IsDevice(std::string_view name) {
  std::string_view stem = name.substr(0, name.find('.'));
  while (stem.ends_with(' ')) stem.remove_suffix(1);
  if (stem.size() == 4 && stem[3] >= '0' && stem[3] <= '9') {
    return storage::SameName(stem.substr(0, 3), "COM") || storage::SameName(stem.substr(0, 3), "LPT");
  }
  return std::ranges::any_of(std::array{"CON", "PRN", "AUX", "NUL"},
                             [&](const char* device) { return storage::SameName(stem, device); });
}

// What keeps the name from a card; null: nothing.
const char* Objection(const std::string& name) {
  constexpr std::string_view kNotAllowed = "\"*/:<>?\\|";
  const auto is_not_allowed = [&](char c) {
    return (c >= 0 && c < 0x20) || c == 0x7f || kNotAllowed.find(c) != kNotAllowed.npos;
  };
  if (!IsUtf8(name)) return "it is not UTF-8";
  if (IndexName(name).size() > kMaxNameBytes) return "it has more than 252 bytes, as its index's has 3 more";
  if (std::ranges::any_of(name, is_not_allowed)) return "\"*/:<>?\\| and control characters may not be in one";
  if (name.starts_with(' ')) return "it begins with a space";
  if (name.ends_with(' ') || name.ends_with('.')) return "it ends with a space or a dot";
  if (IsDevice(name)) return "Windows keeps it for a device";
  if (!formats::IsModelName(name)) return "a board takes names for models that end in .gguf and do not begin with ._";
  return nullptr;
}

// An image, to be read and changed in place.
class Image {
 public:
  explicit Image(AtomicFile& file) : file_(&file), input_(InputFile::Open(file.path_while_open())) {}

  uint32_t Get(uint64_t offset, size_t size) {
    std::array<uint8_t, 4> bytes = {};
    is_good_ = is_good_ && input_ && input_->ReadAt(offset, std::as_writable_bytes(std::span(bytes).first(size)));
    return bytes[0] | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24;
  }
  void Put16(uint64_t offset, uint16_t value) {
    const std::array bytes = {static_cast<std::byte>(value), static_cast<std::byte>(value >> 8)};
    is_good_ = is_good_ && file_->WriteAt(offset, bytes);
  }
  bool is_good() const { return is_good_; }

 private:
  AtomicFile* file_;
  Expected<InputFile> input_;
  bool is_good_ = true;
};

// Where the entries of the volume's root folder stand, up to the first that was never used.
std::vector<uint64_t> RootEntries(Image& image, uint64_t boot) {
  const uint64_t cluster_bytes = uint64_t{image.Get(boot + 13, 1)} * kSectorBytes;
  const uint64_t table = boot + image.Get(boot + 14, 2) * kSectorBytes;
  const uint64_t data = table + uint64_t{image.Get(boot + 16, 1)} * image.Get(boot + 36, 4) * kSectorBytes;
  std::vector<uint64_t> entries;
  for (uint32_t cluster = image.Get(boot + 44, 4); image.is_good() && cluster >= 2 && cluster < 0x0FFFFFF7;
       cluster = image.Get(table + uint64_t{cluster} * 4, 4) & 0x0FFFFFFF) {
    for (uint64_t at = 0; at < cluster_bytes; at += storage::kFolderEntryBytes) {
      entries.push_back(data + uint64_t{cluster - 2} * cluster_bytes + at);
      if (image.Get(entries.back(), 1) == 0) return entries;
    }
  }
  return entries;
}

}  // namespace

Status CheckCardName(const std::string& name) {
  const char* const objection = Objection(name);
  if (objection == nullptr) return {};
  return Sentence(
      fmt::format("\"{}\" is no name for a file on FAT32: {}; give another one with --name", Quote(name), objection));
}

std::u16string Utf16(const std::string& utf8) {
  std::u16string units;
  for (size_t i = 0; i < utf8.size();) {
    const auto lead = static_cast<uint8_t>(utf8[i]);
    const size_t bytes = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    uint32_t c = bytes == 1 ? lead : lead & (0x7Fu >> bytes);
    for (size_t j = 1; j < bytes; ++j) c = c << 6 | (static_cast<uint8_t>(utf8[i + j]) & 0x3F);
    i += bytes;
    if (c >= 0x10000) {
      units.push_back(static_cast<char16_t>(0xD800 + ((c - 0x10000) >> 10)));
      c = 0xDC00 + ((c - 0x10000) & 0x3FF);
    }
    units.push_back(static_cast<char16_t>(c));
  }
  return units;
}

std::string NameForMtools(const std::string& name) {
  std::string plain;
  for (size_t i = 0; i < name.size(); ++i) {
    if (static_cast<uint8_t>(name[i]) < 0xF0) {
      plain += name[i];
    } else {
      plain += "xx";
      i += 3;
    }
  }
  return plain;
}

Status WriteCardName(AtomicFile& file, uint64_t volume_bytes, const std::string& name) {
  const std::u16string from = Utf16(NameForMtools(name));
  const std::u16string to = Utf16(name);
  if (from == to) return {};
  Image image(file);
  std::vector<std::pair<uint64_t, size_t>> units;  // of the long name in hand: where each stands, its place in the name
  bool is_it = true;
  for (const uint64_t entry : RootEntries(image, volume_bytes)) {
    if (image.Get(entry + 11, 1) != 0x0F) {
      if (is_it && units.size() >= to.size()) {
        for (const auto& [at, i] : units) {
          if (i < to.size()) image.Put16(at, to[i]);
        }
        return image.is_good() ? Status() : Sentence(fmt::format("cannot write the name of {}", Quote(name)));
      }
      units.clear();
      is_it = true;
      continue;
    }
    const size_t first = ((image.Get(entry, 1) & 0x3F) - 1) * size_t{13};
    for (size_t i = 0; i < 13; ++i) {
      const uint64_t at = entry + (i < 5 ? 1 + 2 * i : i < 11 ? 14 + 2 * (i - 5) : 28 + 2 * (i - 11));
      units.emplace_back(at, first + i);
      const uint32_t have = image.Get(at, 2);
      is_it = is_it &&
              (first + i < from.size() ? have == from[first + i] : have == (first + i == from.size() ? 0 : 0xFFFF));
    }
  }
  return Sentence(
      fmt::format("\"{}\" could not be written as a name on FAT32: give another one with --name", Quote(name)));
}

}  // namespace thimble::host
