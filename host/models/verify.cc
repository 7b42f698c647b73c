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
#include "engine/formats/model_folder.h"
#include "engine/storage/fat32.h"
#include "engine/text/tokenizer.h"
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

// Of a block of Q8_0. A piece has it whole: tensors and pieces begin at even bytes.
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
    case DType::kQ8_0:
      for (uint64_t at = BlocksBefore(type, begin) * BlockBytes(type) - begin; at + kScaleBytes <= bytes.size();
           at += BlockBytes(type)) {
        const auto scale = bytes.subspan(static_cast<size_t>(at), kScaleBytes);
        if (FirstWithAllBits<uint16_t>(scale, 0x7c00)) return static_cast<size_t>(at);
      }
      return std::nullopt;
  }
  return std::nullopt;
}

class ByteCheck {
 public:
  ByteCheck(const ModelBytes& bytes, const formats::ModelFile& model, const ModelBytes* reference)
      : bytes_(&bytes), reference_(reference), piece_(bytes.reader->BufferBytes(kPieceBytes)) {
    for (const TensorRef& tensor : model.tensors) {
      if (!(model.tied && tensor.id.kind == TensorKind::kLmHead)) tensors_.push_back(&tensor);
    }
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
        progress.Advance(size);
      }
    }
    return CheckedBytes{.weights = weights_, .sha256 = sha_.Finish()};
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

  // `at`: where the bytes stand, as the tensor's offset.
  Status CheckFinite(const TensorRef& tensor, uint64_t at, std::span<const std::byte> bytes) {
    const uint64_t begin = std::max(at, tensor.offset);
    const uint64_t end = std::min(at + bytes.size(), tensor.offset + tensor.size_bytes());
    if (begin >= end) return {};
    const auto part = bytes.subspan(static_cast<size_t>(begin - at), static_cast<size_t>(end - begin));
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
  AlignedBuffer piece_;
  std::optional<AlignedBuffer> other_;
  std::vector<const TensorRef*> tensors_;
  const ModelBytes::Part* part_ = nullptr;  // being read
  Sha256 sha_;
  uint64_t weights_ = 0;
};

// How many layers a model has that has the file of this number.
uint32_t LayersUpTo(uint32_t number) {
  if (number < formats::kFolderTensors + kTensorsOutsideLayers) return 1;
  return (number - formats::kFolderTensors - kTensorsOutsideLayers) / kTensorsPerLayer + 1;
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

Expected<CheckedBytes> CheckBytes(const ModelBytes& bytes, const formats::ModelFile& model,
                                  const ModelBytes* reference) {
  return ByteCheck(bytes, model, reference).Run();
}

Expected<uint32_t> CheckTokenizer(storage::FileReader& reader, const formats::ModelFile& model,
                                  const std::string& name) {
  if (!model.tokenizer.present) return 0u;
  const auto loaded = LoadedTokenizer::Load(reader, model.tokenizer);
  if (!loaded) return Failed(name, loaded.error());
  const text::Tokenizer& tokenizer = loaded->get();
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    const std::string_view piece = tokenizer.Piece(id);
    const bool is_byte = tokenizer.Type(id) == text::TokenType::kByte;
    if (is_byte ? piece.size() == 1 : IsText(piece)) continue;
    return Sentence(
        fmt::format("{}: the text of token {} is not UTF-8; convert the model again from its source", name, id));
  }
  return tokenizer.size();
}

Expected<uint32_t> CheckAllocationTables(storage::BlockDevice& device, const std::string& name) {
  const storage::Extent whole = storage::WholeDevice(device);
  Ledger ledger;
  storage::FileReader disk(device, {.extents = {&whole, 1}, .size_bytes = whole.size_bytes}, ledger);
  AlignedBuffer sector(device.geometry().block_bytes);
  AlignedBuffer scratch(kPieceBytes);
  auto volume = storage::Fat32::Mount(disk, sector.bytes());
  if (!volume) return Failed(name, volume.error());
  const auto same = volume->CompareTables(scratch.bytes());
  if (!same) return Failed(name, same.error());
  return volume->table_count();
}

}  // namespace thimble::host
