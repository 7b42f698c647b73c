// An image of a tokenizer, changed: with checksums that fit, so that what they protect is reached, or as it is.
// Unchanged it answers as the tokenizer it was made from.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/arena.h"
#include "engine/base/ledger.h"
#include "engine/math/kernels.h"
#include "engine/storage/file_reader.h"
#include "engine/text/detokenizer.h"
#include "engine/text/tokenizer.h"
#include "fuzz/vocabulary.h"
#include "host/devices/ram_device.h"
#include "host/formats/tokenizer_image_writer.h"

namespace {

using thimble::Arena;
using thimble::Result;
using thimble::TokenId;
using thimble::formats::TokenizerRef;
using thimble::text::Tokenizer;

void Check(bool ok) {
  if (!ok) std::abort();
}

struct Memory {
  struct alignas(thimble::kArenaAlign) Line {
    std::byte bytes[thimble::kArenaAlign];
  };
  explicit Memory(uint64_t bytes)
      : lines(static_cast<size_t>((bytes + sizeof(Line) - 1) / sizeof(Line))), arena(thimble::Region::kPsram, span()) {}
  std::span<std::byte> span() { return std::as_writable_bytes(std::span(lines)); }
  std::vector<Line> lines;
  Arena arena;
};

// A file on a device.
struct File {
  explicit File(std::span<const std::byte> bytes)
      : device(bytes),
        extent{.size_bytes = bytes.size()},
        reader(device, {.extents = {&extent, 1}, .size_bytes = bytes.size()}, ledger),
        byte_reader(reader, buffer) {}
  thimble::host::RamDevice device;
  thimble::storage::Extent extent;
  thimble::Ledger ledger;
  thimble::storage::FileReader reader;
  alignas(16) std::array<std::byte, 1024> buffer;
  thimble::storage::ByteReader byte_reader;
};

// Everything a tokenizer says; nothing where reading failed.
struct Answers {
  std::vector<std::string> pieces;
  std::vector<TokenId> ids;
  std::string decoded;
  friend bool operator==(const Answers&, const Answers&) = default;
};

Answers Ask(const Tokenizer& tokenizer, const TokenizerRef& ref, const std::string& text, bool may_fail) {
  Answers answers;
  bool ok = true;
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    answers.pieces.emplace_back(tokenizer.Piece(id));
    Check(answers.pieces.back().size() <= ref.longest_token_bytes);
    tokenizer.Type(id);
    ok &= tokenizer.TakeStatus().has_value();
  }
  const size_t workspace_bytes = static_cast<size_t>(Tokenizer::WorkspaceBytes(tokenizer.TextBytes(text)));
  const auto workspace = std::make_unique<std::byte[]>(workspace_bytes);
  answers.ids.resize(static_cast<size_t>(3 * tokenizer.TextBytes(text)) + 4);
  const Result<size_t> n = tokenizer.Encode(text, true, answers.ids, {workspace.get(), workspace_bytes});
  ok &= n.has_value();
  answers.ids.resize(n.value_or(0));
  const size_t held_bytes = static_cast<size_t>(thimble::text::Detokenizer::MemoryBytes(ref));
  const auto held = std::make_unique<char[]>(held_bytes);
  thimble::text::Detokenizer detokenizer(tokenizer, true, {held.get(), held_bytes});
  for (TokenId id : answers.ids) {
    Check(id < tokenizer.size());
    answers.decoded += detokenizer.Push(id);
  }
  answers.decoded += detokenizer.Flush();
  ok &= tokenizer.TakeStatus().has_value();
  Check(ok || may_fail);
  return answers;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  thimble::fuzz::Input input({data, size});
  const auto xxh32 = thimble::math::BestKernels().xxh32_stripes;
  const uint8_t flags = input.Take<uint8_t>();
  const std::span<const uint8_t> text_bytes = input.TakeBytes(input.Take<uint8_t>() % 64);
  const std::string text(text_bytes.begin(), text_bytes.end());
  std::vector<std::byte> model;
  const TokenizerRef ref = thimble::fuzz::MakePieces(input, model);
  File model_file(model);
  Memory memory(Tokenizer::TableBytes(ref));
  const Result<Tokenizer> original = Tokenizer::Load(ref, model_file.byte_reader, memory.arena);
  Check(original || ref.is_byte_level());
  if (!original) return 0;

  const thimble::formats::SectionRef image = {.offset = 512, .bytes = thimble::host::TokenizerImageBytes(*original)};
  std::vector<std::byte> bytes(static_cast<size_t>(image.offset + image.bytes));
  const std::span<std::byte> pages = std::span(bytes).subspan(512);
  thimble::host::WriteTokenizerImage(*original, pages, xxh32);
  const bool changed = input.left() != 0;
  while (input.left() != 0) {
    const size_t at = input.Take<uint16_t>() % pages.size();
    size_t next = at;
    for (uint8_t byte : input.TakeBytes(1 + input.Take<uint8_t>() % 8)) pages[next++ % pages.size()] = std::byte{byte};
  }
  for (size_t at = 0; (flags & 1) == 0 && at < pages.size(); at += 512) {
    const uint32_t checksum = thimble::Xxh32::Of(xxh32, pages.subspan(at, 508));
    std::memcpy(&pages[at + 508], &checksum, sizeof(checksum));
  }

  const Answers expected = Ask(*original, ref, text, false);
  File file(bytes);
  Memory loaded_memory(Tokenizer::TableBytes(ref));
  const Result<Tokenizer> loaded = Tokenizer::LoadImage(ref, file.byte_reader, image, xxh32, loaded_memory.arena);
  Check(loaded_memory.arena.used_bytes() == (loaded ? Tokenizer::TableBytes(ref) : 0));
  Check(loaded || changed);
  if (loaded) Check(Ask(*loaded, ref, text, false) == expected || changed);

  Memory cache(Tokenizer::CacheBytes(ref, 512, 1 + flags / 2 % 8));
  const Result<Tokenizer> opened = Tokenizer::OpenImage(ref, file.reader, image, xxh32, cache.span());
  Check(opened || changed);
  if (opened) Check(Ask(*opened, ref, text, changed) == expected || changed);
  return 0;
}
