// Prints the ids that the engine's tokenizer gives texts, for a script that knows what they should be: a line of ids
// for each text. Ends with 1 and a sentence where tables in memory, tables from an image, tables on a card and
// stretches of a few bytes do not agree, or where the ids do not give the text back; with --decoded, what they give
// comes behind the ids, in hexadecimal digits, since a normaliser may have made another text of it.
//
//   tokenize_texts [--decoded] MODEL.gguf TEXTS      TEXTS: of each its length as a little-endian uint32, and its bytes
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "engine/formats/gguf.h"
#include "tests/support/test_vocabulary.h"
#include "tests/support/tokenizer_image.h"

namespace thimble {
namespace {

constexpr uint64_t kStretchBytes = 24;

std::string FileBytes(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

int Say(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  return 1;
}

int Run(const char* model, const char* texts_path, bool shows_decoded) {
  const std::string bytes = FileBytes(model);
  const std::vector<std::byte> file(reinterpret_cast<const std::byte*>(bytes.data()),
                                    reinterpret_cast<const std::byte*>(bytes.data()) + bytes.size());
  formats::TokenizerRef ref;
  {
    host::RamDevice device(file);
    const storage::Extent extent{.size_bytes = file.size()};
    Ledger ledger;
    storage::FileReader reader(device, {.extents = {&extent, 1}, .size_bytes = file.size()}, ledger);
    alignas(16) std::array<std::byte, 1024> buffer;
    storage::ByteReader byte_reader(reader, buffer);
    tests::AlignedMemory memory(1 << 16);
    Arena arena(Region::kPsram, memory.span());
    const Result<formats::ModelFile> opened = formats::OpenGguf(byte_reader, arena);
    if (!opened) return Say(tests::Sentence(opened.error()));
    if (opened->tokenizer_fault) return Say(tests::Sentence(*opened->tokenizer_fault));
    ref = opened->tokenizer;
  }
  const tests::LoadedTokenizer loaded(tests::TokenizerFile(file, ref));
  if (!loaded.result()) return Say(tests::Sentence(loaded.result().error()));
  const tests::ImageFile image(ref, loaded.tokenizer());
  const tests::LoadedImage from_image(image);
  tests::OpenedImage::Options options;
  options.cache_pages = 8;
  const tests::OpenedImage on_card(image, options);
  if (!from_image.result() || !on_card.result()) return Say("the image cannot be opened");

  const std::string all = FileBytes(texts_path);
  std::string out;
  for (std::string_view rest = all; rest.size() >= sizeof(uint32_t);) {
    uint32_t size = 0;
    std::memcpy(&size, rest.data(), sizeof(size));
    const std::string_view text = rest.substr(sizeof(size), size);
    rest.remove_prefix(sizeof(size) + size);
    const std::vector<TokenId> ids = loaded.Encode(text);
    const std::string place = "text " + std::string(text);
    if (tests::Encode(from_image.tokenizer(), text) != ids) return Say("another image: " + place);
    if (tests::Encode(on_card.tokenizer(), text) != ids) return Say("another card: " + place);
    if (tests::EncodeInStretches(loaded.tokenizer(), text, kStretchBytes).value_or(ids) != ids) {
      return Say("other stretches: " + place);
    }
    const std::string decoded = loaded.Decode(ids);
    if (!shows_decoded && decoded != text) return Say("another text than " + place + ": " + decoded);
    if (tests::Decode(on_card.tokenizer(), ref, ids) != decoded) return Say("another text on the card: " + place);
    for (const TokenId id : ids) out += std::to_string(id) + " ";
    if (shows_decoded) out += "|";
    for (const char c : shows_decoded ? decoded : "") {
      constexpr char kDigits[] = "0123456789abcdef";
      out += {kDigits[static_cast<uint8_t>(c) / 16], kDigits[c & 15]};
    }
    out += "\n";
  }
  std::fwrite(out.data(), 1, out.size(), stdout);
  return 0;
}

}  // namespace
}  // namespace thimble

int main(int argc, char** argv) {
  const bool shows_decoded = argc > 1 && std::string_view(argv[1]) == "--decoded";
  if (argc != (shows_decoded ? 4 : 3)) return thimble::Say("usage: tokenize_texts [--decoded] MODEL.gguf TEXTS");
  return thimble::Run(argv[argc - 2], argv[argc - 1], shows_decoded);
}
