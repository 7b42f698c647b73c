#include "host/formats/sentencepiece_model.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <set>
#include <span>

#include "engine/text/charsmap.h"
#include "host/support/utf8.h"

namespace thimble::host {
namespace {

// The wire format of protocol buffers (protobuf.dev, "Encoding"), as far as it is needed: one field after the other.
struct Field {
  uint32_t number = 0;
  uint32_t wire_type = 0;  // kVarint, kFixed64, kBytes, kFixed32
  uint64_t value = 0;      // of the numeric types
  std::string_view bytes;  // of kBytes

  float AsFloat() const { return std::bit_cast<float>(static_cast<uint32_t>(value)); }
};
constexpr uint32_t kVarint = 0;
constexpr uint32_t kFixed64 = 1;
constexpr uint32_t kBytes = 2;
constexpr uint32_t kFixed32 = 5;

class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : bytes_(bytes) {}

  // The next field; nothing at the end and where the bytes are no message.
  std::optional<Field> Next() {
    if (bytes_.empty()) return std::nullopt;
    const uint64_t tag = Varint();
    Field field;
    field.number = static_cast<uint32_t>(tag >> 3);
    field.wire_type = static_cast<uint32_t>(tag & 7);
    if (tag >> 3 == 0 || tag >> 3 >= 1u << 29) is_broken_ = true;
    switch (field.wire_type) {
      case kVarint:
        field.value = Varint();
        break;
      case kFixed64:
        field.value = Fixed(8);
        break;
      case kFixed32:
        field.value = Fixed(4);
        break;
      case kBytes:
        field.bytes = Take(Varint());
        break;
      default:  // groups, which no SentencePiece model has
        is_broken_ = true;
    }
    if (is_broken_) return std::nullopt;
    return field;
  }

  bool is_broken() const { return is_broken_; }

 private:
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (bytes_.empty()) break;
      const auto byte = static_cast<uint8_t>(bytes_.front());
      bytes_.remove_prefix(1);
      if (shift < 64) value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    is_broken_ = true;
    return 0;
  }

  uint64_t Fixed(size_t size) {
    const std::string_view bytes = Take(size);
    uint64_t value = 0;
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }

  std::string_view Take(uint64_t size) {
    if (size > bytes_.size()) {
      is_broken_ = true;
      return "";
    }
    const std::string_view taken = bytes_.substr(0, static_cast<size_t>(size));
    bytes_.remove_prefix(taken.size());
    return taken;
  }

  std::string_view bytes_;
  bool is_broken_ = false;
};

// Names, numbers and defaults as in sentencepiece_model.proto.
struct Piece {
  std::string_view piece;
  float score = 0;
  int32_t type = 1;
};

constexpr int32_t kUnigram = 1;
constexpr int32_t kBpe = 2;

struct Model {
  std::vector<Piece> pieces;
  bool has_trainer_spec = false;
  bool has_normalizer_spec = false;
  int32_t model_type = 1;
  bool treat_whitespace_as_suffix = false;
  bool byte_fallback = false;
  std::string_view bos_piece = "<s>";
  std::string_view eos_piece = "</s>";
  std::string_view normalizer_name;
  std::string_view precompiled_charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

// Sets `out` if the field is the one of this number and type; a field of another type is skipped, as protobuf does.
void Set(const Field& field, uint32_t number, bool& out) {
  if (field.number == number && field.wire_type == kVarint) out = field.value != 0;
}
void Set(const Field& field, uint32_t number, int32_t& out) {
  if (field.number == number && field.wire_type == kVarint) out = static_cast<int32_t>(field.value);
}
void Set(const Field& field, uint32_t number, float& out) {
  if (field.number == number && field.wire_type == kFixed32) out = field.AsFloat();
}
void Set(const Field& field, uint32_t number, std::string_view& out) {
  if (field.number == number && field.wire_type == kBytes) out = field.bytes;
}

// Reads the fields of one message; false if it is broken.
template <class F>
bool ForEachField(std::string_view bytes, F use) {
  WireReader reader(bytes);
  while (const std::optional<Field> field = reader.Next()) {
    if (!use(*field)) return false;
  }
  return !reader.is_broken();
}

bool ReadPiece(std::string_view bytes, Model& model) {
  Piece& piece = model.pieces.emplace_back();
  return ForEachField(bytes, [&](const Field& field) {
    Set(field, 1, piece.piece);
    Set(field, 2, piece.score);
    Set(field, 3, piece.type);
    return true;
  });
}

bool ReadTrainerSpec(std::string_view bytes, Model& model) {
  return ForEachField(bytes, [&](const Field& field) {
    Set(field, 3, model.model_type);
    Set(field, 24, model.treat_whitespace_as_suffix);
    Set(field, 35, model.byte_fallback);
    Set(field, 46, model.bos_piece);
    Set(field, 47, model.eos_piece);
    return true;
  });
}

bool ReadNormalizerSpec(std::string_view bytes, Model& model) {
  return ForEachField(bytes, [&](const Field& field) {
    Set(field, 1, model.normalizer_name);
    Set(field, 2, model.precompiled_charsmap);
    Set(field, 3, model.add_dummy_prefix);
    Set(field, 4, model.remove_extra_whitespaces);
    Set(field, 5, model.escape_whitespaces);
    return true;
  });
}

bool ReadModel(std::string_view bytes, Model& model) {
  return ForEachField(bytes, [&](const Field& field) {
    if (field.wire_type != kBytes) return true;
    if (field.number == 1) return ReadPiece(field.bytes, model);
    if (field.number == 2) {
      model.has_trainer_spec = true;
      return ReadTrainerSpec(field.bytes, model);
    }
    if (field.number == 3) {
      model.has_normalizer_spec = true;
      return ReadNormalizerSpec(field.bytes, model);
    }
    return true;
  });
}

Status CheckSpecs(const Model& model, const std::string& path) {
  const auto refuse = [&](std::string_view what) { return Sentence(fmt::format("{}: {}", path, what)); };
  constexpr std::array<std::string_view, 5> kModelTypes = {"type 0", "unigram", "BPE", "word", "character"};
  if (const int32_t type = model.model_type; type != kUnigram && type != kBpe) {
    const bool named = type >= 0 && static_cast<size_t>(type) < kModelTypes.size();
    return refuse(
        fmt::format("this is a SentencePiece {} model; only BPE and unigram are read",
                    named ? std::string(kModelTypes[static_cast<size_t>(type)]) : fmt::format("type {}", type)));
  }
  if (!text::IsCharsmap(std::as_bytes(std::span(model.precompiled_charsmap)))) {
    return refuse(
        fmt::format("the map of characters of its normalizer \"{}\" is damaged", Quote(model.normalizer_name)));
  }
  if (model.treat_whitespace_as_suffix) {
    return refuse("treat_whitespace_as_suffix is on; only tokenizers that put the space before the word are read");
  }
  return {};
}

}  // namespace

Expected<Vocabulary> ParseSentencePieceModel(std::string_view bytes, const std::string& path) {
  Model model;
  if (!ReadModel(bytes, model) || model.pieces.empty()) {
    return Sentence(fmt::format("{} is not a SentencePiece model", path));
  }
  if (!model.has_trainer_spec || !model.has_normalizer_spec) {
    return Sentence(
        fmt::format("{} does not say how it was trained, or how texts are normalised; it may be cut off", path));
  }
  THIMBLE_TRY(CheckSpecs(model, path));

  Vocabulary vocabulary;
  std::set<std::string_view> seen;
  size_t byte_pieces = 0;
  std::set<std::string, std::less<>> names_of_bytes;
  for (int byte = 0; byte < 256; ++byte) names_of_bytes.insert(ByteTokenName(static_cast<uint8_t>(byte)));
  for (const Piece& piece : model.pieces) {
    const size_t id = vocabulary.tokens.size();
    const std::string_view text = piece.piece;
    const auto refuse = [&](std::string_view what) {
      return Sentence(fmt::format("{}: piece {} (\"{}\") {}", path, id, Quote(text), what));
    };
    if (text.empty()) return refuse("is empty");
    if (!IsUtf8(text)) return refuse("is not UTF-8");
    if (!seen.insert(text).second) return refuse("stands there twice");
    if (!std::isfinite(piece.score)) return refuse("has a score that is not a finite number");
    if (piece.type < 1 || piece.type > 6) return refuse(fmt::format("has the unknown type {}", piece.type));
    const auto type = static_cast<TokenType>(piece.type);
    const auto token = static_cast<TokenId>(id);
    if (type == TokenType::kUnknown) {
      if (vocabulary.unk) return refuse("is a second unknown piece");
      vocabulary.unk = token;
    }
    if (type == TokenType::kByte) {
      if (!names_of_bytes.contains(text)) return refuse("is a byte piece, but is not spelt <0x00> to <0xFF>");
      ++byte_pieces;
    }
    if (type == TokenType::kControl) {
      if (text == model.bos_piece) vocabulary.bos = token;
      if (text == model.eos_piece) vocabulary.eos = token;
    }
    vocabulary.Add(std::string(text), piece.score, type);
  }
  if (!vocabulary.unk) return Sentence(fmt::format("{} has no unknown piece", path));

  if (byte_pieces != 0 && !model.byte_fallback) {
    return Sentence(fmt::format("{}: byte_fallback is off, but {} byte pieces are there", path, byte_pieces));
  }
  vocabulary.add_space_prefix = model.add_dummy_prefix;
  vocabulary.is_unigram = model.model_type == kUnigram;
  vocabulary.remove_extra_whitespaces = model.remove_extra_whitespaces;
  vocabulary.escape_whitespaces = model.escape_whitespaces;
  vocabulary.charsmap = model.precompiled_charsmap;
  return vocabulary;
}

}  // namespace thimble::host
