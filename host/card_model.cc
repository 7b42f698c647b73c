#include "host/card_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/base/arena.h"
#include "engine/card/gguf.h"
#include "host/progress.h"

namespace thimble::host {
namespace {

// The model's name as it will stand on the card.
Expected<std::string> NameOnCard(std::string name, const std::string& model, bool is_converted) {
  if (name.empty()) {
    std::error_code error;
    std::filesystem::path path = std::filesystem::weakly_canonical(model, error);
    if (error) path = model;
    if (is_converted && path.extension() == ".bin") path.replace_extension();
    name = path.filename().string();
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

std::unexpected<std::string> Failed(const std::string& path, const Error& error) {
  std::array<char, 512> sentence;
  return Sentence(fmt::format("{}: {}", path, std::string_view(sentence.data(), FormatError(error, sentence))));
}

// Opens the header as a session would.
Status CheckModel(const OpenedModel& model, const std::string& name) {
  constexpr size_t kMostTableBytes = 32 << 20;
  struct alignas(kArenaAlign) Line {
    std::byte bytes[kArenaAlign];
  };
  std::vector<Line> memory(kMostTableBytes / sizeof(Line));
  std::vector<Line> buffer(64 * 1024 / sizeof(Line));
  Arena arena(Region::kSram, std::as_writable_bytes(std::span(memory)));
  Ledger ledger;
  card::FileReader reader(*model.device, model.file, ledger);
  card::ByteReader bytes(reader, std::as_writable_bytes(std::span(buffer)));
  if (const auto opened = card::OpenGguf(bytes, arena); !opened) return Failed(name, opened.error());
  return {};
}

}  // namespace

Status CompareFiles(const OpenedModel& a, const OpenedModel& b, const std::string& name) {
  if (a.file.size_bytes != b.file.size_bytes) return Sentence(fmt::format("{}: the copy has another size", name));
  constexpr size_t kChunkBytes = (size_t{1} << 20);
  std::array<std::vector<uint64_t>, 2> buffers;
  Ledger ledger;
  card::FileReader readers[] = {card::FileReader(*a.device, a.file, ledger),
                                card::FileReader(*b.device, b.file, ledger)};
  Progress progress("check", a.file.size_bytes);
  for (uint64_t offset = 0; offset < a.file.size_bytes; offset += kChunkBytes) {
    const uint64_t size = std::min<uint64_t>(kChunkBytes, a.file.size_bytes - offset);
    std::array<std::span<const std::byte>, 2> chunks;
    for (size_t i = 0; i < 2; ++i) {
      buffers[i].resize(static_cast<size_t>(readers[i].BufferBytes(kChunkBytes)) / sizeof(uint64_t));
      const auto started = readers[i].Start(offset, size, std::as_writable_bytes(std::span(buffers[i])));
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

Expected<CardModel> OpenCardModel(const std::string& model, const std::string& tokenizer,
                                  const std::string& name_on_card) {
  THIMBLE_ASSIGN(ModelSource source, OpenModelSource(model, tokenizer, /*as_one_file=*/true));
  THIMBLE_ASSIGN(OpenedModel opened, OpenModelFile(source.path(), ""));
  if (!opened.name_on_card.empty()) return Sentence(fmt::format("{} is a card already", model));
  THIMBLE_TRY(CheckModel(opened, model));
  if (opened.file.size_bytes > kMostFileBytes) {
    return Sentence(
        fmt::format("{} has {} bytes; a file on FAT32 has {} at most", model, opened.file.size_bytes, kMostFileBytes));
  }
  THIMBLE_ASSIGN(std::string name, NameOnCard(name_on_card, model, source.is_converted()));
  return CardModel{.source = std::move(source), .opened = std::move(opened), .name_on_card = std::move(name)};
}

}  // namespace thimble::host
