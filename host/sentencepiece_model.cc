#include "host/sentencepiece_model.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <set>

#include "host/sentencepiece_model.pb.h"
#include "host/utf8.h"

namespace thimble::host {
namespace {

constexpr int kBpe = 2;

Status CheckSpecs(const sentencepiece_wire::Model& model, const std::string& path) {
  const auto refuse = [&](std::string_view what) { return Sentence(fmt::format("{}: {}", path, what)); };
  constexpr std::array<std::string_view, 5> kModelTypes = {"type 0", "unigram", "BPE", "word", "character"};
  if (const int type = model.trainer_spec().model_type(); type != kBpe) {
    const bool named = type >= 0 && static_cast<size_t>(type) < kModelTypes.size();
    return refuse(
        fmt::format("this is a SentencePiece {} model; only BPE is read.",
                    named ? std::string(kModelTypes[static_cast<size_t>(type)]) : fmt::format("type {}", type)));
  }
  const auto& normalizer = model.normalizer_spec();
  if (!normalizer.precompiled_charsmap().empty()) {
    return refuse(
        fmt::format("the normalizer \"{}\" maps characters; only \"identity\" is read.", Quote(normalizer.name())));
  }
  if (normalizer.remove_extra_whitespaces()) {
    return refuse("remove_extra_whitespaces is on; only tokenizers that keep every space are read.");
  }
  if (!normalizer.escape_whitespaces()) {
    return refuse("escape_whitespaces is off; only tokenizers that write a space as U+2581 are read.");
  }
  if (model.trainer_spec().treat_whitespace_as_suffix()) {
    return refuse("treat_whitespace_as_suffix is on; only tokenizers that put the space before the word are read.");
  }
  return {};
}

}  // namespace

std::string ByteTokenName(uint8_t byte) { return fmt::format("<0x{:02X}>", byte); }

Expected<Vocabulary> ParseSentencePieceModel(std::string_view bytes, const std::string& path) {
  sentencepiece_wire::Model model;
  if (bytes.size() > 0x7fffffff || !model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      model.pieces_size() == 0) {
    return Sentence(fmt::format("{} is not a SentencePiece model.", path));
  }
  THIMBLE_TRY(CheckSpecs(model, path));

  Vocabulary vocabulary;
  std::set<std::string_view> seen;
  std::set<std::string> byte_pieces;
  for (const sentencepiece_wire::Piece& piece : model.pieces()) {
    const size_t id = vocabulary.tokens.size();
    const std::string& text = piece.piece();
    const auto refuse = [&](std::string_view what) {
      return Sentence(fmt::format("{}: piece {} (\"{}\") {}", path, id, Quote(text), what));
    };
    if (text.empty()) return refuse("is empty.");
    if (!IsUtf8(text)) return refuse("is not UTF-8.");
    if (!seen.insert(text).second) return refuse("stands there twice.");
    if (!std::isfinite(piece.score())) return refuse("has a score that is not a finite number.");
    if (piece.type() < 1 || piece.type() > 6) return refuse(fmt::format("has the unknown type {}.", piece.type()));
    const auto type = static_cast<TokenType>(piece.type());
    const auto token = static_cast<TokenId>(id);
    if (type == TokenType::kUnknown) {
      if (vocabulary.unk) return refuse("is a second unknown piece.");
      vocabulary.unk = token;
    }
    if (type == TokenType::kByte) byte_pieces.insert(text);
    if (type == TokenType::kControl) {
      if (text == model.trainer_spec().bos_piece()) vocabulary.bos = token;
      if (text == model.trainer_spec().eos_piece()) vocabulary.eos = token;
    }
    vocabulary.Add(text, piece.score(), type);
  }
  if (!vocabulary.unk) return Sentence(fmt::format("{} has no unknown piece.", path));

  if (!byte_pieces.empty() || model.trainer_spec().byte_fallback()) {
    std::set<std::string> wanted;
    for (int byte = 0; byte < 256; ++byte) wanted.insert(ByteTokenName(static_cast<uint8_t>(byte)));
    if (!model.trainer_spec().byte_fallback() || byte_pieces != wanted) {
      return Sentence(fmt::format("{}: byte_fallback is {}, but {} of the 256 byte pieces are there.", path,
                                  model.trainer_spec().byte_fallback() ? "on" : "off", byte_pieces.size()));
    }
  }
  vocabulary.add_space_prefix = model.normalizer_spec().add_dummy_prefix();
  return vocabulary;
}

}  // namespace thimble::host
