#include "host/models/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "engine/base/arena.h"
#include "engine/base/ledger.h"
#include "engine/formats/card_models.h"
#include "engine/formats/model_folder.h"
#include "engine/math/kernels.h"
#include "engine/storage/volume.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tokenizer_image.h"
#include "engine/text/utf8.h"
#include "host/formats/tensor_name.h"
#include "host/models/loaded_model.h"
#include "host/models/loaded_tokenizer.h"
#include "host/support/aligned_buffer.h"
#include "host/support/progress.h"
#include "host/support/sha256.h"

namespace thimble::host {
namespace {

constexpr uint64_t kPieceBytes = 1 << 20;

Result<std::span<const std::byte>> Read(storage::FileReader& reader, uint64_t offset, uint64_t size,
                                        AlignedBuffer& buffer) {
  THIMBLE_TRY(reader.Start(offset, size, buffer.bytes()));
  return reader.Wait();
}

// Blocks that begin before this byte of a tensor.
uint64_t BlocksBefore(DType type, uint64_t byte) { return (byte + BlockBytes(type) - 1) / BlockBytes(type); }

// Where a block's binary16 scales lie; one of two bytes is never cut by a piece's edge, as tensors, blocks and pieces
// begin at even bytes.
std::span<const uint8_t> ScalesOf(DType type) {
  static constexpr std::array<uint8_t, 2> kScaleAndOffset = {0, 2};
  static constexpr std::array<uint8_t, 1> kOfQ6 = {208};
  switch (type) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return {};
    case DType::kQ8_0:
    case DType::kQ4_0:
    case DType::kQ5_0:
    case DType::kIQ4_NL:
      return std::span(kScaleAndOffset).first(1);
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return kScaleAndOffset;
    case DType::kQ6_K:
      return kOfQ6;
  }
  return {};
}
constexpr size_t kScaleBytes = sizeof(uint16_t);
static_assert(kPieceBytes % kScaleBytes == 0);

template <class Word>
std::optional<size_t> FirstWithAllBits(std::span<const std::byte> bytes, Word bits) {
  for (size_t i = 0; i + sizeof(Word) <= bytes.size(); i += sizeof(Word)) {
    Word word;
    std::memcpy(&word, bytes.data() + i, sizeof(word));
    if ((word & bits) == bits) return i;
  }
  return std::nullopt;
}

// Where the first number that is infinite or none stands: one whose exponent's bits are all set. `begin`: where the
// bytes stand in the tensor.
std::optional<size_t> FirstNotFinite(std::span<const std::byte> bytes, DType type, uint64_t begin) {
  switch (type) {
    case DType::kF32:
      return FirstWithAllBits<uint32_t>(bytes, 0x7f800000);
    case DType::kF16:
      return FirstWithAllBits<uint16_t>(bytes, 0x7c00);
    case DType::kBF16:
      return FirstWithAllBits<uint16_t>(bytes, 0x7f80);
    default:
      break;
  }
  std::optional<size_t> first;
  const uint64_t block_bytes = BlockBytes(type);
  for (const uint8_t scale : ScalesOf(type)) {
    for (uint64_t at = (block_bytes + scale - begin % block_bytes) % block_bytes; at + kScaleBytes <= bytes.size();
         at += block_bytes) {
      if (!FirstWithAllBits<uint16_t>(bytes.subspan(static_cast<size_t>(at), kScaleBytes), 0x7c00)) continue;
      first = std::min<size_t>(first.value_or(bytes.size()), static_cast<size_t>(at));
      break;
    }
  }
  return first;
}

uint32_t Checksum(std::span<const std::byte> bytes) { return math::BestKernels().xxh32(0, bytes.data(), bytes.size()); }

// A tensor's blocks or rows, each of which has a checksum.
class UnitCheck {
 public:
  UnitCheck(const TensorRef& tensor, uint64_t unit_bytes, std::span<const uint32_t> checksums)
      : tensor_(&tensor), unit_bytes_(unit_bytes), checksums_(checksums) {}

  const TensorRef& tensor() const { return *tensor_; }
  uint64_t checked() const { return checked_; }  // units that fit

  // Bytes of the tensor.
  struct Range {
    uint64_t begin = 0;
    uint64_t size_bytes = 0;
  };

  // Takes the tensor's next bytes; returns the first unit that does not fit.
  std::optional<Range> Add(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const Range unit = {.begin = checked_ * unit_bytes_,
                          .size_bytes = std::min(unit_bytes_, tensor_->size_bytes() - checked_ * unit_bytes_)};
      const auto part = bytes.first(std::min(bytes.size(), static_cast<size_t>(unit.size_bytes) - begun_.size()));
      begun_.insert(begun_.end(), part.begin(), part.end());
      bytes = bytes.subspan(part.size());
      if (begun_.size() != unit.size_bytes) return std::nullopt;
      if (Checksum(begun_) != checksums_[static_cast<size_t>(checked_)]) return unit;
      begun_.clear();
      ++checked_;
    }
    return std::nullopt;
  }

 private:
  const TensorRef* tensor_;
  uint64_t unit_bytes_;
  std::span<const uint32_t> checksums_;
  uint64_t checked_ = 0;
  std::vector<std::byte> begun_;  // of the unit after those
};

// All of them. Rows come before blocks: they tell more of the place.
std::vector<UnitCheck> UnitChecksOf(const formats::ModelFile& model, const IndexChecks& index) {
  std::vector<UnitCheck> checks;
  const TensorRef& embedding = model.tensor({TensorKind::kTokenEmbd, 0});
  const TensorRef& head = model.tied ? embedding : model.tensor({TensorKind::kLmHead, 0});
  checks.emplace_back(embedding, embedding.row_bytes(), index.embedding_rows);
  if (!index.head_rows.empty()) checks.emplace_back(head, head.row_bytes(), index.head_rows);
  const formats::WeightChecks blocks(model, index.blocks, math::BestKernels().xxh32_stripes);
  for (const TensorRef* tensor : StoredTensors(model)) {
    checks.emplace_back(*tensor, formats::kCheckBlockBytes, blocks.BlocksOf(tensor->id));
  }
  return checks;
}

class ByteCheck {
 public:
  ByteCheck(const ModelBytes& bytes, const formats::ModelFile& model, const ModelBytes* reference,
            const IndexChecks* index)
      : bytes_(&bytes),
        reference_(reference),
        index_(index),
        piece_(bytes.reader->BufferBytes(kPieceBytes)),
        tensors_(StoredTensors(model)) {
    if (index != nullptr) units_ = UnitChecksOf(model, *index);
    if (reference != nullptr) other_.emplace(reference->reader->BufferBytes(kPieceBytes));
  }

  Expected<CheckedBytes> Run() {
    if (reference_ != nullptr) THIMBLE_TRY(CompareSizes());
    Progress progress("verify", bytes_->size_bytes());
    for (size_t i = 0; i < bytes_->parts.size(); ++i) {
      part_ = &bytes_->parts[i];
      for (uint64_t offset = 0; offset < part_->size_bytes; offset += kPieceBytes) {
        const uint64_t size = std::min(kPieceBytes, part_->size_bytes - offset);
        const auto bytes = Read(*bytes_->reader, part_->offset_bytes + offset, size, piece_);
        if (!bytes) return Unreadable(offset, size, bytes.error());
        sha_.Add(*bytes);
        if (reference_ != nullptr) THIMBLE_TRY(Compare(reference_->parts[i], offset, *bytes));
        for (const TensorRef* tensor : tensors_) {
          THIMBLE_TRY(CheckFinite(*tensor, part_->offset_bytes + offset, *bytes));
        }
        for (UnitCheck& unit : units_) THIMBLE_TRY(CheckUnits(unit, part_->offset_bytes + offset, *bytes));
        progress.Advance(size);
      }
    }
    CheckedBytes checked = {.weights = weights_, .checksums = 0, .sha256 = sha_.Finish()};
    for (const UnitCheck& unit : units_) checked.checksums += unit.checked();
    return checked;
  }

 private:
  // "byte 4096, in row 0 of tensor blk.0.ffn_up.weight", for an offset within the part.
  std::string Place(uint64_t offset) const {
    const std::string byte =
        part_->name.empty() ? fmt::format("byte {}", offset) : fmt::format("byte {} of {}", offset, part_->name);
    const uint64_t at = part_->offset_bytes + offset;
    for (const TensorRef* tensor : tensors_) {
      if (at < tensor->offset || at - tensor->offset >= tensor->size_bytes()) continue;
      return fmt::format("{}, in row {} of tensor {}", byte, (at - tensor->offset) / tensor->row_bytes(),
                         TensorName(tensor->id));
    }
    return byte + ", outside all tensors";
  }

  // What of the bytes, which stand at `at`, is the tensor's.
  static std::span<const std::byte> PartOf(const TensorRef& tensor, uint64_t at, std::span<const std::byte> bytes) {
    const uint64_t begin = std::max(at, tensor.offset);
    const uint64_t end = std::min(at + bytes.size(), tensor.offset + tensor.size_bytes());
    if (begin >= end) return {};
    return bytes.subspan(static_cast<size_t>(begin - at), static_cast<size_t>(end - begin));
  }

  Status CheckUnits(UnitCheck& units, uint64_t at, std::span<const std::byte> bytes) const {
    const TensorRef& tensor = units.tensor();
    const auto bad = units.Add(PartOf(tensor, at, bytes));
    if (!bad) return {};
    return Sentence(fmt::format(
        "{} is damaged: the {} bytes from {} on have another checksum than in {}; copy or download the "
        "model again, or, if its weights were changed, make the index again with 'thimble prepare'",
        bytes_->name, bad->size_bytes, Place(tensor.offset + bad->begin - part_->offset_bytes), index_->name));
  }

  // `at`: where the bytes stand, as the tensor's offset.
  Status CheckFinite(const TensorRef& tensor, uint64_t at, std::span<const std::byte> bytes) {
    const auto part = PartOf(tensor, at, bytes);
    if (part.empty()) return {};
    const uint64_t begin = std::max(at, tensor.offset);
    const uint64_t end = begin + part.size();
    const uint64_t blocks =
        BlocksBefore(tensor.type, end - tensor.offset) - BlocksBefore(tensor.type, begin - tensor.offset);
    weights_ += blocks * BlockElements(tensor.type);
    const auto bad = FirstNotFinite(part, tensor.type, begin - tensor.offset);
    if (!bad) return {};
    return Sentence(fmt::format(
        "{} is damaged: at {}, column {}, stands infinity or no number; copy or download the model again", bytes_->name,
        Place(begin + *bad - part_->offset_bytes),
        (begin + *bad - tensor.offset) % tensor.row_bytes() / BlockBytes(tensor.type) * BlockElements(tensor.type)));
  }

  Status CompareSizes() const {
    const auto& mine = bytes_->parts;
    const auto& its = reference_->parts;
    if (!std::ranges::equal(mine, its, {}, &ModelBytes::Part::name, &ModelBytes::Part::name)) {
      return Sentence(
          fmt::format("{} and {} are not the same files: copy the model again", bytes_->name, reference_->name));
    }
    for (size_t i = 0; i < mine.size(); ++i) {
      if (mine[i].size_bytes == its[i].size_bytes) continue;
      return Sentence(fmt::format("{}{} has {} bytes and {} has {}: copy the model again", bytes_->name,
                                  mine[i].name.empty() ? "" : "/" + mine[i].name, mine[i].size_bytes, reference_->name,
                                  its[i].size_bytes));
    }
    return {};
  }

  Status Compare(const ModelBytes::Part& part, uint64_t offset, std::span<const std::byte> bytes) {
    const auto expected = Read(*reference_->reader, part.offset_bytes + offset, bytes.size(), *other_);
    if (!expected) return Failed(reference_->name, expected.error());
    const auto [mine, its] = std::ranges::mismatch(bytes, *expected);
    if (mine == bytes.end()) return {};
    return Sentence(fmt::format("{} and {} differ first at {}: {:02x} instead of {:02x}; copy the model again",
                                bytes_->name, reference_->name,
                                Place(offset + static_cast<uint64_t>(mine - bytes.begin())),
                                std::to_integer<unsigned>(*mine), std::to_integer<unsigned>(*its)));
  }

  // A piece could not be read: which block of it?
  std::unexpected<std::string> Unreadable(uint64_t offset, uint64_t size, Error error) {
    const uint64_t block = bytes_->reader->block_bytes();
    for (uint64_t at = offset; at < offset + size; at += block) {
      const auto bytes = Read(*bytes_->reader, part_->offset_bytes + at, std::min(block, offset + size - at), piece_);
      if (bytes) continue;
      offset = at;
      error = bytes.error();
      break;
    }
    return Sentence(fmt::format("{} cannot be read at {}: {}; copy the model to another card", bytes_->name,
                                Place(offset), SentenceOf(error)));
  }

  const ModelBytes* bytes_;
  const ModelBytes* reference_;
  const IndexChecks* index_;
  AlignedBuffer piece_;
  std::optional<AlignedBuffer> other_;
  std::vector<const TensorRef*> tensors_;
  std::vector<UnitCheck> units_;
  const ModelBytes::Part* part_ = nullptr;  // being read
  Sha256 sha_;
  uint64_t weights_ = 0;
};

// An index, read as a whole.
class IndexCheck {
 public:
  IndexCheck(const formats::Index& index, const formats::ModelFile& model, std::vector<std::byte> file,
             const std::string& name)
      : index_(&index), model_(&model), file_(std::move(file)), name_(name) {}

  Expected<IndexChecks> Run(storage::FileReader& reader) {
    THIMBLE_TRY(CheckPadding());
    for (size_t i = 0; i < formats::kNumSections; ++i) {
      const auto id = static_cast<formats::Section>(i);
      if (id == formats::Section::kDrafts && index_->section(id).bytes == 0) continue;  // it is not even said where
      if (Checksum(BytesOf(id)) == index_->section(id).checksum) continue;
      THIMBLE_TRY(CheckParts(id));
      return Damaged(id, "", 0, index_->section(id).bytes);
    }
    for (size_t i = 0; i < formats::kNumSections; ++i) THIMBLE_TRY(CheckParts(static_cast<formats::Section>(i)));
    THIMBLE_TRY(CheckTokenizerImage(reader));
    return IndexChecks{.name = name_,
                       .blocks = Numbers(formats::Section::kBlockChecks),
                       .embedding_rows = Numbers(formats::Section::kRowChecks),
                       .head_rows = HeadRows()};
  }

 private:
  std::span<const std::byte> BytesOf(formats::Section id) const {
    const formats::SectionRef& section = index_->section(id);
    return std::span(file_).subspan(static_cast<size_t>(section.offset), static_cast<size_t>(section.bytes));
  }
  uint32_t NumberAt(std::span<const std::byte> bytes) const {
    uint32_t number = 0;
    std::memcpy(&number, bytes.data(), sizeof(number));
    return number;
  }
  std::vector<uint32_t> Numbers(formats::Section id) const {
    const auto bytes = BytesOf(id);
    std::vector<uint32_t> numbers(bytes.size() / sizeof(uint32_t));
    std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(uint32_t));
    return numbers;
  }
  uint32_t record_bytes(uint32_t stage) const { return index_->screen.record_bytes[stage]; }
  std::vector<uint32_t> HeadRows() const {
    std::vector<uint32_t> rows;
    const auto records = BytesOf(formats::Section::kSecondStage);
    for (size_t end = record_bytes(1); index_->has_screen() && end <= records.size(); end += record_bytes(1)) {
      rows.push_back(NumberAt(records.subspan(end - sizeof(formats::RecordTail))));
    }
    return rows;
  }

  static const char* NameOf(formats::Section id) {
    switch (id) {
      case formats::Section::kBlockChecks:
        return "checksums of blocks";
      case formats::Section::kRowChecks:
        return "checksums of rows";
      case formats::Section::kMean:
        return "mean row";
      case formats::Section::kTransform:
        return "transform of the screen";
      case formats::Section::kGroupChecks:
        return "checksums of the screen's groups";
      case formats::Section::kFirstStage:
        return "first stage of the screen";
      case formats::Section::kSecondStage:
        return "second stage of the screen";
      case formats::Section::kTokenizer:
        return "tokenizer";
      case formats::Section::kDrafts:
        return "drafts";
    }
    return "";
  }
  // `begin`: in the section.
  std::unexpected<std::string> Damaged(formats::Section id, const std::string& what, uint64_t begin,
                                       uint64_t bytes) const {
    return DamagedAt(fmt::format("{}{}", NameOf(id), what), index_->section(id).offset + begin, bytes);
  }
  std::unexpected<std::string> DamagedAt(const std::string& what, uint64_t begin, uint64_t bytes) const {
    return Sentence(
        fmt::format("{} is damaged in its {}, bytes {} to {}: copy it again, or make it again with 'thimble prepare'",
                    name_, what, begin, begin + std::max<uint64_t>(bytes, 1) - 1));
  }

  // What is no section is zeros.
  Status CheckPadding() const {
    std::vector<formats::SectionRef> sections(index_->sections.begin(), index_->sections.end());
    std::ranges::sort(sections, {}, &formats::SectionRef::offset);
    sections.push_back({.offset = file_.size()});
    uint64_t at = formats::kIndexHeaderBytes;
    for (const formats::SectionRef& section : sections) {
      for (; at < section.offset; ++at) {
        if (file_[static_cast<size_t>(at)] != std::byte{}) return DamagedAt("padding", at, 1);
      }
      at = std::max(at, section.offset + section.bytes);
    }
    return {};
  }

  // The parts of a section that have checksums of their own.
  Status CheckParts(formats::Section id) const {
    const auto bytes = BytesOf(id);
    if (id == formats::Section::kTokenizer) {
      for (size_t at = 0; at + text::kImagePageBytes <= bytes.size(); at += text::kImagePageBytes) {
        const auto page = bytes.subspan(at, text::kImagePageBytes);
        const auto payload = page.first(text::kImagePayloadBytes);
        if (Checksum(payload) != NumberAt(page.subspan(payload.size()))) return Damaged(id, "", at, page.size());
      }
    } else if (id == formats::Section::kFirstStage && index_->has_screen()) {
      return CheckFirstStage(bytes);
    } else if (id == formats::Section::kSecondStage && index_->has_screen()) {
      for (size_t at = 0; at + record_bytes(1) <= bytes.size(); at += record_bytes(1)) {
        const auto record = bytes.subspan(at, record_bytes(1));
        const auto checked = record.first(record.size() - sizeof(formats::RecordTail::record_checksum));
        if (Checksum(checked) == NumberAt(record.subspan(checked.size()))) continue;
        return Damaged(id, fmt::format(", row {}", at / record_bytes(1)), at, record.size());
      }
    }
    return {};
  }

  Status CheckFirstStage(std::span<const std::byte> bytes) const {
    const formats::ScreenInfo& screen = index_->screen;
    const auto checksums = Numbers(formats::Section::kGroupChecks);
    const uint32_t num_groups = screen.num_groups(model_->shape.vocab_size);
    const uint64_t rows = screen.group_rows();
    for (size_t i = 0; i < checksums.size(); ++i) {
      const auto p = static_cast<uint32_t>(i / num_groups);
      const uint64_t g = i % num_groups;
      const uint64_t row_bytes = screen.part(p).record_bytes();
      const uint64_t part_at = index_->part_offset(p, model_->shape.vocab_size) - index_->stage(0).offset;
      const uint64_t begin = g * rows * row_bytes;
      const uint64_t size = std::min(rows * row_bytes, model_->shape.vocab_size * row_bytes - begin);
      const auto group = bytes.subspan(static_cast<size_t>(part_at + begin), static_cast<size_t>(size));
      if (Checksum(group) == checksums[i]) continue;
      const std::string part = screen.num_parts == 1 ? "" : fmt::format(", part {} of {}", p + 1, screen.num_parts);
      return Damaged(formats::Section::kFirstStage,
                     fmt::format("{}, rows {} to {}", part, g * rows, g * rows + size / row_bytes - 1), part_at + begin,
                     size);
    }
    return {};
  }

  // Everything in it that checksums cannot tell.
  Status CheckTokenizerImage(storage::FileReader& reader) const {
    const formats::SectionRef& image = index_->section(formats::Section::kTokenizer);
    if (image.bytes == 0 || !model_->tokenizer.present) return {};
    AlignedBuffer table(text::Tokenizer::TableBytes(model_->tokenizer));
    Arena arena(Region::kPsram, table.bytes());
    AlignedBuffer buffer(1 << 16);
    storage::ByteReader bytes(reader, buffer.bytes());
    const auto loaded =
        text::Tokenizer::LoadImage(model_->tokenizer, bytes, image, math::BestKernels().xxh32_stripes, arena);
    if (!loaded) return Failed(name_, loaded.error());
    return {};
  }

  const formats::Index* index_;
  const formats::ModelFile* model_;
  std::vector<std::byte> file_;
  std::string name_;
};

// How many layers a model has that has the file of this number.
uint32_t LayersUpTo(uint32_t number) {
  if (number < formats::kFolderTensors + kTensorsOutsideLayers) return 1;
  return (number - formats::kFolderTensors - kTensorsOutsideLayers) / formats::kFolderTensorsPerLayer + 1;
}

// Piece() has the byte FF where the vocabulary has U+FFFD.
bool IsText(std::string_view text) {
  while (!text.empty()) {
    const text::Utf8Step step = text::NextUtf8(text);
    if (step.kind != text::Utf8::kWhole && text[0] != '\xff') return false;
    text.remove_prefix(text[0] == '\xff' ? 1 : step.bytes);
  }
  return true;
}

}  // namespace

ModelBytes::ModelBytes(storage::FileReader& model_reader, const OpenedModel& opened, std::string model_name)
    : reader(&model_reader), name(std::move(model_name)) {
  const formats::ModelFolder& folder = opened.folder;
  if (folder.is_empty()) {
    parts.push_back({.name = {}, .offset_bytes = 0, .size_bytes = opened.file.size_bytes});
    return;
  }
  uint32_t layers = 1;
  for (uint32_t number = 0; number < folder.num_slots(); ++number) {
    if (folder.file(number).is_there()) layers = std::max(layers, LayersUpTo(number));
  }
  for (uint32_t number = 0; number < folder.num_slots(); ++number) {
    const formats::FolderFile file = folder.file(number);
    if (!file.is_there()) continue;
    std::array<char, 64> text;
    const size_t size = formats::FormatFolderFileName(number, layers, text);
    parts.push_back(
        {.name = std::string(text.data(), size), .offset_bytes = file.offset_bytes, .size_bytes = file.size_bytes});
  }
}

uint64_t ModelBytes::size_bytes() const {
  uint64_t sum = 0;
  for (const Part& part : parts) sum += part.size_bytes;
  return sum;
}

Expected<CheckedBytes> CheckBytes(const ModelBytes& bytes, const formats::ModelFile& model, const ModelBytes* reference,
                                  const IndexChecks* index) {
  return ByteCheck(bytes, model, reference, index).Run();
}

Expected<IndexChecks> CheckIndex(storage::FileReader& index_reader, const formats::Index& index,
                                 const formats::ModelFile& model, const std::string& name) {
  std::vector<std::byte> file(static_cast<size_t>(index_reader.file_size_bytes()));
  AlignedBuffer buffer(index_reader.BufferBytes(kPieceBytes));
  if (const auto read = storage::ReadBytes(index_reader, 0, file, buffer.bytes()); !read) {
    return Failed(name, read.error());
  }
  return IndexCheck(index, model, std::move(file), name).Run(index_reader);
}

Expected<CheckedTokenizer> CheckTokenizer(storage::FileReader& reader, const formats::ModelFile& model,
                                          const std::string& name) {
  if (const auto fault = TokenizerFault(reader, model)) {
    if (fault->code != Code::kUnsupported) return Failed(name, *fault);
    return CheckedTokenizer{.tokens = 0, .no_texts = SentenceOf(*fault)};
  }
  if (!model.tokenizer.present) return CheckedTokenizer();
  const auto loaded = LoadedTokenizer::Load(reader, model.tokenizer);
  if (!loaded) return Failed(name, loaded.error());
  const text::Tokenizer& tokenizer = loaded->get();
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    const std::string_view piece = tokenizer.Piece(id);
    const bool is_byte = tokenizer.Type(id) == text::TokenType::kByte;
    if (tokenizer.is_byte_level() || (is_byte ? piece.size() == 1 : IsText(piece))) continue;
    return Sentence(
        fmt::format("{}: the text of token {} is not UTF-8; convert the model again from its source", name, id));
  }
  return CheckedTokenizer{.tokens = tokenizer.size(), .no_texts = {}};
}

Expected<CheckedVolume> CheckVolume(storage::BlockDevice& device, const std::string& name) {
  Ledger ledger;
  AlignedBuffer sector(device.geometry().block_bytes);
  AlignedBuffer scratch(kPieceBytes);
  storage::Sectors sectors(device, sector.bytes(), ledger);
  auto volume = formats::MountModels(sectors);
  if (!volume) return Failed(name, volume.error());
  const auto same = volume->CompareTables(scratch.bytes());
  if (!same) return Failed(name, same.error());
  return CheckedVolume{.format_name = volume->format_name(), .table_count = volume->table_count()};
}

}  // namespace thimble::host
