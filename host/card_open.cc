#include "host/card_open.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <utility>

namespace thimble::host {
namespace {

std::string Text(const Error& error) {
  std::array<char, 512> sentence;
  return std::string(sentence.data(), FormatError(error, sentence));
}

}  // namespace

Expected<OpenedModel> OpenModelFile(const std::string& path, const std::string& file_on_card) {
  THIMBLE_ASSIGN(std::unique_ptr<FileDevice> device, FileDevice::Open(path));
  alignas(512) std::array<std::byte, 512> sector;
  Result<void> read = device->StartRead(0, sector);
  if (read) read = device->WaitRead();
  if (!read) return Sentence(fmt::format("{}: {}", path, Text(read.error())));

  OpenedModel model;
  if (std::memcmp(sector.data(), "GGUF", 4) == 0) {
    if (!file_on_card.empty()) {
      return Sentence(fmt::format("{} is a GGUF file, not a card, so no file on it can be chosen", path));
    }
    model.extents = {{.file_offset_bytes = 0, .device_offset_bytes = 0, .size_bytes = device->file_size_bytes()}};
    model.file = {.extents = model.extents, .size_bytes = device->file_size_bytes()};
    model.description = path;
    model.device = std::move(device);
    return model;
  }
  return Sentence(fmt::format("{} is neither a GGUF file nor a card with a FAT32 volume", path));
}

}  // namespace thimble::host
