#include "host/card_open.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "engine/card/fat32.h"

namespace thimble::host {
namespace {

constexpr std::string_view kExtension = ".gguf";
constexpr size_t kMostNamesShown = 8;

std::unexpected<std::string> Failed(const std::string& path, const Error& error) {
  std::array<char, 512> sentence;
  return Sentence(fmt::format("{}: {}", path, std::string_view(sentence.data(), FormatError(error, sentence))));
}

bool SameLetters(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

bool IsModelName(std::string_view name) {
  // What macOS leaves beside a file it copies.
  if (name.starts_with("._")) return false;
  return name.size() > kExtension.size() && SameLetters(name.substr(name.size() - kExtension.size()), kExtension);
}

// The entry of the file to open, chosen by name or for being the only model.
Expected<card::DirEntry> ChooseFile(card::Fat32& volume, const std::string& path, const std::string& file_on_card) {
  std::vector<card::DirEntry> chosen;
  std::vector<std::string> names;
  const auto listed = volume.ListRoot([&](const card::DirEntry& entry) {
    const std::string_view name = entry.name.data();
    if (file_on_card.empty() ? IsModelName(name) : SameLetters(name, file_on_card)) chosen.push_back(entry);
    if (IsModelName(name) && names.size() <= kMostNamesShown) names.push_back(Quote(name));
    return true;
  });
  if (!listed) return Failed(path, listed.error());
  if (chosen.size() == 1) return chosen.front();
  if (names.size() > kMostNamesShown) names.back() = "...";
  const std::string list = fmt::format("{}", fmt::join(names, ", "));
  if (chosen.size() > 1) {
    return Sentence(fmt::format("{} holds several models: {}; choose one of them by its name", path, list));
  }
  if (!file_on_card.empty()) {
    return Sentence(fmt::format("{} has no file \"{}\" in its root folder{}", path, Quote(file_on_card),
                                names.empty() ? "" : "; its models are " + list));
  }
  return Sentence(fmt::format("{} is a FAT32 card without a .gguf file in its root folder; copy a model there", path));
}

}  // namespace

Expected<OpenedModel> OpenModelFile(const std::string& path, const std::string& file_on_card) {
  THIMBLE_ASSIGN(std::unique_ptr<FileDevice> device, FileDevice::Open(path));
  const card::Extent whole = card::WholeDevice(*device);
  Ledger ledger;
  card::FileReader disk(*device, {.extents = {&whole, 1}, .size_bytes = whole.size_bytes}, ledger);
  alignas(512) std::array<std::byte, 512> sector;

  Result<void> started = disk.Start(0, 4, sector);
  if (!started) return Failed(path, started.error());
  const auto magic = disk.Wait();
  if (!magic) return Failed(path, magic.error());
  if (std::memcmp(magic->data(), "GGUF", 4) == 0) {
    if (!file_on_card.empty()) {
      return Sentence(fmt::format("{} is a GGUF file, not a card, so no file on it can be chosen", path));
    }
    OpenedModel model;
    model.extents = {{.file_offset_bytes = 0, .device_offset_bytes = 0, .size_bytes = device->file_size_bytes()}};
    model.file = {.extents = model.extents, .size_bytes = device->file_size_bytes()};
    model.description = path;
    model.device = std::move(device);
    return model;
  }

  auto volume = card::Fat32::Mount(disk, sector);
  if (!volume && volume.error().code == Code::kNotFound) {
    return Failed(path + " is neither a GGUF file nor a card", volume.error());
  }
  if (!volume) return Failed(path, volume.error());
  THIMBLE_ASSIGN(const card::DirEntry entry, ChooseFile(*volume, path, file_on_card));
  OpenedModel model;
  model.extents.resize(card::kUsualExtents);
  const auto map = volume->MapFile(entry, model.extents);
  if (!map) return Failed(path, map.error());
  model.extents.resize(map->extents.size());
  model.file = {.extents = model.extents, .size_bytes = map->size_bytes};
  model.name_on_card = entry.name.data();
  model.description = fmt::format("{} on the card {} ({} piece{})", Quote(model.name_on_card), path,
                                  model.extents.size(), model.extents.size() == 1 ? "" : "s");
  model.device = std::move(device);
  return model;
}

}  // namespace thimble::host
