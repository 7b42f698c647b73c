// The index of a model, MODEL.thimble, as it may be found beside a small one. An input that begins with the format's
// magic is the file as it is. Any other is a list of changes to the index that `thimble prepare` makes: without them
// hardly an input would get past the checksums. Changes that leave the checksums as they are must be refused or do no
// harm, that is, give the tokens of a scan; with the checksums made to fit, as only ill will makes them, nothing but
// memory safety is promised.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "engine/opening.h"
#include "host/devices/ram_device.h"
#include "host/models/prepare.h"
#include "tests/support/test_gguf.h"

namespace thimble {
namespace {

constexpr size_t kTokens = 4;
using Tokens = std::array<TokenId, kTokens>;

void Require(bool holds) {
  if (!holds) std::abort();
}

// In order: greedy, noise, min-p, top-k.
constexpr std::array<head::SamplerOptions, kTokens> kSamplers = {{
    {.temperature = 0},
    {.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 1},
    {.repeat_penalty = 1.2f, .top_k = 0, .top_p = 1, .min_p = 0.05f},
    {.repeat_penalty = 1.2f, .top_k = 5},
}};

// A section's bytes; none where it does not lie in the file.
std::span<std::byte> SectionBytes(std::span<std::byte> file, const formats::SectionRef& section) {
  if (section.offset > file.size() || section.bytes > file.size() - section.offset) return {};
  return file.subspan(static_cast<size_t>(section.offset), static_cast<size_t>(section.bytes));
}

uint32_t ChecksumOf(std::span<const std::byte> bytes) {
  return math::BestKernels().xxh32(0, bytes.data(), bytes.size());
}

struct Memory {
  struct alignas(512) Block {
    std::byte bytes[512];
  };
  std::array<std::vector<Block>, kNumRegions> regions;
  std::array<Arena, kNumRegions> arenas;

  explicit Memory(const Board& board) {
    for (size_t i = 0; i < kNumRegions; ++i) {
      const auto bytes = static_cast<size_t>(board.capacity_bytes[i]);
      regions[i].resize((bytes + sizeof(Block) - 1) / sizeof(Block));
      arenas[i] = Arena(static_cast<Region>(i), std::as_writable_bytes(std::span(regions[i])).first(bytes));
    }
  }
};

// The model and the indexes that `thimble prepare` makes for it: with a first stage in one part, and in three.
struct Base {
  std::vector<std::byte> model;
  std::array<std::vector<std::byte>, 2> indexes;
  Tokens tokens;  // of a scan

  // What the header says of the model where the checksums of its blocks have this checksum.
  uint32_t IdentityWith(uint32_t block_checks_checksum) const {
    Memory memory(kEsp32Cam);
    host::RamDevice device(model);
    const storage::Extent extent = {.size_bytes = model.size()};
    Ledger ledger;
    Opening opening(memory.arenas, math::BestKernels(), ledger);
    Require(opening.OpenFile(device, {.extents = {&extent, 1}, .size_bytes = model.size()}).has_value());
    return formats::IdentityOf(opening.model(), {.checksum = block_checks_checksum}, math::BestKernels().xxh32_stripes);
  }
};

// Boards on which the screen lies in PSRAM, in flash and on the card, more or less of it.
Board BoardOf(uint8_t choice) {
  Board board = kEsp32Cam;
  const auto set = [&](Region region, uint64_t bytes) { board.capacity_bytes[static_cast<size_t>(region)] = bytes; };
  set(Region::kPsram, choice % 2 == 0 ? 256 * 1024 : 40 * 1024);
  set(Region::kFlash, choice / 2 % 2 == 0 ? 0 : 8 * 1024);
  return board;
}

void RequireSentence(const Error& error) {
  std::array<char, 300> text;
  Require(FormatError(error, text) != 0);
  Require(error.code != Code::kIo);
}

// Opens the model with this index, an empty one standing for none, and lets it write. False: refused.
bool Write(const Base& base, std::span<const std::byte> file, uint8_t board_choice, Tokens& tokens) {
  const Board board = BoardOf(board_choice);
  Memory memory(board);
  host::RamDevice model_device(base.model);
  host::RamDevice index_device(file);
  const storage::Extent model_extent = {.size_bytes = base.model.size()};
  const storage::Extent index_extent = {.size_bytes = file.size()};
  Ledger ledger;
  Opening opening(memory.arenas, math::BestKernels(), ledger);
  Require(opening.OpenFile(model_device, {.extents = {&model_extent, 1}, .size_bytes = base.model.size()}).has_value());
  const bool scans = file.empty();
  if (!scans) {
    const auto opened = opening.OpenIndex(index_device, {.extents = {&index_extent, 1}, .size_bytes = file.size()});
    if (!opened) return RequireSentence(opened.error()), false;
  }

  const plan::PlanOptions options = {.n_ctx = 16,
                                     .head = scans ? plan::HeadMode::kFull : plan::HeadMode::kScreen,
                                     .draft = scans ? plan::DraftMode::kNone : plan::DraftMode::kNgram};
  const auto plan = opening.Plan(board, options, kSamplers.back());
  if (!plan) return RequireSentence(plan.error()), false;
  const auto session = opening.Start(*plan);
  if (!session) return RequireSentence(session.error()), false;
  const std::array<TokenId, 3> prompt = {1, 2, 7};
  if (const auto begun = (*session)->Prefill(prompt); !begun) return RequireSentence(begun.error()), false;
  for (size_t i = 0; i < kTokens; ++i) {
    const auto token = (*session)->Next(kSamplers[i]);
    if (!token) return RequireSentence(token.error()), false;
    Require(*token < opening.model().shape.vocab_size);
    tokens[i] = *token;
  }
  return true;
}

Base MakeBase() {
  Base base;
  base.model = tests::MakeGguf({.shape = {.vocab_size = 300,
                                          .hidden_size = 32,
                                          .intermediate_size = 32,
                                          .num_hidden_layers = 1,
                                          .num_attention_heads = 2,
                                          .num_key_value_heads = 1,
                                          .head_dim = 16,
                                          .max_position_embeddings = 64,
                                          .rms_norm_eps = 1e-5f,
                                          .rope_theta = 10000.0f}});
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("thimble-fuzz-index-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const std::string path = folder / "model.gguf";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(base.model.data()), static_cast<std::streamsize>(base.model.size()));
  host::PrepareOptions options;
  options.model = path;
  options.screen = {12, 2};
  options.draft_tokens = 300;
  for (uint32_t i = 0; i < base.indexes.size(); ++i) {
    options.num_parts = 1 + 2 * i;
    const auto prepared = host::Prepare(options);
    if (!prepared) std::fprintf(stderr, "%s\n", prepared.error().c_str());
    Require(prepared.has_value());
    std::ifstream index(prepared->path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(index), {}};
    base.indexes[i].resize(bytes.size());
    std::memcpy(base.indexes[i].data(), bytes.data(), bytes.size());
  }
  std::filesystem::remove_all(folder);

  Require(Write(base, {}, 0, base.tokens));
  for (uint8_t board = 0; board < 4; ++board) {
    for (const std::vector<std::byte>& index : base.indexes) {
      Tokens tokens;
      Require(Write(base, index, board, tokens) && tokens == base.tokens);
    }
  }
  return base;
}

// `file` was `index`. Makes all checksums fit that the header's numbers give a place to, and, unless it stays as
// changed, the identity.
void Seal(std::vector<std::byte>& file, const Base& base, std::span<const std::byte> index, bool keeps_identity) {
  // What the header says now, whether it holds or not: the fields that matter, at their places in the format.
  const auto field = [&]<class T>(size_t at, T) {
    T value;
    std::memcpy(&value, &file[at], sizeof(T));
    return value;
  };
  const auto set = [&](size_t at, uint32_t value) { std::memcpy(&file[at], &value, sizeof(value)); };
  constexpr size_t kSections = 64, kSectionBytes = 24, kRecordBytes = 256, kNumParts = 320, kDrafts = 328;
  const auto at_of = [&](formats::Section id) {
    return id == formats::Section::kDrafts ? kDrafts : kSections + static_cast<size_t>(id) * kSectionBytes;
  };
  const auto section = [&](formats::Section id) {
    const size_t at = at_of(id);
    return formats::SectionRef{.offset = field(at, uint64_t{}), .bytes = field(at + 8, uint64_t{})};
  };
  const auto record_bytes = [&](size_t stage) { return field(kRecordBytes + stage * 4, uint32_t{}); };

  const std::span<std::byte> groups = SectionBytes(file, section(formats::Section::kGroupChecks));
  const std::span<std::byte> first = SectionBytes(file, section(formats::Section::kFirstStage));
  const formats::ScreenInfo screen = {.record_bytes = {record_bytes(0), 0},
                                      .num_parts = std::max(field(kNumParts, uint32_t{}), 1u)};
  if (record_bytes(0) >= 4 && record_bytes(0) <= formats::kMaxFirstBytes && screen.num_parts <= record_bytes(0) / 4) {
    const size_t rows = first.size() / record_bytes(0);
    size_t begin = 0;  // of the group
    size_t g = 0;
    for (uint32_t p = 0; p < screen.num_parts; ++p) {
      const size_t row_bytes = screen.part(p).record_bytes();
      const size_t end = begin + rows * row_bytes;
      for (; begin < end && (g + 1) * 4 <= groups.size(); ++g) {
        const size_t size = std::min(screen.group_rows() * row_bytes, end - begin);
        const uint32_t checksum = ChecksumOf(first.subspan(begin, size));
        std::memcpy(&groups[g * 4], &checksum, sizeof(checksum));
        begin += size;
      }
    }
  }
  const std::span<std::byte> records = SectionBytes(file, section(formats::Section::kSecondStage));
  if (const size_t size = record_bytes(1); size >= sizeof(formats::RecordTail)) {
    for (size_t at = 0; at + size <= records.size(); at += size) {
      const uint32_t checksum = ChecksumOf(records.subspan(at, size - 4));
      std::memcpy(&records[at + size - 4], &checksum, sizeof(checksum));
    }
  }
  for (size_t i = 0; i < formats::kNumSections; ++i) {
    const auto id = static_cast<formats::Section>(i);
    set(at_of(id) + 16, ChecksumOf(SectionBytes(file, section(id))));
  }
  if (!keeps_identity) {
    // An index of another model is the plain case.
    constexpr size_t kIdentity = 24, kModelFacts = 20;
    std::memcpy(&file[kIdentity], &index[kIdentity], kModelFacts);
    set(kIdentity, base.IdentityWith(field(kSections + 16, uint32_t{})));
    const uint64_t size = file.size();
    std::memcpy(&file[16], &size, sizeof(size));
  }
  set(12, ChecksumOf(std::span(file).subspan(16, formats::kIndexHeaderBytes - 16)));
}

// Changes: where (2 bytes, counted in the file and wrapping around), how many bytes (1), the bytes.
void Change(std::vector<std::byte>& file, std::span<const uint8_t> changes) {
  while (changes.size() >= 4) {
    size_t at = (changes[0] | size_t{changes[1]} << 8) % file.size();
    const size_t n = std::min<size_t>(changes[2] % 16 + 1u, changes.size() - 3);
    for (size_t i = 0; i < n; ++i, at = (at + 1) % file.size()) file[at] = std::byte{changes[3 + i]};
    changes = changes.subspan(3 + n);
  }
}

}  // namespace
}  // namespace thimble

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const thimble::Base base = thimble::MakeBase();
  thimble::Tokens tokens;
  const auto& magic = thimble::formats::kIndexMagic;
  if (size >= magic.size() && std::memcmp(data, magic.data(), magic.size()) == 0) {
    thimble::Write(base, std::as_bytes(std::span(data, size)), 0, tokens);
    return 0;
  }
  if (size < 1) return 0;
  // The first byte: the board, whether checksums are made to fit, whether the file is cut off, whether what the header
  // says of the model stays as it was changed, which index.
  const uint8_t how = data[0];
  const std::vector<std::byte>& index = base.indexes[how / 32 % 2];
  std::vector<std::byte> file = index;
  thimble::Change(file, {data + 1, size - 1});
  const bool sealed = (how & 4) != 0;
  if (sealed) thimble::Seal(file, base, index, /*keeps_identity=*/(how & 16) != 0);
  if ((how & 8) != 0 && size >= 3) file.resize((data[1] | size_t{data[2]} << 8) % file.size() + 1);
  if (thimble::Write(base, file, how % 4, tokens) && !sealed) thimble::Require(tokens == base.tokens);
  return 0;
}
