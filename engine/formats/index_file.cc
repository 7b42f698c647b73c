#include "engine/formats/index_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "engine/base/exact.h"

namespace thimble::formats {
namespace {

static_assert(std::endian::native == std::endian::little);

// One cursor for reading a header and for writing one, so that the two cannot disagree.
class Fields {
 public:
  Fields(std::byte* header, bool write) : next_(header), write_(write) {}

  template <class T>
  void operator()(T& value) {
    if (write_) {
      std::memcpy(next_, &value, sizeof(T));
    } else {
      std::memcpy(&value, next_, sizeof(T));
    }
    next_ += sizeof(T);
  }

 private:
  std::byte* next_;
  bool write_;
};

// The header's numbers that are not in Index.
struct FileFacts {
  std::array<char, 8> magic = {};
  uint32_t version = 0;
  uint32_t header_checksum = 0;
  uint64_t index_bytes = 0;
  uint32_t identity = 0;
  uint32_t metadata_checksum = 0;
  uint32_t vocab_size = 0;
  uint32_t hidden_size = 0;
};

constexpr uint32_t kCheckedFrom = 16;  // the header's checksum covers the bytes from here on

void Transfer(Fields field, FileFacts& facts, Index& index) {
  uint32_t unused = 0;
  field(facts.magic);
  field(facts.version);
  field(facts.header_checksum);
  field(facts.index_bytes);
  field(facts.identity);
  field(unused);
  field(facts.metadata_checksum);
  field(facts.vocab_size);
  field(facts.hidden_size);
  for (int i = 0; i < 5; ++i) field(unused);
  const auto field_section = [&](SectionRef& section) {
    field(section.offset);
    field(section.bytes);
    field(section.checksum);
    field(unused);
  };
  constexpr size_t kInTable = static_cast<size_t>(Section::kDrafts);
  for (SectionRef& section : std::span(index.sections).first(kInTable)) field_section(section);
  ScreenInfo& screen = index.screen;
  field(screen.record_bytes);
  field(screen.second_bits);
  field(screen.num_candidates);
  field(screen.num_measured);
  field(screen.max_norm);
  field(screen.code_norm);
  field(screen.second_code_norm);
  field(screen.leak);
  field(screen.transform_norm);
  for (ScreenUse& use : screen.uses) {
    field(use.second_mean);
    field(use.rows_mean);
    field(use.survivors_most);
  }
  // Zeros where there is one part, as before there were several.
  uint32_t parts = screen.num_parts == 1 ? 0 : screen.num_parts;
  field(parts);
  screen.num_parts = parts == 0 ? 1 : parts;
  field(unused);
  // Zeros where there are none, as before there were any.
  field_section(index.sections[kInTable]);
  field(index.draft_use);
}

// What an index with so many parts has to be.
uint32_t VersionOf(const ScreenInfo& screen) { return screen.num_parts == 1 ? kIndexVersion : kIndexVersionOfParts; }

// A tied LM head is the token embedding.
bool IsStored(const ModelFile& model, const TensorRef& tensor) {
  return !(model.tied && tensor.id.kind == TensorKind::kLmHead);
}

// Checksums in the table before those of the tensor with this index.
uint64_t BlocksBefore(const ModelFile& model, uint32_t tensor_index) {
  uint64_t sum = 0;
  for (const TensorRef& tensor : model.tensors.first(tensor_index)) {
    if (IsStored(model, tensor)) sum += NumBlocks(tensor);
  }
  return sum;
}

Result<uint32_t> ChecksumOf(storage::FileReader& reader, std::span<const ByteRange> ranges, std::span<std::byte> buffer,
                            Xxh32::TakeStripes xxh32) {
  Xxh32 checksum(xxh32);
  for (const ByteRange& range : ranges) {
    THIMBLE_TRY(storage::ForBytes(reader, range.offset, range.bytes, buffer,
                                  [&](uint64_t, std::span<const std::byte> bytes) -> Result<void> {
                                    checksum.Update(bytes);
                                    return {};
                                  }));
  }
  return checksum.Digest();
}

// What training changes, in matrices that a token reads.
constexpr std::array<TensorKind, kMaxProbes> kProbedKinds = {TensorKind::kTokenEmbd, TensorKind::kAttnQ,
                                                             TensorKind::kAttnV,     TensorKind::kFfnGate,
                                                             TensorKind::kFfnDown,   TensorKind::kLmHead};

// How many of the probed blocks have another checksum than the index has. `table`: its checksums of blocks.
Result<uint32_t> CountOtherBlocks(storage::FileReader& reader, storage::FileReader& index_reader,
                                  const ModelFile& model, const SectionRef& table, std::span<std::byte> buffer,
                                  Xxh32::TakeStripes xxh32) {
  uint32_t others = 0;
  for (uint32_t i = 0; i < kMaxProbes; ++i) {
    const TensorKind kind = kProbedKinds[i];
    const bool is_of_layer = kind != TensorKind::kTokenEmbd && kind != TensorKind::kLmHead;
    const uint64_t layer = is_of_layer ? uint64_t{i} * model.shape.num_hidden_layers / kMaxProbes : 0;
    const uint32_t tensor_index = TensorIndex({kind, static_cast<uint16_t>(layer)}, model.shape);
    const TensorRef& tensor = model.tensors[tensor_index];
    if (!IsStored(model, tensor)) continue;
    const uint64_t block = NumBlocks(tensor) / 2;
    const uint64_t begin = block * kCheckBlockBytes;
    const ByteRange bytes = {.offset = tensor.offset + begin,
                             .bytes = std::min<uint64_t>(kCheckBlockBytes, tensor.size_bytes() - begin)};
    THIMBLE_ASSIGN(const uint32_t found, ChecksumOf(reader, {&bytes, 1}, buffer, xxh32));
    uint32_t expected = 0;
    THIMBLE_TRY(storage::ReadBytes(index_reader,
                                   table.offset + (BlocksBefore(model, tensor_index) + block) * sizeof(expected),
                                   std::as_writable_bytes(std::span(&expected, 1)), buffer));
    others += found != expected;
  }
  return others;
}

bool IsBound(float value) { return value >= 0.0f && value <= std::numeric_limits<float>::max(); }

bool IsSound(const ScreenInfo& s, uint32_t hidden_size, uint32_t vocab_size) {
  if (s.record_bytes[0] == 0) return s.num_parts == 1;
  if (s.record_bytes[0] % 4 != 0 || s.record_bytes[0] > std::min(hidden_size + 4, kMaxFirstBytes)) return false;
  if (s.num_parts > s.record_bytes[0] / 4) return false;
  if (s.second_bits == 0 || s.second_bits > kMaxScreenBits) return false;
  if (s.record_bytes[1] != SecondRecordBytes(hidden_size, s.second_bits)) return false;
  if (s.num_candidates == 0 || s.num_candidates > vocab_size) return false;
  for (const float bound : {s.max_norm, s.code_norm, s.second_code_norm, s.leak, s.transform_norm}) {
    if (!IsBound(bound)) return false;
  }
  return std::ranges::all_of(s.uses,
                             [](const ScreenUse& use) { return IsBound(use.second_mean) && IsBound(use.rows_mean); });
}

// Bytes that a section must have, but for those of IsFree().
uint64_t SectionBytes(Section id, const ModelFile& model, const ScreenInfo& screen) {
  const uint64_t vocab_size = model.shape.vocab_size;
  const bool has_screen = screen.record_bytes[0] != 0;
  switch (id) {
    case Section::kBlockChecks:
      return NumBlocks(model) * sizeof(uint32_t);
    case Section::kRowChecks:
      return vocab_size * sizeof(uint32_t);
    case Section::kMean:
      return has_screen ? model.shape.hidden_size * sizeof(float) : 0;
    case Section::kTransform:
      return has_screen ? TransformLayout{model.shape.hidden_size}.bytes() : 0;
    case Section::kGroupChecks:
      return has_screen ? screen.num_parts * uint64_t{screen.num_groups(model.shape.vocab_size)} * sizeof(uint32_t) : 0;
    case Section::kFirstStage:
      return vocab_size * screen.record_bytes[0];
    case Section::kSecondStage:
      return vocab_size * screen.record_bytes[1];
    case Section::kTokenizer:
    case Section::kDrafts:
      return 0;
  }
  return 0;
}

// How large the section is does not follow from the model.
bool IsFree(const SectionRef& section, Section id) {
  return id == Section::kTokenizer || (id == Section::kDrafts && section.bytes % sizeof(DraftEntry) == 0);
}

}  // namespace

std::unexpected<Error> DamagedWeights(TensorId tensor, uint64_t offset) {
  return Fail({.code = Code::kCorrupt,
               .what =
                   "{tensor} is damaged near byte {offset} of the model's file, by the checksum of a sound index: copy "
                   "the model again, or run 'thimble prepare' if its weights were changed",
               .tensor = tensor,
               .offset = offset});
}

std::unexpected<Error> DamagedIndex(uint64_t offset) {
  return Fail({.code = Code::kCorrupt,
               .what = "the index is damaged near its byte {offset}: make it again with 'thimble prepare'",
               .offset = offset});
}

uint32_t DraftKey(std::span<const TokenId> context) {
  constexpr size_t kIdBytes = 3;
  static_assert(kMaxWidth <= 1u << 8 * kIdBytes && kDraftOrder * kIdBytes < Xxh32::kStripeBytes);
  std::array<std::byte, kDraftOrder * kIdBytes> bytes;
  size_t size = 0;
  for (const TokenId id : context) {
    std::memcpy(&bytes[size], &id, kIdBytes);
    size += kIdBytes;
  }
  return Xxh32::Of(nullptr, std::span(bytes).first(size));
}

uint64_t NumBlocks(const ModelFile& model) { return BlocksBefore(model, static_cast<uint32_t>(model.tensors.size())); }

Result<uint32_t> MetadataChecksum(storage::FileReader& reader, const ModelFile& model, std::span<std::byte> buffer,
                                  Xxh32::TakeStripes xxh32) {
  return ChecksumOf(reader, model.metadata, buffer, xxh32);
}

uint32_t IdentityOf(const ModelFile& model, const SectionRef& block_checks, Xxh32::TakeStripes xxh32) {
  struct Entry {
    std::array<char, 48> name = {};
    uint32_t type = 0;
    uint32_t rows = 0;
    uint32_t cols = 0;
    uint32_t so_far = 0;
  };
  static_assert(sizeof(Entry) == 64);
  uint32_t identity = block_checks.checksum;
  for (const TensorRef& tensor : model.tensors) {
    if (!IsStored(model, tensor)) continue;
    Entry entry = {
        .type = static_cast<uint32_t>(tensor.type), .rows = tensor.rows, .cols = tensor.cols, .so_far = identity};
    FormatTensorName(tensor.id, entry.name);
    identity = Xxh32::Of(xxh32, std::as_bytes(std::span(&entry, 1)));
  }
  return identity;
}

Result<Index> OpenIndex(storage::FileReader& reader, storage::FileReader& index_reader, const ModelFile& model,
                        std::span<std::byte> buffer, Xxh32::TakeStripes xxh32) {
  if (index_reader.file_size_bytes() < kIndexHeaderBytes) return DamagedIndex(0);
  std::array<std::byte, kIndexHeaderBytes> header;
  THIMBLE_TRY(storage::ReadBytes(index_reader, 0, header, buffer));
  FileFacts facts;
  Index index;
  Transfer(Fields(header.data(), false), facts, index);
  if (facts.magic != kIndexMagic) {
    return Fail({.code = Code::kCorrupt,
                 .what = "the file beside the model that should be its index is none: make it with 'thimble prepare'"});
  }
  if (facts.version != kIndexVersion && facts.version != kIndexVersionOfParts) {
    return Fail({.code = Code::kUnsupported,
                 .what = "the index has version {have} and this engine reads versions 3 and {need}: make it again with "
                         "'thimble prepare'",
                 .have = facts.version,
                 .need = kIndexVersionOfParts});
  }
  static_assert(kIndexVersion == 3);
  if (facts.header_checksum != Xxh32::Of(xxh32, std::span(header).subspan(kCheckedFrom))) return DamagedIndex(0);
  const SectionRef& table = index.section(Section::kBlockChecks);
  if (facts.identity != IdentityOf(model, table, xxh32) || facts.vocab_size != model.shape.vocab_size ||
      facts.hidden_size != model.shape.hidden_size) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "the index was made for another model: make it again with 'thimble prepare', or delete it"});
  }
  // A file that was cut off while it was copied.
  if (facts.index_bytes != index_reader.file_size_bytes()) return DamagedIndex(index_reader.file_size_bytes());
  if (facts.version != VersionOf(index.screen)) return DamagedIndex(0);
  if (!IsSound(index.screen, facts.hidden_size, facts.vocab_size)) return DamagedIndex(0);
  if (!std::ranges::all_of(index.draft_use, IsBound)) return DamagedIndex(0);
  for (size_t i = 0; i < kNumSections; ++i) {
    const SectionRef& section = index.sections[i];
    const auto which = static_cast<Section>(i);
    const bool is_right_size = IsFree(section, which) || section.bytes == SectionBytes(which, model, index.screen);
    if (!is_right_size || section.offset % kSectionAlign != 0 || section.offset > facts.index_bytes ||
        section.bytes > facts.index_bytes - section.offset) {
      return DamagedIndex(0);
    }
  }
  THIMBLE_ASSIGN(const uint32_t metadata_checksum, MetadataChecksum(reader, model, buffer, xxh32));
  if (facts.metadata_checksum != metadata_checksum) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "the header or the tokenizer of the model is not what the index was made from: make the index "
                         "again with 'thimble prepare' if they were changed, or copy the model again if not"});
  }
  THIMBLE_ASSIGN(const uint32_t others, CountOtherBlocks(reader, index_reader, model, table, buffer, xxh32));
  if (others > 1) {
    THIMBLE_TRY(CheckSection(index_reader, table, buffer, xxh32));
    return Fail({.code = Code::kInvalidArgument,
                 .what = "these weights are not those that the index was made from: make the index again with 'thimble "
                         "prepare' if they were changed, or copy the model again if not"});
  }
  return index;
}

void FormatIndexHeader(const Index& index, const ModelFile& model, uint32_t metadata_checksum, uint64_t index_bytes,
                       std::span<std::byte> out, Xxh32::TakeStripes xxh32) {
  FileFacts facts = {.magic = kIndexMagic,
                     .version = VersionOf(index.screen),
                     .index_bytes = index_bytes,
                     .identity = IdentityOf(model, index.section(Section::kBlockChecks), xxh32),
                     .metadata_checksum = metadata_checksum,
                     .vocab_size = model.shape.vocab_size,
                     .hidden_size = model.shape.hidden_size};
  std::fill(out.begin(), out.end(), std::byte{});
  Index copy = index;
  Transfer(Fields(out.data(), true), facts, copy);
  facts.header_checksum = Xxh32::Of(xxh32, out.first(kIndexHeaderBytes).subspan(kCheckedFrom));
  Transfer(Fields(out.data(), true), facts, copy);
}

Result<void> LoadSection(storage::FileReader& reader, const SectionRef& section, std::span<std::byte> out,
                         std::span<std::byte> buffer, Xxh32::TakeStripes xxh32) {
  THIMBLE_TRY(storage::ReadBytes(reader, section.offset, out, buffer));
  return CheckSectionBytes(section, out, xxh32);
}

Result<void> CheckSectionBytes(const SectionRef& section, std::span<const std::byte> bytes, Xxh32::TakeStripes xxh32) {
  if (Xxh32::Of(xxh32, bytes) != section.checksum) return DamagedIndex(section.offset);
  return {};
}

Result<void> CheckSection(storage::FileReader& reader, const SectionRef& section, std::span<std::byte> buffer,
                          Xxh32::TakeStripes xxh32) {
  const ByteRange bytes = {.offset = section.offset, .bytes = section.bytes};
  THIMBLE_ASSIGN(const uint32_t checksum, ChecksumOf(reader, {&bytes, 1}, buffer, xxh32));
  if (checksum != section.checksum) return DamagedIndex(section.offset);
  return {};
}

std::span<const uint32_t> WeightChecks::BlocksOf(TensorId id) const {
  if (empty()) return {};
  const uint32_t wanted = TensorIndex(
      model_->tied && id.kind == TensorKind::kLmHead ? TensorId{TensorKind::kTokenEmbd, 0} : id, model_->shape);
  const size_t first = blocks_before_.At(model_->tensors, wanted, [&](const TensorRef& tensor) {
    return IsStored(*model_, tensor) ? static_cast<size_t>(NumBlocks(tensor)) : 0;
  });
  return blocks_.subspan(first, static_cast<size_t>(NumBlocks(model_->tensors[wanted])));
}

}  // namespace thimble::formats
