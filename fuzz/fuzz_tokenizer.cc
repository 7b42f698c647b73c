// A vocabulary and a text from bytes: either the arrays of a file and a reference to them as they come, or pieces that
// load, so that everything after loading is reached too.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/arena.h"
#include "engine/base/ledger.h"
#include "engine/storage/file_reader.h"
#include "engine/text/detokenizer.h"
#include "engine/text/stop_matcher.h"
#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"
#include "fuzz/vocabulary.h"
#include "host/devices/ram_device.h"
#include "host/support/paths.h"

namespace {

using thimble::Arena;
using thimble::TokenId;
using thimble::formats::TokenizerRef;
using thimble::fuzz::Input;
using thimble::fuzz::MakePieces;
using thimble::text::Detokenizer;
using thimble::text::StopMatcher;
using thimble::text::Tokenizer;
using thimble::text::TokenType;

void Check(bool ok) {
  if (!ok) std::abort();
}

TokenizerRef AnyReference(Input& input) {
  TokenizerRef ref{.present = true};
  ref.num_tokens = input.Take<uint16_t>();
  ref.tokens_offset = input.Take<uint16_t>();
  ref.tokens_bytes = input.Take<uint16_t>();
  ref.longest_token_bytes = input.Take<uint32_t>() >> (input.Take<uint8_t>() % 32);
  ref.scores_offset = input.Take<uint16_t>();
  ref.types_offset = input.Take<uint16_t>();
  ref.bos = input.Take<uint32_t>();
  ref.eos = input.Take<uint16_t>();
  ref.unk = input.Take<uint8_t>();
  const uint8_t flags = input.Take<uint8_t>();
  ref.add_space_prefix = flags % 2 != 0;
  if (flags >= 128) {
    ref.is_unigram = (flags & 64) != 0;
    ref.remove_extra_whitespaces = (flags & 32) != 0;
    ref.charsmap_offset = input.Take<uint16_t>();
    ref.charsmap_bytes = input.Take<uint16_t>();
  }
  if (flags / 2 % 2 != 0) {
    ref.layout = thimble::formats::TokenizerLayout::kByteLevel;
    ref.merges_offset = input.Take<uint16_t>();
    ref.num_merges = input.Take<uint16_t>();
    ref.pre = static_cast<thimble::formats::PreTokenizer>(1 + flags / 4 % 10);
  }
  return ref;
}

bool WellFormed(std::string_view text) {
  while (!text.empty()) {
    const thimble::text::Utf8Step step = thimble::text::NextUtf8(text);
    if (step.kind != thimble::text::Utf8::kWhole) return false;
    text.remove_prefix(step.bytes);
  }
  return true;
}

// What a tokenizer that has all bytes gives back: bad bytes as U+FFFD, SentencePiece's U+2581 as a space.
std::string Canonical(std::string_view text, bool byte_level) {
  std::string out;
  while (!text.empty()) {
    const thimble::text::Utf8Step step = thimble::text::NextUtf8(text);
    const bool whole = step.kind == thimble::text::Utf8::kWhole;
    const std::string_view c = whole ? text.substr(0, step.bytes) : thimble::text::kReplacementCharacter;
    out += c == thimble::text::kSpaceSymbol && !byte_level ? " " : c;
    text.remove_prefix(whole ? step.bytes : 1);
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input({data, size});
  std::vector<std::byte> file;
  const bool makes_pieces = input.Take<uint8_t>() % 4 != 0;
  const TokenizerRef ref = makes_pieces ? MakePieces(input, file) : AnyReference(input);
  const size_t text_size = input.Take<uint8_t>();
  const std::span<const uint8_t> text_bytes = input.TakeBytes(text_size);
  const std::string text(text_bytes.begin(), text_bytes.end());
  const std::span<const uint8_t> stop_bytes = input.TakeBytes(input.Take<uint8_t>() % 8);
  if (!makes_pieces) {
    const std::span<const uint8_t> rest = input.TakeBytes(input.left());
    file.resize(rest.size());
    std::transform(rest.begin(), rest.end(), file.begin(), [](uint8_t b) { return std::byte{b}; });
  }

  thimble::host::RamDevice device(file);
  const thimble::storage::Extent extent{.size_bytes = file.size()};
  thimble::Ledger ledger;
  thimble::storage::FileReader reader(device, {.extents = {&extent, 1}, .size_bytes = file.size()}, ledger);
  alignas(16) std::array<std::byte, 1024> buffer;
  thimble::storage::ByteReader bytes(reader, buffer);
  struct alignas(thimble::kArenaAlign) Line {
    std::byte bytes[thimble::kArenaAlign];
  };
  const uint64_t table_bytes = Tokenizer::TableBytes(ref);
  std::vector<Line> memory(static_cast<size_t>(table_bytes / thimble::kArenaAlign));
  Arena arena(thimble::Region::kPsram, std::as_writable_bytes(std::span(memory)));
  const thimble::Result<Tokenizer> tokenizer = Tokenizer::Load(ref, bytes, arena);
  Check(arena.used_bytes() == (tokenizer ? table_bytes : 0));
  if (!tokenizer) {
    Check(!makes_pieces || (ref.is_byte_level() && tokenizer.error().code == thimble::Code::kUnsupported));
    return 0;
  }

  const size_t workspace_bytes = static_cast<size_t>(Tokenizer::WorkspaceBytes(tokenizer->TextBytes(text)));
  const auto workspace = std::make_unique<std::byte[]>(workspace_bytes);
  std::vector<TokenId> ids(static_cast<size_t>(3 * tokenizer->TextBytes(text)) + 4);
  const auto n = tokenizer->Encode(text, true, ids, {workspace.get(), workspace_bytes});
  Check(n.has_value());
  ids.resize(*n);

  // In stretches: the same ids, if it can be divided so.
  const size_t stretch_bytes = Tokenizer::kLeastStretchBytes + text.size() / 4;
  const auto few = std::make_unique<std::byte[]>(static_cast<size_t>(Tokenizer::WorkspaceBytes(stretch_bytes)));
  std::vector<TokenId> again(ids.size());
  const auto same =
      tokenizer->Encode(text, true, again, {few.get(), static_cast<size_t>(Tokenizer::WorkspaceBytes(stretch_bytes))});
  Check(same ? again == ids : same.error().code == thimble::Code::kInvalidArgument);

  const size_t text_memory_bytes = static_cast<size_t>(Detokenizer::MemoryBytes(ref));
  const auto text_memory = std::make_unique<char[]>(text_memory_bytes);
  Detokenizer detokenizer(*tokenizer, true, {text_memory.get(), text_memory_bytes});
  const std::string stop(stop_bytes.begin(), stop_bytes.end());
  const std::string_view stops[] = {stop, "ab"};
  const std::span<const std::string_view> used_stops = std::span(stops).subspan(stop.empty() ? 1 : 0);
  const size_t stop_memory_bytes = static_cast<size_t>(StopMatcher::MemoryBytes(used_stops, text_memory_bytes));
  const auto stop_memory = std::make_unique<char[]>(stop_memory_bytes);
  StopMatcher matcher = StopMatcher::Create(used_stops, {stop_memory.get(), stop_memory_bytes}).value();
  std::string decoded;
  std::string shown;
  const auto show = [&](std::string_view push) {
    Check(WellFormed(push));
    decoded += push;
    shown += matcher.Push(push);
  };
  for (TokenId id : ids) {
    Check(id < tokenizer->size());
    show(detokenizer.Push(id));
  }
  show(detokenizer.Flush());
  shown += matcher.Flush();

  size_t first = decoded.npos;
  for (std::string_view s : used_stops) first = std::min(first, decoded.find(s));
  Check(shown == decoded.substr(0, first) && matcher.stopped() == (first != decoded.npos));
  // With byte tokens nothing is unknown. They begin at 1.
  const bool keeps_text = ref.charsmap_bytes == 0 && !ref.remove_extra_whitespaces && ref.escape_whitespaces;
  if (makes_pieces && keeps_text && (ref.is_byte_level() || tokenizer->Type(1) == TokenType::kByte)) {
    Check(decoded == Canonical(text, ref.is_byte_level()));
  }
  return 0;
}
