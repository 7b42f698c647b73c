// The index beside a model, MODEL.thimble: checksums of its weights, the screen of its LM head, a ready-made tokenizer.
//
// Format, byte by byte: docs/formats/index.md of this product. An index is written by 'thimble prepare', belongs to one
// model and is never required. It is untrusted: everything is checked here, or when it is read.
#ifndef THIMBLE_ENGINE_FORMATS_INDEX_FILE_H_
#define THIMBLE_ENGINE_FORMATS_INDEX_FILE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/checksum.h"
#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"

namespace thimble::formats {

// What the name of a model's index ends in, instead of ".gguf" or after a folder's name.
inline constexpr std::string_view kIndexExtension = ".thimble";

inline constexpr uint32_t kIndexHeaderBytes = 1024;
inline constexpr uint32_t kIndexVersion = 2;
inline constexpr std::array<char, 8> kIndexMagic = {'T', 'H', 'I', 'M', 'B', 'L', 'E', '\n'};
inline constexpr uint32_t kSectionAlign = 4096;  // of each section, in the index

// Bytes of a tensor that one checksum covers, counted from the tensor's start; the last block may be shorter.
inline constexpr uint32_t kCheckBlockBytes = 16 * 1024;

// Blocks of the model that are compared when its index is opened, at most.
inline constexpr uint32_t kMaxProbes = 6;

inline constexpr uint32_t kMaxStages = 3;
inline constexpr uint32_t kMaxDirections = 16;
inline constexpr uint32_t kMaxScreenBits = 7;
inline constexpr uint32_t kScreenUnit = 32;     // elements whose codes lie together
inline constexpr uint32_t kMaxGroupRows = 128;  // of the first stage, that one checksum covers
inline constexpr uint32_t kMaxGroupBytes = 16 * 1024;

enum class Section : uint8_t {
  kBlockChecks,  // uint32 for each block of each tensor in the order of TensorIndex(), a tied LM head left out
  kRowChecks,    // uint32 for each row of the token embedding
  kVectors,      // float32 [1 + num_directions, hidden_size]: the mean row, then the directions
  kGroupChecks,  // uint32 for each group of rows of the first stage
  kStage0,       // records of the screen's stages, one for each row of the LM head
  kStage1,
  kStage2,
  kTokenizer,  // text::Tokenizer's image
};
inline constexpr size_t kNumSections = 8;

struct SectionRef {
  uint64_t offset = 0;
  uint64_t bytes = 0;  // 0: not there
  uint32_t crc = 0;    // of all of it
};

// One stage of the screen: the codes of what the stages before it left of each row. docs/screen.md.
struct StageInfo {
  uint32_t bits = 0;          // of a code
  uint32_t record_bytes = 0;  // of a row
  float code_norm = 0;        // at least the Euclidean norm of any row's codes
  std::array<float, kMaxDirections> coefficient_scales = {};
  std::array<float, kMaxDirections> leaks = {};  // at least |what is left . direction| of any row
  // As measured on the model's own text when the index was made, choosing the likeliest: rows that go on after this
  // stage, and have their next record or, after the last stage, their weights read.
  float rows_left_mean = 0;
  uint32_t rows_left_most = 0;
};

// What follows the codes, the coefficients, the scale and the norm in a record of a later stage.
struct RecordTail {
  uint32_t row_crc;     // of the LM head's row, as stored in the model
  uint32_t record_crc;  // of the record before this field
};
// Bytes of a record's codes; of a whole record.
constexpr uint32_t ScreenUnits(uint32_t hidden_size) { return (hidden_size + kScreenUnit - 1) / kScreenUnit; }
constexpr uint32_t CodeBytes(uint32_t hidden_size, uint32_t bits) {
  return ScreenUnits(hidden_size) * kScreenUnit * bits / 8;
}
constexpr uint32_t RecordBytes(uint32_t hidden_size, uint32_t bits, uint32_t num_directions, uint32_t stage) {
  return CodeBytes(hidden_size, bits) + num_directions + 4 + (stage == 0 ? 0 : uint32_t{sizeof(RecordTail)});
}
// Rows that one checksum of the first stage covers: a power of two.
constexpr uint32_t GroupRows(uint32_t record_bytes) {
  uint32_t rows = kMaxGroupRows;
  while (rows > 1 && rows * record_bytes > kMaxGroupBytes) rows /= 2;
  return rows;
}

struct ScreenInfo {
  uint32_t num_stages = 0;  // 0: the index has no screen; otherwise at least 2
  uint32_t num_directions = 0;
  uint32_t num_candidates = 0;  // room to set aside for rows that survive the first stage
  uint32_t num_measured = 0;    // tokens that the rows left were measured on
  float max_norm = 0;           // at least the norm of any row of the head, plus that of what any stage leaves of it
  std::array<StageInfo, kMaxStages> stages = {};
};

// Where a board keeps the records of a stage: rows [0, psram_rows) in PSRAM, the next flash_rows in flash, the rest in
// the index on the card. Of the first stage what is in memory ends with a group, or with the last row.
struct StagePlace {
  uint32_t psram_rows = 0;
  uint32_t flash_rows = 0;
};

// An index that passed every check of its header. A small value.
struct Index {
  std::array<SectionRef, kNumSections> sections = {};
  ScreenInfo screen;

  const SectionRef& section(Section id) const { return sections[static_cast<size_t>(id)]; }
  const SectionRef& stage(uint32_t i) const { return sections[static_cast<size_t>(Section::kStage0) + i]; }
  bool has_screen() const { return screen.num_stages != 0; }
};

// Checksums of a tensor's blocks, and of all tensors.
inline uint64_t NumBlocks(const TensorRef& tensor) {
  return (tensor.size_bytes() + kCheckBlockBytes - 1) / kCheckBlockBytes;
}
uint64_t NumBlocks(const ModelFile& model);

// The checksum of everything in the model's file that is no tensor data (ModelFile::metadata). `buffer`: for reading,
// as FileReader wants it. Fails by I/O.
Result<uint32_t> MetadataCrc(storage::FileReader& reader, const ModelFile& model, std::span<std::byte> buffer,
                             Crc32c crc32c);

// What an index knows its model by: a checksum over the names, types and shapes of the stored tensors and over the
// section of the index that has the checksums of their blocks.
uint32_t IdentityOf(const ModelFile& model, const SectionRef& block_checks, Crc32c crc32c);

// Reads the header of an index through `index_reader` and checks it against the model behind `reader`: kCorrupt for a
// damaged one, kUnsupported for another version, kInvalidArgument for one that belongs to another model, to another
// header or to other weights; the sentences say what mends it. Reads all of the model's metadata, and at most
// kMaxProbes blocks of it, from matrices of each kind, with their checksums: where two or more of them differ, the
// weights are others. One that differs is left to whoever reads the block and can say where. `buffer`: for reading, at
// least kIndexHeaderBytes.
Result<Index> OpenIndex(storage::FileReader& reader, storage::FileReader& index_reader, const ModelFile& model,
                        std::span<std::byte> buffer, Crc32c crc32c);

// The header, as OpenIndex() reads it: what 'thimble prepare' writes. `metadata_crc` as MetadataCrc() says; `out` has
// kIndexHeaderBytes.
void FormatIndexHeader(const Index& index, const ModelFile& model, uint32_t metadata_crc, uint64_t index_bytes,
                       std::span<std::byte> out, Crc32c crc32c);

// Reads a section into memory through `buffer`, as FileReader wants it. Fails by I/O, kCorrupt when its checksum does
// not fit. `out` has the section's size.
Result<void> LoadSection(storage::FileReader& reader, const SectionRef& section, std::span<std::byte> out,
                         std::span<std::byte> buffer, Crc32c crc32c);

// Reads a section through `buffer` and checks it. Fails as LoadSection().
Result<void> CheckSection(storage::FileReader& reader, const SectionRef& section, std::span<std::byte> buffer,
                          Crc32c crc32c);

// Checks whole tensors as they are streamed, and rows. Refers to the table, which outlives it. One thread.
class WeightChecks {
 public:
  WeightChecks() = default;
  // `blocks`: the section kBlockChecks, in memory and checked: what does not fit is the model's fault.
  WeightChecks(const ModelFile& model, std::span<const uint32_t> blocks, Crc32c function)
      : model_(&model), blocks_(blocks), crc32c_(function) {}

  bool empty() const { return blocks_.empty(); }
  std::span<const uint32_t> BlocksOf(TensorId id) const;
  Crc32c crc32c() const { return crc32c_; }

 private:
  const ModelFile* model_ = nullptr;
  mutable SumBefore<size_t> blocks_before_;
  std::span<const uint32_t> blocks_;
  Crc32c crc32c_ = nullptr;
};

// What a checksum that does not fit means, where that of the index is sound: `offset` in the model's file.
std::unexpected<Error> DamagedWeights(TensorId tensor, uint64_t offset);
// The same of the index's own bytes.
std::unexpected<Error> DamagedIndex(uint64_t offset);

}  // namespace thimble::formats

#endif  // THIMBLE_ENGINE_FORMATS_INDEX_FILE_H_
