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

#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/base/xxh32.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"

namespace thimble::formats {

// What the name of a model's index ends in, instead of ".gguf" or after a folder's name.
inline constexpr std::string_view kIndexExtension = ".thimble";

inline constexpr uint32_t kIndexHeaderBytes = 1024;
// Of an index whose first stage is in one part, and of one in several.
inline constexpr uint32_t kIndexVersion = 3;
inline constexpr uint32_t kIndexVersionOfParts = 4;
inline constexpr std::array<char, 8> kIndexMagic = {'T', 'H', 'I', 'M', 'B', 'L', 'E', '\n'};
inline constexpr uint32_t kSectionAlign = 4096;  // of each section, in the index

// Bytes of a tensor that one checksum covers, counted from the tensor's start; the last block may be shorter.
inline constexpr uint32_t kCheckBlockBytes = 16 * 1024;

inline constexpr uint32_t kNumStages = 2;         // of a screen
inline constexpr uint32_t kNumCentroids = 256;    // of each group of axes: what a byte can say
inline constexpr uint32_t kMaxFirstBytes = 4096;  // of a record of the first stage
// Blocks of the model that are compared when its index is opened, at most.
inline constexpr uint32_t kMaxProbes = 6;

inline constexpr uint32_t kMaxScreenBits = 7;
inline constexpr uint32_t kScreenUnit = 32;     // elements whose codes lie together
inline constexpr uint32_t kMaxGroupRows = 128;  // of the first stage, that one checksum covers
inline constexpr uint32_t kMaxGroupBytes = 16 * 1024;

enum class Section : uint8_t {
  kBlockChecks,  // uint32 for each block of each tensor in the order of TensorIndex(), a tied LM head left out
  kRowChecks,    // uint32 for each row of the token embedding
  kMean,         // float32 [hidden_size]: the mean row of the LM head
  kTransform,    // Transform: what makes a query of a hidden state
  kGroupChecks,  // uint32 for each group of rows of the first stage, part after part
  kFirstStage,   // records of the screen, one for each row of the LM head, part after part
  kSecondStage,
  kTokenizer,  // text::Tokenizer's image
  kDrafts,     // DraftEntry each: what the model writes
};
inline constexpr size_t kNumSections = 9;

struct SectionRef {
  uint64_t offset = 0;
  uint64_t bytes = 0;     // 0: not there
  uint32_t checksum = 0;  // of all of it
};

// What follows the codes, the scale and the norm in a record of the second stage.
struct RecordTail {
  uint32_t row_checksum;     // of the LM head's row, as stored in the model
  uint32_t record_checksum;  // of the record before this field
};

// Bytes of a record's scalar codes; of a whole record of the second stage.
constexpr uint32_t ScreenUnits(uint32_t hidden_size) { return (hidden_size + kScreenUnit - 1) / kScreenUnit; }
constexpr uint32_t CodeBytes(uint32_t hidden_size, uint32_t bits) {
  return ScreenUnits(hidden_size) * kScreenUnit * bits / 8;
}
constexpr uint32_t SecondRecordBytes(uint32_t hidden_size, uint32_t bits) {
  return CodeBytes(hidden_size, bits) + 4 + uint32_t{sizeof(RecordTail)};
}

// The first stage: a code byte for each group of axes, and a byte for the norm of what they leave.
constexpr uint32_t NumGroups(uint32_t record_bytes) { return record_bytes - 1; }
// The axes of group g, [first, the next one's first).
constexpr uint32_t FirstAxis(uint32_t g, uint32_t num_groups, uint32_t hidden_size) {
  return static_cast<uint32_t>(uint64_t{g} * hidden_size / num_groups);
}

// The section kTransform, its parts in this order; all little-endian.
struct TransformLayout {
  uint64_t hidden_size;

  uint64_t axis_scales_at() const { return 0; }                          // float32 [hidden_size]
  uint64_t norms_at() const { return 4 * hidden_size; }                  // float32 [256], rising
  uint64_t matrix_at() const { return norms_at() + 4 * kNumCentroids; }  // float16 [hidden_size, hidden_size]
  // Of each group uint8 [256, its axes]: the numbers of its centroids, 128 more than they are.
  uint64_t centroids_at() const { return matrix_at() + 2 * hidden_size * hidden_size; }
  uint64_t bytes() const { return centroids_at() + kNumCentroids * hidden_size; }
  uint64_t matrix_bytes() const { return centroids_at() - matrix_at(); }
};

// Rows that one checksum of the first stage covers, of records of so many bytes: a power of two.
constexpr uint32_t GroupRows(uint32_t record_bytes) {
  uint32_t rows = kMaxGroupRows;
  while (rows > 1 && rows * record_bytes > kMaxGroupBytes) rows /= 2;
  return rows;
}

// A context of up to kDraftOrder tokens, and which token followed it most often in texts of the model's own. Entries
// are in the order of their keys, which differ. Two contexts may have one key, and a table may be wrong: what is
// guessed by it costs time at most.
struct DraftEntry {
  uint32_t key = 0;           // DraftKey() of the context
  uint32_t id_and_share = 0;  // the share in the upper byte: how often of 255 times it followed, rounded down

  TokenId id() const { return id_and_share & 0xffffff; }
  uint32_t share() const { return id_and_share >> 24; }
};
inline constexpr uint32_t kDraftOrder = 4;
// XXH32 of the context's ids, 3 bytes each, the latest last.
uint32_t DraftKey(std::span<const TokenId> context);

// What choosing a token took, as measured on the model's own text when the index was made.
struct ScreenUse {
  float second_mean = 0;        // rows whose record of the second stage was read
  float rows_mean = 0;          // rows whose weights were read
  uint32_t survivors_most = 0;  // rows that the first stage left
};
// The samplers that were measured.
enum class MeasuredSampler : uint8_t { kGreedy, kDefault };

// A part of the first stage: a run of the words, of 4 bytes, of every row's record. The rows' records of one part lie
// one after the other, then those of the next part: so the tables of one part at a time are all that a sweep needs.
struct FirstPart {
  uint32_t first_word = 0;
  uint32_t num_words = 0;
  bool has_norm = true;  // the last one: its last byte is the norm's

  uint32_t record_bytes() const { return 4 * num_words; }  // of a row
  uint32_t first_group() const { return 4 * first_word; }
  uint32_t end_group() const { return first_group() + record_bytes() - (has_norm ? 1 : 0); }
};

struct ScreenInfo {
  std::array<uint32_t, kNumStages> record_bytes = {};  // of a row; of the first stage a multiple of 4. 0: no screen
  uint32_t second_bits = 0;                            // of a code of the second stage
  uint32_t num_candidates = 0;                         // room to set aside for rows that survive the first stage
  uint32_t num_measured = 0;                           // tokens that `uses` were measured on
  // Each of these is at least what it says, of any row.
  float max_norm = 0;                  // the norm of the row, plus that of the mean row
  float code_norm = 0;                 // the norm of what the first stage's codes stand for
  float second_code_norm = 0;          // the norm of the second stage's codes
  float leak = 0;                      // the norm of what both stages leave, as a state meets it
  float transform_norm = 0;            // the Frobenius norm of the matrix
  std::array<ScreenUse, 2> uses = {};  // indexed by MeasuredSampler
  uint32_t num_parts = 1;              // of the first stage; at most its words

  FirstPart part(uint32_t p) const {
    const uint32_t words = record_bytes[0] / 4;
    const auto first = [&](uint32_t i) { return static_cast<uint32_t>(uint64_t{i} * words / num_parts); };
    return {.first_word = first(p), .num_words = first(p + 1) - first(p), .has_norm = p + 1 == num_parts};
  }
  // Bytes of a row in the largest part, the last among them.
  uint32_t most_part_bytes() const { return 4 * ((record_bytes[0] / 4 + num_parts - 1) / num_parts); }
  // Rows of a group of the first stage, the same in all parts; groups of a part.
  uint32_t group_rows() const { return GroupRows(most_part_bytes()); }
  uint32_t num_groups(uint32_t vocab_size) const { return (vocab_size + group_rows() - 1) / group_rows(); }
};

// What guesses by the table of drafts came to, as measured on texts of the model's own that it was not made of: tokens
// a pass over the weights, of up to 1, 2, ... guesses; 0: not measured.
using DraftUse = std::array<float, 8>;

// Where a board keeps the records of a stage: rows [0, psram_rows) in PSRAM, the next flash_rows in flash, the rest in
// the index on the card. Of the first stage what is in memory ends with a group, or with the last row; rows are the
// same in all of its parts.
struct StagePlace {
  uint32_t psram_rows = 0;
  uint32_t flash_rows = 0;
};

// An index that passed every check of its header. A small value.
struct Index {
  std::array<SectionRef, kNumSections> sections = {};
  ScreenInfo screen;
  DraftUse draft_use = {};

  const SectionRef& section(Section id) const { return sections[static_cast<size_t>(id)]; }
  const SectionRef& stage(uint32_t i) const { return sections[static_cast<size_t>(Section::kFirstStage) + i]; }
  // Where the records of a part of the first stage begin in the index.
  uint64_t part_offset(uint32_t p, uint32_t vocab_size) const {
    return stage(0).offset + uint64_t{vocab_size} * 4 * screen.part(p).first_word;
  }
  bool has_screen() const { return screen.record_bytes[0] != 0; }
};

// Checksums of a tensor's blocks, and of all tensors.
inline uint64_t NumBlocks(const TensorRef& tensor) {
  return (tensor.size_bytes() + kCheckBlockBytes - 1) / kCheckBlockBytes;
}
uint64_t NumBlocks(const ModelFile& model);

// The checksum of everything in the model's file that is no tensor data (ModelFile::metadata). `buffer`: for reading,
// as FileReader wants it. Fails by I/O.
Result<uint32_t> MetadataChecksum(storage::FileReader& reader, const ModelFile& model, std::span<std::byte> buffer,
                                  Xxh32::TakeStripes xxh32);

// What an index knows its model by: a checksum over the names, types and shapes of the stored tensors and over the
// section of the index that has the checksums of their blocks.
uint32_t IdentityOf(const ModelFile& model, const SectionRef& block_checks, Xxh32::TakeStripes xxh32);

// Reads the header of an index through `index_reader` and checks it against the model behind `reader`: kCorrupt for a
// damaged one, kUnsupported for another version, kInvalidArgument for one that belongs to another model, to another
// header or to other weights; the sentences say what mends it. Reads all of the model's metadata, and at most
// kMaxProbes blocks of it, from matrices of each kind, with their checksums: where two or more of them differ, the
// weights are others. One that differs is left to the reader of the block, which can say where. `buffer`: for reading,
// at least kIndexHeaderBytes.
Result<Index> OpenIndex(storage::FileReader& reader, storage::FileReader& index_reader, const ModelFile& model,
                        std::span<std::byte> buffer, Xxh32::TakeStripes xxh32);

// The header, as OpenIndex() reads it: what 'thimble prepare' writes. `metadata_checksum` as MetadataChecksum() says;
// `out` has kIndexHeaderBytes.
void FormatIndexHeader(const Index& index, const ModelFile& model, uint32_t metadata_checksum, uint64_t index_bytes,
                       std::span<std::byte> out, Xxh32::TakeStripes xxh32);

// Reads a section into memory through `buffer`, as FileReader wants it. Fails by I/O, kCorrupt when its checksum does
// not fit. `out` has the section's size.
Result<void> LoadSection(storage::FileReader& reader, const SectionRef& section, std::span<std::byte> out,
                         std::span<std::byte> buffer, Xxh32::TakeStripes xxh32);

// The same of a section that is in memory: kCorrupt when its checksum does not fit.
Result<void> CheckSectionBytes(const SectionRef& section, std::span<const std::byte> bytes, Xxh32::TakeStripes xxh32);
// Reads a section through `buffer` and checks it. Fails as LoadSection().
Result<void> CheckSection(storage::FileReader& reader, const SectionRef& section, std::span<std::byte> buffer,
                          Xxh32::TakeStripes xxh32);

// Checks whole tensors as they are streamed, and rows. Refers to the table, which outlives it. One thread.
class WeightChecks {
 public:
  WeightChecks() = default;
  // `blocks`: the section kBlockChecks, in memory and checked: what does not fit is the model's fault.
  WeightChecks(const ModelFile& model, std::span<const uint32_t> blocks, Xxh32::TakeStripes function)
      : model_(&model), blocks_(blocks), xxh32_(function) {}

  bool empty() const { return blocks_.empty(); }
  std::span<const uint32_t> BlocksOf(TensorId id) const;
  Xxh32::TakeStripes xxh32() const { return xxh32_; }

 private:
  const ModelFile* model_ = nullptr;
  mutable SumBefore<size_t> blocks_before_;
  std::span<const uint32_t> blocks_;
  Xxh32::TakeStripes xxh32_ = nullptr;
};

// What a checksum that does not fit means, where that of the index is sound: `offset` in the model's file.
std::unexpected<Error> DamagedWeights(TensorId tensor, uint64_t offset);
// The same of the index's own bytes.
std::unexpected<Error> DamagedIndex(uint64_t offset);

}  // namespace thimble::formats

#endif  // THIMBLE_ENGINE_FORMATS_INDEX_FILE_H_
