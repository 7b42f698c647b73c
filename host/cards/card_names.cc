#include "host/cards/card_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/formats/card_models.h"
#include "engine/storage/volume.h"
#include "host/models/card_open.h"
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

}  // namespace thimble::host
