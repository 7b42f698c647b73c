#include "host/cards/model_for_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "engine/base/arena.h"
#include "engine/formats/gguf.h"
#include "host/support/aligned_buffer.h"
#include "host/support/paths.h"
#include "host/support/progress.h"

namespace thimble::host {
namespace {

// The model's name as it will stand on the card.
Expected<std::string> NameOnCard(std::string name, const std::string& model, bool is_converted) {
  if (name.empty()) {
    name = NameOf(Canonical(model));
    if (is_converted && name.size() > 4 && name.ends_with(".bin")) name.resize(name.size() - 4);
    if (!name.ends_with(".gguf")) name += ".gguf";
  }
  constexpr std::string_view kNotAllowed = "\"*/:<>?\\|";
  const auto is_not_allowed = [&](char c) {
    return (c >= 0 && c < 0x20) || c == 0x7f || kNotAllowed.find(c) != kNotAllowed.npos;
  };
  if (name.size() > 255 || std::ranges::any_of(name, is_not_allowed) || name.find_first_not_of(" .") == name.npos ||
      name.front() == ' ' || name.back() == ' ' || name.back() == '.') {
    return Sentence(fmt::format("\"{}\" is no name for a file on FAT32: give another one with --name", Quote(name)));
  }
  return name;
}

// Opens the header as a session would.
Status CheckModel(const OpenedModel& model, const std::string& name) {
  constexpr size_t kMaxTableBytes = 32 << 20;
  AlignedBuffer memory(kMaxTableBytes);
  AlignedBuffer buffer(64 * 1024);
  Arena arena(Region::kSram, memory.bytes());
  Ledger ledger;
  storage::FileReader reader(*model.device, model.file, ledger);
  storage::ByteReader bytes(reader, buffer.bytes());
  if (const auto opened = formats::OpenGguf(bytes, arena); !opened) return Failed(name, opened.error());
  return {};
}

}  // namespace

StoredFile FileOf(const OpenedModel& model) { return {.device = model.device.get(), .file = model.file}; }

StoredFile IndexOf(const OpenedModel& model) {
  return {.device = (model.index_device ? model.index_device : model.device).get(), .file = model.index_file};
}

Status CompareFiles(const StoredFile& a, const StoredFile& b, const std::string& name) {
  if (a.file.size_bytes != b.file.size_bytes) return Sentence(fmt::format("{}: the copy has another size", name));
  constexpr size_t kChunkBytes = (size_t{1} << 20);
  Ledger ledger;
  storage::FileReader readers[] = {storage::FileReader(*a.device, a.file, ledger),
                                   storage::FileReader(*b.device, b.file, ledger)};
  AlignedBuffer buffers[] = {AlignedBuffer(readers[0].BufferBytes(kChunkBytes)),
                             AlignedBuffer(readers[1].BufferBytes(kChunkBytes))};
  Progress progress("check", a.file.size_bytes);
  for (uint64_t offset = 0; offset < a.file.size_bytes; offset += kChunkBytes) {
    const uint64_t size = std::min<uint64_t>(kChunkBytes, a.file.size_bytes - offset);
    std::array<std::span<const std::byte>, 2> chunks;
    for (size_t i = 0; i < 2; ++i) {
      const auto started = readers[i].Start(offset, size, buffers[i].bytes());
      if (!started) return Failed(name, started.error());
      const auto chunk = readers[i].Wait();
      if (!chunk) return Failed(name, chunk.error());
      chunks[i] = *chunk;
    }
    if (!std::ranges::equal(chunks[0], chunks[1]))
      return Sentence(fmt::format("{}: the copy on the card differs", name));
    progress.Advance(size);
  }
  return {};
}

Expected<ModelForCard> OpenModelForCard(const std::string& model, const std::string& tokenizer,
                                        const std::string& name_on_card) {
  THIMBLE_ASSIGN(ModelSource source, OpenModelSource(model, tokenizer, /*as_one_file=*/true));
  THIMBLE_ASSIGN(OpenedModel opened, OpenModelFile(source.path(), ""));
  if (!opened.name_on_card.empty()) return Sentence(fmt::format("{} is a card already", model));
  THIMBLE_TRY(CheckModel(opened, model));
  if (opened.file.size_bytes > kMaxFileBytes) {
    return Sentence(
        fmt::format("{} has {} bytes; a file on FAT32 has {} at most", model, opened.file.size_bytes, kMaxFileBytes));
  }
  THIMBLE_ASSIGN(std::string name, NameOnCard(name_on_card, model, source.is_converted()));
  return ModelForCard{.source = std::move(source), .opened = std::move(opened), .name_on_card = std::move(name)};
}

}  // namespace thimble::host
