#include "host/formats/gguf_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <string_view>
#include <utility>

#include "engine/formats/gguf.h"
#include "host/support/input_file.h"
#include "host/support/little_endian.h"
#include "host/support/paths.h"
#include "host/support/progress.h"

namespace thimble::host {
namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr uint64_t kLongestNameBytes = 1024;
constexpr uint32_t kMaxDimensions = 4;
constexpr int kMaxArrayDepth = 4;
constexpr uint32_t kTextType = 8;
constexpr uint32_t kArrayType = 9;
constexpr std::string_view kExtension = ".gguf";

// "-00002-of-00003.gguf" of a name's end.
struct PartNumber {
  uint32_t number = 0;  // from 1
  uint32_t count = 0;
};
constexpr size_t kDigits = 5;
constexpr std::string_view kOf = "-of-";
constexpr size_t kSuffixBytes = 1 + kDigits + kOf.size() + kDigits + kExtension.size();

std::optional<PartNumber> NumberOf(const std::string& path) {
  if (path.size() <= kSuffixBytes) return std::nullopt;
  const std::string_view suffix = std::string_view(path).substr(path.size() - kSuffixBytes);
  if (suffix[0] != '-' || suffix.substr(1 + kDigits, kOf.size()) != kOf || !suffix.ends_with(kExtension)) {
    return std::nullopt;
  }
  const auto number = [&](size_t at) {
    uint32_t value = 0;
    for (const char c : suffix.substr(at, kDigits)) {
      if (c < '0' || c > '9') return uint32_t{0};
      value = 10 * value + static_cast<uint32_t>(c - '0');
    }
    return value;
  };
  const PartNumber part = {.number = number(1), .count = number(1 + kDigits + kOf.size())};
  if (part.number == 0 || part.count < 2 || part.number > part.count) return std::nullopt;
  return part;
}

std::string PathOfPart(const std::string& path, PartNumber part) {
  return fmt::format("{}-{:05}-of-{:05}{}", path.substr(0, path.size() - kSuffixBytes), part.number, part.count,
                     kExtension);
}

uint64_t AlignUp(uint64_t n, uint64_t alignment) { return (n + alignment - 1) / alignment * alignment; }

// A file's bytes, one after the other.
class Cursor {
 public:
  explicit Cursor(const InputFile& file) : file_(&file) {}

  uint64_t offset() const { return offset_; }
  uint64_t left() const { return file_->size_bytes() - offset_; }

  Status Read(std::span<std::byte> out) {
    if (out.size() > left()) return Ended();
    while (!out.empty()) {
      if (offset_ < begin_ || offset_ >= begin_ + buffer_.size()) {
        begin_ = offset_;
        buffer_.resize(static_cast<size_t>(std::min<uint64_t>(kBufferBytes, left())));
        THIMBLE_TRY(file_->ReadAt(begin_, buffer_));
      }
      const auto part = std::span(buffer_).subspan(static_cast<size_t>(offset_ - begin_));
      const size_t n = std::min(part.size(), out.size());
      std::ranges::copy(part.first(n), out.begin());
      out = out.subspan(n);
      offset_ += n;
    }
    return {};
  }

  template <class T>
  Expected<T> Number() {
    std::array<std::byte, sizeof(T)> bytes;
    THIMBLE_TRY(Read(bytes));
    return LoadLittleEndian<T>(bytes.data());
  }

  Expected<std::string> Text() {
    THIMBLE_ASSIGN(const uint64_t size, Number<uint64_t>());
    if (size > kLongestNameBytes) {
      return Sentence(fmt::format("{} has a name of {} bytes at byte {}; it is damaged", file_->path(), size, offset_));
    }
    std::string text(static_cast<size_t>(size), '\0');
    THIMBLE_TRY(Read(std::as_writable_bytes(std::span(text))));
    return text;
  }

  Status Skip(uint64_t bytes) {
    if (bytes > left()) return Ended();
    offset_ += bytes;
    return {};
  }

  Status Damaged(const char* what) const {
    return Sentence(fmt::format("{} is damaged: at byte {} {}", file_->path(), offset_, what));
  }

 private:
  Status Ended() const {
    return Sentence(fmt::format("{} ends within its header; copy or download it again", file_->path()));
  }

  const InputFile* file_;
  uint64_t offset_ = 0;
  std::vector<std::byte> buffer_;
  uint64_t begin_ = 0;  // of the buffer
};

// Bytes of a value that is neither a string nor an array; 0: there is no such type.
uint64_t ScalarBytes(uint32_t type) {
  constexpr std::array<uint8_t, 13> kBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < kBytes.size() ? kBytes[type] : 0;
}

Status SkipValue(Cursor& cursor, uint32_t type, int depth) {
  if (const uint64_t bytes = ScalarBytes(type)) return cursor.Skip(bytes);
  if (type == kTextType) {
    THIMBLE_ASSIGN(const uint64_t size, cursor.Number<uint64_t>());
    return cursor.Skip(size);
  }
  if (type != kArrayType || depth == kMaxArrayDepth) return cursor.Damaged("stands a value of no known type");
  THIMBLE_ASSIGN(const uint32_t element, cursor.Number<uint32_t>());
  THIMBLE_ASSIGN(const uint64_t count, cursor.Number<uint64_t>());
  if (count > cursor.left()) return cursor.Damaged("begins an array that is longer than the file");
  if (const uint64_t bytes = ScalarBytes(element)) return cursor.Skip(count * bytes);
  for (uint64_t i = 0; i < count; ++i) THIMBLE_TRY(SkipValue(cursor, element, depth + 1));
  return {};
}

// A whole number of any width; none where the value is something else, which is passed over.
Expected<std::optional<uint64_t>> WholeNumber(Cursor& cursor, uint32_t type) {
  const uint64_t bytes = ScalarBytes(type);
  if (bytes == 0 || type == 6 || type == 7 || type == 12) {
    THIMBLE_TRY(SkipValue(cursor, type, 0));
    return std::nullopt;
  }
  std::array<std::byte, 8> raw = {};
  THIMBLE_TRY(cursor.Read(std::span(raw).first(static_cast<size_t>(bytes))));
  return LoadLittleEndian<uint64_t>(raw.data());
}

// A tensor as the table of its part has it.
struct PartTensor {
  std::string head;  // what stands before the offset
  uint64_t offset = 0;
};

struct Part {
  uint32_t version = 0;
  uint64_t pairs = 0;
  std::string pair_bytes;  // without split.*
  std::vector<PartTensor> tensors;
  uint64_t alignment = 32;
  uint64_t data_offset = 0;
  uint64_t data_bytes = 0;
};

class PartReader {
 public:
  PartReader(const InputFile& file, PartNumber number) : file_(&file), cursor_(file), number_(number) {}

  Expected<Part> Read() {
    std::array<std::byte, 4> magic = {};
    if (file_->size_bytes() >= magic.size()) THIMBLE_TRY(cursor_.Read(magic));
    if (std::string_view(reinterpret_cast<const char*>(magic.data()), magic.size()) != "GGUF") {
      return Sentence(fmt::format("{} is not a GGUF file, and is called a part of one", file_->path()));
    }
    THIMBLE_ASSIGN(part_.version, cursor_.Number<uint32_t>());
    if (part_.version != 2 && part_.version != 3) {
      return Sentence(fmt::format("{} has GGUF version {}, and 2 and 3 are read", file_->path(), part_.version));
    }
    THIMBLE_ASSIGN(const uint64_t tensors, cursor_.Number<uint64_t>());
    THIMBLE_ASSIGN(const uint64_t pairs, cursor_.Number<uint64_t>());
    for (uint64_t i = 0; i < pairs; ++i) THIMBLE_TRY(ReadPair());
    THIMBLE_TRY(CheckNumber());
    uint64_t end = 0;
    for (uint64_t i = 0; i < tensors; ++i) {
      THIMBLE_ASSIGN(const uint64_t tensor_end, ReadTensor());
      end = std::max(end, tensor_end);
    }
    part_.data_offset = AlignUp(cursor_.offset(), part_.alignment);
    const uint64_t size = file_->size_bytes();
    part_.data_bytes = size > part_.data_offset ? size - part_.data_offset : 0;
    if (end <= part_.data_bytes) return std::move(part_);
    return Sentence(
        fmt::format("{} is cut off: its tensors need {} bytes of data and it has {}; copy or download it "
                    "again",
                    file_->path(), end, part_.data_bytes));
  }

 private:
  Status ReadPair() {
    const uint64_t begin = cursor_.offset();
    THIMBLE_ASSIGN(const std::string key, cursor_.Text());
    THIMBLE_ASSIGN(const uint32_t type, cursor_.Number<uint32_t>());
    std::optional<uint64_t> number;
    const bool is_of_split = key.starts_with("split.");
    if (is_of_split || key == "general.alignment") {
      THIMBLE_ASSIGN(number, WholeNumber(cursor_, type));
    } else {
      THIMBLE_TRY(SkipValue(cursor_, type, 0));
    }
    if (key == "split.no") no_ = number;
    if (key == "split.count") count_ = number;
    if (key == "general.alignment") {
      if (!number || *number > (1u << 30) || !std::has_single_bit(*number)) {
        return Sentence(fmt::format("{} has a general.alignment that is no power of two", file_->path()));
      }
      part_.alignment = *number;
    }
    if (number_.number != 1 || is_of_split) return {};
    // Of the first part only, whose keys are the model's.
    std::string bytes(static_cast<size_t>(cursor_.offset() - begin), '\0');
    THIMBLE_TRY(file_->ReadAt(begin, std::as_writable_bytes(std::span(bytes))));
    part_.pair_bytes += bytes;
    ++part_.pairs;
    return {};
  }

  Status CheckNumber() const {
    if (no_ == number_.number - 1 && count_ == number_.count) return {};
    return Sentence(fmt::format(
        "{} says of itself that it is no part {} of {} of a model: all parts must keep the names that they were made "
        "with",
        file_->path(), number_.number, number_.count));
  }

  // Returns where its data end in the part's data.
  Expected<uint64_t> ReadTensor() {
    const uint64_t begin = cursor_.offset();
    THIMBLE_ASSIGN(const std::string name, cursor_.Text());
    THIMBLE_ASSIGN(const uint32_t dimensions, cursor_.Number<uint32_t>());
    if (dimensions > kMaxDimensions) return Damaged("stands a tensor of too many dimensions");
    uint64_t elements = 1;
    for (uint32_t i = 0; i < dimensions; ++i) {
      THIMBLE_ASSIGN(const uint64_t dimension, cursor_.Number<uint64_t>());
      if (__builtin_mul_overflow(elements, dimension, &elements)) return Damaged("stands a tensor of too large a size");
    }
    THIMBLE_ASSIGN(const uint32_t ggml_type, cursor_.Number<uint32_t>());
    PartTensor tensor;
    tensor.head.resize(static_cast<size_t>(cursor_.offset() - begin));
    THIMBLE_TRY(file_->ReadAt(begin, std::as_writable_bytes(std::span(tensor.head))));
    THIMBLE_ASSIGN(tensor.offset, cursor_.Number<uint64_t>());
    // Of another type: whoever reads the whole refuses it.
    const std::optional<DType> type = formats::TypeOfGgml(ggml_type);
    const uint64_t blocks = type ? elements / BlockElements(*type) : 0;
    uint64_t end = 0;
    if (__builtin_mul_overflow(blocks, uint64_t{type ? BlockBytes(*type) : 0}, &end) ||
        __builtin_add_overflow(end, tensor.offset, &end)) {
      return Damaged("stands a tensor of too large a size");
    }
    part_.tensors.push_back(std::move(tensor));
    return end;
  }

  std::unexpected<std::string> Damaged(const char* what) const {
    return std::unexpected<std::string>(cursor_.Damaged(what).error());
  }

  const InputFile* file_;
  Cursor cursor_;
  PartNumber number_;
  std::optional<uint64_t> no_, count_;
  Part part_;
};

template <class T>
void Append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// What stands before the data. `offsets`: where each part's data will begin in those of the whole.
std::string HeaderOf(std::span<const Part> parts, std::span<const uint64_t> offsets) {
  uint64_t tensors = 0;
  for (const Part& part : parts) tensors += part.tensors.size();
  std::string header = "GGUF";
  Append(header, parts[0].version);
  Append(header, tensors);
  Append(header, parts[0].pairs);
  header += parts[0].pair_bytes;
  for (size_t i = 0; i < parts.size(); ++i) {
    for (const PartTensor& tensor : parts[i].tensors) {
      header += tensor.head;
      Append(header, tensor.offset + offsets[i]);
    }
  }
  header.resize(static_cast<size_t>(AlignUp(header.size(), parts[0].alignment)), '\0');
  return header;
}

Status Copy(const InputFile& file, uint64_t offset, uint64_t bytes, FileSink& sink, Progress& progress) {
  std::vector<std::byte> buffer;
  while (bytes > 0) {
    buffer.resize(static_cast<size_t>(std::min<uint64_t>(kBufferBytes, bytes)));
    THIMBLE_TRY(file.ReadAt(offset, buffer));
    THIMBLE_TRY(sink.Write(buffer));
    progress.Advance(buffer.size());
    offset += buffer.size();
    bytes -= buffer.size();
  }
  return {};
}

}  // namespace

Expected<std::vector<std::string>> GgufParts(const std::string& path) {
  const std::optional<PartNumber> named = NumberOf(path);
  if (!named || IsFolder(path) || !Exists(path)) return std::vector<std::string>();
  if (named->number != 1) {
    return Sentence(fmt::format("{} is part {} of {} of a model: give the first, {}", path, named->number, named->count,
                                PathOfPart(path, {.number = 1, .count = named->count})));
  }
  std::vector<std::string> parts;
  for (uint32_t number = 1; number <= named->count; ++number) {
    parts.push_back(PathOfPart(path, {.number = number, .count = named->count}));
    if (Exists(parts.back())) continue;
    return Sentence(
        fmt::format("{} is not there: all {} parts of a model must lie beside each other", parts.back(), named->count));
  }
  return parts;
}

std::string NameOfParts(const std::string& path) {
  return NumberOf(path) ? NameOf(path.substr(0, path.size() - kSuffixBytes)) : StemOf(path);
}

Status JoinGguf(std::span<const std::string> paths, FileSink& sink) {
  std::vector<Part> parts;
  std::vector<uint64_t> offsets;
  uint64_t data_bytes = 0;
  for (size_t i = 0; i < paths.size(); ++i) {
    THIMBLE_ASSIGN(const InputFile file, InputFile::Open(paths[i]));
    const PartNumber number = {.number = static_cast<uint32_t>(i + 1), .count = static_cast<uint32_t>(paths.size())};
    THIMBLE_ASSIGN(Part part, PartReader(file, number).Read());
    offsets.push_back(data_bytes);
    data_bytes += AlignUp(part.data_bytes, i == 0 ? part.alignment : parts[0].alignment);
    parts.push_back(std::move(part));
  }
  const std::string header = HeaderOf(parts, offsets);
  Progress progress("join", header.size() + data_bytes);
  THIMBLE_TRY(sink.Write(std::as_bytes(std::span(header))));
  for (size_t i = 0; i < paths.size(); ++i) {
    THIMBLE_ASSIGN(const InputFile file, InputFile::Open(paths[i]));
    if (file.size_bytes() < parts[i].data_offset + parts[i].data_bytes && parts[i].data_bytes != 0) {
      return Sentence(fmt::format("{} has changed while it was read", paths[i]));
    }
    THIMBLE_TRY(Copy(file, parts[i].data_offset, parts[i].data_bytes, sink, progress));
    const std::string padding(
        static_cast<size_t>(AlignUp(parts[i].data_bytes, parts[0].alignment) - parts[i].data_bytes), '\0');
    THIMBLE_TRY(sink.Write(std::as_bytes(std::span(padding))));
  }
  return {};
}

}  // namespace thimble::host
