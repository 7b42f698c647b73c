#include "engine/formats/index_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

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
struct Identity {
  std::array<char, 8> magic = {};
  uint32_t version = 0;
  uint32_t header_crc = 0;
  uint64_t index_bytes = 0;
  uint64_t model_bytes = 0;
  uint32_t metadata_crc = 0;
  uint32_t vocab_size = 0;
  uint32_t hidden_size = 0;
};

constexpr uint32_t kCheckedFrom = 16;  // the header's checksum covers the bytes from here on

void Transfer(Fields field, Identity& id, Index& index) {
  field(id.magic);
  field(id.version);
  field(id.header_crc);
  field(id.index_bytes);
  field(id.model_bytes);
  field(id.metadata_crc);
  field(id.vocab_size);
  field(id.hidden_size);
  ScreenInfo& screen = index.screen;
  field(screen.num_stages);
  field(screen.num_directions);
  field(screen.num_candidates);
  field(screen.num_measured);
  field(screen.max_norm);
  uint32_t unused = 0;
  for (SectionRef& section : index.sections) {
    field(section.offset);
    field(section.bytes);
    field(section.crc);
    field(unused);
  }
  for (StageInfo& stage : screen.stages) {
    field(stage.bits);
    field(stage.record_bytes);
    field(stage.code_norm);
    field(stage.rows_left_mean);
    field(stage.rows_left_most);
    field(unused);
    field(stage.coefficient_scales);
    field(stage.leaks);
  }
}

uint64_t ModelBytes(const ModelFile& model) {
  uint64_t sum = 0;
  for (const ByteRange& range : model.metadata) sum += range.bytes;
  for (const TensorRef& tensor : model.tensors) {
    if (!(model.tied && tensor.id.kind == TensorKind::kLmHead)) sum += tensor.size_bytes();
  }
  return sum;
}

std::unexpected<Error> Stale() {
  return Fail({.code = Code::kInvalidArgument,
               .what = "the index was made for another model: make it again with 'thimble prepare', or delete it"});
}

bool IsBound(float value) { return value >= 0.0f && value <= std::numeric_limits<float>::max(); }

bool IsSound(const ScreenInfo& s, uint32_t hidden_size, uint32_t vocab_size) {
  if (s.num_stages == 0) return true;
  if (s.num_stages < 2 || s.num_stages > kMaxStages) return false;
  if (s.num_directions > kMaxDirections || s.num_directions % 4 != 0) return false;
  if (s.num_candidates == 0 || s.num_candidates > vocab_size || !IsBound(s.max_norm)) return false;
  for (uint32_t i = 0; i < s.num_stages; ++i) {
    const StageInfo& stage = s.stages[i];
    if (stage.bits == 0 || stage.bits > kMaxScreenBits) return false;
    if (stage.record_bytes != RecordBytes(hidden_size, stage.bits, s.num_directions, i)) return false;
    if (!IsBound(stage.code_norm) || !IsBound(stage.rows_left_mean)) return false;
    for (uint32_t k = 0; k < kMaxDirections; ++k) {
      if (!IsBound(stage.coefficient_scales[k]) || !IsBound(stage.leaks[k])) return false;
    }
  }
  return true;
}

// Bytes that a section must have; nothing is known of the tokenizer's.
uint64_t SectionBytes(Section id, const ModelFile& model, const ScreenInfo& screen) {
  const uint64_t vocab_size = model.shape.vocab_size;
  const bool has_screen = screen.num_stages != 0;
  switch (id) {
    case Section::kBlockChecks:
      return NumBlocks(model) * sizeof(uint32_t);
    case Section::kRowChecks:
      return vocab_size * sizeof(uint32_t);
    case Section::kVectors:
      return has_screen ? (1 + uint64_t{screen.num_directions}) * model.shape.hidden_size * sizeof(float) : 0;
    case Section::kGroupChecks: {
      if (!has_screen) return 0;
      const uint64_t rows = GroupRows(screen.stages[0].record_bytes);
      return (vocab_size + rows - 1) / rows * sizeof(uint32_t);
    }
    case Section::kStage0:
    case Section::kStage1:
    case Section::kStage2: {
      const auto stage = static_cast<uint32_t>(id) - static_cast<uint32_t>(Section::kStage0);
      return stage < screen.num_stages ? vocab_size * screen.stages[stage].record_bytes : 0;
    }
    case Section::kTokenizer:
      return 0;
  }
  return 0;
}

}  // namespace

std::unexpected<Error> DamagedWeights(TensorId tensor, uint64_t offset) {
  return Fail({.code = Code::kCorrupt,
               .what =
                   "{tensor} is damaged near byte {offset} of the model's file: its checksum does not fit; copy the "
                   "model again",
               .tensor = tensor,
               .offset = offset});
}

std::unexpected<Error> DamagedIndex(uint64_t offset) {
  return Fail({.code = Code::kCorrupt,
               .what = "the index is damaged near its byte {offset}: make it again with 'thimble prepare'",
               .offset = offset});
}

uint64_t NumBlocks(const ModelFile& model) {
  uint64_t sum = 0;
  for (const TensorRef& tensor : model.tensors) {
    if (!(model.tied && tensor.id.kind == TensorKind::kLmHead)) sum += NumBlocks(tensor);
  }
  return sum;
}

Result<uint32_t> MetadataCrc(storage::FileReader& reader, const ModelFile& model, std::span<std::byte> buffer,
                             Crc32c crc32c) {
  uint32_t crc = 0;
  for (const ByteRange& range : model.metadata) {
    THIMBLE_TRY(storage::ForBytes(reader, range.offset, range.bytes, buffer,
                                  [&](uint64_t, std::span<const std::byte> bytes) -> Result<void> {
                                    crc = crc32c(crc, bytes.data(), bytes.size());
                                    return {};
                                  }));
  }
  return crc;
}

Result<Index> OpenIndex(storage::FileReader& reader, const ModelFile& model, uint32_t metadata_crc,
                        std::span<std::byte> buffer, Crc32c crc32c) {
  if (reader.file_size_bytes() < kIndexHeaderBytes) return DamagedIndex(0);
  THIMBLE_TRY(reader.Start(0, kIndexHeaderBytes, buffer));
  THIMBLE_ASSIGN(const std::span<const std::byte> bytes, reader.Wait());
  std::array<std::byte, kIndexHeaderBytes> header;
  std::copy(bytes.begin(), bytes.end(), header.begin());
  Identity id;
  Index index;
  Transfer(Fields(header.data(), false), id, index);
  if (id.magic != kIndexMagic) {
    return Fail({.code = Code::kCorrupt,
                 .what = "the file beside the model that should be its index is none: make it with 'thimble prepare'"});
  }
  if (id.version != kIndexVersion) {
    return Fail({.code = Code::kUnsupported,
                 .what = "the index has version {have} and this engine reads version {need}: make it again with "
                         "'thimble prepare'",
                 .have = id.version,
                 .need = kIndexVersion});
  }
  if (id.header_crc != crc32c(0, header.data() + kCheckedFrom, kIndexHeaderBytes - kCheckedFrom))
    return DamagedIndex(0);
  if (id.model_bytes != ModelBytes(model) || id.metadata_crc != metadata_crc ||
      id.vocab_size != model.shape.vocab_size || id.hidden_size != model.shape.hidden_size) {
    return Stale();
  }
  // A file that was cut off while it was copied.
  if (id.index_bytes != reader.file_size_bytes()) return DamagedIndex(reader.file_size_bytes());
  if (!IsSound(index.screen, id.hidden_size, id.vocab_size)) return DamagedIndex(0);
  for (size_t i = 0; i < kNumSections; ++i) {
    const SectionRef& section = index.sections[i];
    const auto which = static_cast<Section>(i);
    const bool is_right_size =
        which == Section::kTokenizer || section.bytes == SectionBytes(which, model, index.screen);
    if (!is_right_size || section.offset % kSectionAlign != 0 || section.offset > id.index_bytes ||
        section.bytes > id.index_bytes - section.offset) {
      return DamagedIndex(0);
    }
  }
  return index;
}

void FormatIndexHeader(const Index& index, const ModelFile& model, uint32_t metadata_crc, uint64_t index_bytes,
                       std::span<std::byte> out, Crc32c crc32c) {
  Identity id = {.magic = kIndexMagic,
                 .version = kIndexVersion,
                 .index_bytes = index_bytes,
                 .model_bytes = ModelBytes(model),
                 .metadata_crc = metadata_crc,
                 .vocab_size = model.shape.vocab_size,
                 .hidden_size = model.shape.hidden_size};
  std::fill(out.begin(), out.end(), std::byte{});
  Index copy = index;
  Transfer(Fields(out.data(), true), id, copy);
  id.header_crc = crc32c(0, out.data() + kCheckedFrom, kIndexHeaderBytes - kCheckedFrom);
  Transfer(Fields(out.data(), true), id, copy);
}

Result<void> LoadSection(storage::FileReader& reader, const SectionRef& section, std::span<std::byte> out,
                         std::span<std::byte> buffer, Crc32c crc32c) {
  THIMBLE_TRY(storage::ReadBytes(reader, section.offset, out, buffer));
  if (crc32c(0, out.data(), out.size()) != section.crc) return DamagedIndex(section.offset);
  return {};
}

std::span<const uint32_t> WeightChecks::BlocksOf(TensorId id) const {
  if (empty()) return {};
  const uint32_t wanted =
      TensorIndex(model_->tied && id.kind == TensorKind::kLmHead ? TensorId{TensorKind::kTokenEmbd, 0} : id);
  const size_t first = blocks_before_.At(model_->tensors, wanted, [&](const TensorRef& tensor) {
    return model_->tied && tensor.id.kind == TensorKind::kLmHead ? 0 : static_cast<size_t>(NumBlocks(tensor));
  });
  return blocks_.subspan(first, static_cast<size_t>(NumBlocks(model_->tensors[wanted])));
}

}  // namespace thimble::formats
