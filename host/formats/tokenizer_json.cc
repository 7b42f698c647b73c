#include "host/formats/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "engine/text/byte_alphabet.h"
#include "engine/text/charsmap.h"
#include "engine/text/unicode_classes.h"
#include "host/formats/pre_tokenizer_json.h"
#include "host/support/json_text.h"

namespace thimble::host {
namespace {

using nlohmann::json;

constexpr std::string_view kSpaceSymbol = "\u2581";
constexpr std::string_view kInstead = "pass the model's tokenizer.model with --tokenizer";
constexpr TokenId kNone = std::numeric_limits<TokenId>::max();

// The "type" of an object such as {"type": "Metaspace", ...}.
Expected<std::string> TypeOf(const json& object, const std::string& place) {
  if (object.is_object()) {
    const auto type = object.find("type");
    if (type != object.end() && type->is_string()) return type->get<std::string>();
  }
  return Sentence(fmt::format("{} must be an object with a type", place));
}

// The parts of `object`: itself, or what its "Sequence" lists under `list_key`; none for null.
Expected<std::vector<const json*>> PartsOf(const JsonKeys& keys, const char* key, const char* list_key) {
  const json* object = keys.Find(key);
  std::vector<const json*> parts;
  if (object == nullptr) return parts;
  THIMBLE_ASSIGN(const std::string type, TypeOf(*object, keys.path() + ": " + key));
  if (type != "Sequence") {
    parts.push_back(object);
    return parts;
  }
  const auto list = object->find(list_key);
  if (list == object->end() || !list->is_array()) return keys.Refuse(key, "is a Sequence without parts");
  for (const json& part : *list) parts.push_back(&part);
  return parts;
}

// How spaces are treated.
struct Spaces {
  bool escaped = false;            // a space becomes U+2581
  bool prefix = false;             // one is put in front of a text
  bool prefix_by_need = false;     // unless the text begins with one
  bool prefix_everywhere = false;  // and of what follows an added token
  bool split = false;              // no token has U+2581 after something else
  bool removes_extra = false;      // spaces at the ends of a text, and all but one of several
  std::string charsmap;            // what characters become first
};

// RFC 4648. Nothing if it is none.
std::optional<std::string> FromBase64(std::string_view text) {
  constexpr std::string_view kSixBits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (text.size() % 4 != 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_padding = i >= text.size() - padding;
    const size_t digit = is_padding ? 0 : kSixBits.find(text[i]);
    if (digit == kSixBits.npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if (i % 4 != 3) continue;
    for (const int shift : {16, 8, 0}) bytes += static_cast<char>(bits >> shift & 0xff);
    bits = 0;
  }
  bytes.resize(bytes.size() - padding);
  return bytes;
}

// Extra spaces are removed by a pattern for several of them together with one for those at the end: SentencePiece's
// remove_extra_whitespaces as transformers writes it. Those at the beginning become one that is put there anyway.
Status ReadNormalizer(const JsonKeys& keys, Spaces& spaces) {
  THIMBLE_ASSIGN(const std::vector<const json*> parts, PartsOf(keys, "normalizer", "normalizers"));
  const auto is_spaces = [](const json& content) { return content == kSpaceSymbol || content == " "; };
  bool fuses = false;
  const json* strips = nullptr;
  for (const json* part : parts) {
    THIMBLE_ASSIGN(const std::string type, TypeOf(*part, keys.path() + ": normalizer"));
    const json pattern = part->value("pattern", json());
    const json content = part->value("content", json());
    if (type == "Prepend" && part->value("prepend", json()) == kSpaceSymbol) {
      spaces.prefix = spaces.prefix_everywhere = true;
    } else if (type == "Replace" && pattern == json{{"String", " "}} && content == kSpaceSymbol) {
      spaces.escaped = true;
    } else if (type == "Replace" && pattern == json{{"Regex", " {2,}"}} && is_spaces(content)) {
      fuses = true;
    } else if (type == "Strip" && part->value("strip_right", json()) == true) {
      strips = part;
    } else if (type == "Precompiled" && spaces.charsmap.empty()) {
      const json map = part->value("precompiled_charsmap", json());
      const auto bytes = map.is_string() ? FromBase64(map.get_ref<const std::string&>()) : std::nullopt;
      if (!bytes || !text::IsCharsmap(std::as_bytes(std::span(*bytes)))) {
        return keys.Refuse("normalizer", "has a precompiled_charsmap that is damaged");
      }
      spaces.charsmap = *bytes;
    } else {
      return keys.Refuse("normalizer", fmt::format("has a step {}, which changes texts in a way that is not read; {}",
                                                   Quote(part->dump()), kInstead));
    }
  }
  spaces.removes_extra = fuses;
  if (strips != nullptr && !fuses) {
    return keys.Refuse("normalizer", fmt::format("has a step {} without one that removes extra spaces; {}",
                                                 Quote(strips->dump()), kInstead));
  }
  return {};
}

Status ReadMetaspace(const json& metaspace, const std::string& path, Spaces& spaces) {
  const std::string place = path + ": Metaspace";
  const JsonKeys keys(metaspace, place);
  THIMBLE_ASSIGN(const std::optional<std::string> replacement, keys.Text("replacement"));
  if (replacement.value_or("") != kSpaceSymbol) return keys.Refuse("replacement", "must be U+2581");
  THIMBLE_ASSIGN(const bool add_prefix_space, keys.Flag("add_prefix_space", true));
  THIMBLE_ASSIGN(const std::optional<std::string> stored, keys.Text("prepend_scheme"));
  const std::string scheme = stored.value_or(add_prefix_space ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return keys.Refuse("prepend_scheme",
                       fmt::format("is \"{}\"; only always, first and never are read", Quote(scheme)));
  }
  THIMBLE_ASSIGN(spaces.split, keys.Flag("split", true));
  spaces.escaped = true;
  if (scheme == "never" || spaces.prefix) return {};
  spaces.prefix = spaces.prefix_by_need = true;
  spaces.prefix_everywhere = scheme == "always";
  return {};
}

Expected<Spaces> ReadSpaces(const JsonKeys& keys) {
  Spaces spaces;
  THIMBLE_TRY(ReadNormalizer(keys, spaces));
  THIMBLE_ASSIGN(const std::vector<const json*> parts, PartsOf(keys, "pre_tokenizer", "pretokenizers"));
  for (const json* part : parts) {
    THIMBLE_ASSIGN(const std::string type, TypeOf(*part, keys.path() + ": pre_tokenizer"));
    if (type == "WhitespaceSplit" && parts.size() == 2 && part == parts[0] && !spaces.charsmap.empty()) {
      spaces.removes_extra = true;
      continue;
    }
    if (type != "Metaspace" || part != parts.back()) {
      return keys.Refuse("pre_tokenizer",
                         fmt::format("has a step \"{}\"; only one Metaspace is read; {}", Quote(type), kInstead));
    }
    THIMBLE_TRY(ReadMetaspace(*part, keys.path(), spaces));
  }
  if (!spaces.escaped) {
    return Sentence(fmt::format(
        "{}: nothing turns a space into U+2581, so this is no tokenizer of SentencePiece's kind", keys.path()));
  }
  return spaces;
}

Status CheckDecoder(const JsonKeys& keys) {
  THIMBLE_ASSIGN(const std::vector<const json*> parts, PartsOf(keys, "decoder", "decoders"));
  for (const json* part : parts) {
    THIMBLE_ASSIGN(const std::string type, TypeOf(*part, keys.path() + ": decoder"));
    if (type != "Replace" && type != "ByteFallback" && type != "Fuse" && type != "Strip" && type != "Metaspace") {
      return keys.Refuse("decoder", fmt::format("has a step \"{}\", which is not read; {}", Quote(type), kInstead));
    }
  }
  return {};
}

// The same for byte-level BPE.
Status CheckByteLevel(const JsonKeys& keys, std::vector<std::string>& notes) {
  THIMBLE_ASSIGN(const std::vector<const json*> normalizers, PartsOf(keys, "normalizer", "normalizers"));
  for (const json* part : normalizers) {
    THIMBLE_ASSIGN(const std::string type, TypeOf(*part, keys.path() + ": normalizer"));
    if (type != "NFC") {
      return keys.Refuse("normalizer", fmt::format("has a step {}, which changes texts in a way that is not read",
                                                   Quote(part->dump())));
    }
    notes.push_back(fmt::format("{} composes characters first (NFC); here a text is taken as it is", keys.path()));
  }
  THIMBLE_ASSIGN(const std::vector<const json*> decoders, PartsOf(keys, "decoder", "decoders"));
  bool is_byte_level = decoders.size() == 1;
  for (const json* part : decoders) {
    THIMBLE_ASSIGN(const std::string type, TypeOf(*part, keys.path() + ": decoder"));
    is_byte_level &= type == "ByteLevel";
  }
  if (!is_byte_level) {
    return keys.Refuse("decoder", "must be one ByteLevel, as the pre_tokenizer is");
  }
  return {};
}

// The options of the model.
struct Bpe {
  bool is_unigram = false;
  std::optional<std::string> unk_token;
  std::optional<uint64_t> unk_id;  // of Unigram
  bool byte_fallback = false;
  bool fuse_unk = true;
  bool ignore_merges = false;
};

Expected<Bpe> ReadBpe(const JsonKeys& keys, bool byte_level) {
  THIMBLE_ASSIGN(const std::optional<std::string> type, keys.Text("type"));
  if (type && *type != "BPE" && *type != "Unigram") {
    return keys.Refuse("type", fmt::format("is \"{}\"; only \"BPE\" and \"Unigram\" are read", Quote(*type)));
  }
  Bpe bpe;
  bpe.is_unigram = type && *type == "Unigram";
  if (bpe.is_unigram) {
    if (byte_level) return keys.Refuse("type", "is \"Unigram\", though the pre_tokenizer is ByteLevel");
    const json* unk_id = keys.Find("unk_id");
    if (unk_id == nullptr || !unk_id->is_number_unsigned()) return keys.Refuse("unk_id", "must be a token");
    bpe.unk_id = unk_id->get<uint64_t>();
    THIMBLE_ASSIGN(bpe.byte_fallback, keys.Flag("byte_fallback", false));
    return bpe;
  }
  if (const json* dropout = keys.Find("dropout"); dropout != nullptr && *dropout != 0) {
    return keys.Refuse("dropout", "is set; only tokenizers that always split alike are read");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    THIMBLE_ASSIGN(const std::optional<std::string> affix, keys.Text(key));
    if (affix && !affix->empty()) return keys.Refuse(key, "is set; only tokenizers that have none are read");
  }
  THIMBLE_ASSIGN(bpe.ignore_merges, keys.Flag("ignore_merges", false));
  THIMBLE_ASSIGN(bpe.unk_token, keys.Text("unk_token"));
  THIMBLE_ASSIGN(bpe.byte_fallback, keys.Flag("byte_fallback", false));
  if (byte_level) {
    if (bpe.byte_fallback) return keys.Refuse("byte_fallback", "is true, though the pre_tokenizer is ByteLevel");
    return bpe;
  }
  if (bpe.ignore_merges) {
    return keys.Refuse("ignore_merges", "is true; only tokenizers that follow their merges are read");
  }
  THIMBLE_ASSIGN(bpe.fuse_unk, keys.Flag("fuse_unk", false));
  if (!bpe.byte_fallback && !bpe.unk_token) {
    return Sentence(fmt::format(
        "{} has neither byte_fallback nor unk_token, so this is no tokenizer of SentencePiece's kind", keys.path()));
  }
  return bpe;
}

// The vocabulary and the merges, nearly all of a file, are taken member by member and kept as little more than their
// texts: the vocabulary as it will be, a merge as its pair. Merges may stand before the vocabulary, so they are taken
// in a pass of their own.
class Reader {
 public:
  Reader(std::string_view text, const std::string& path, std::vector<std::string>& notes)
      : text_(text), path_(path), notes_(notes) {}

  Expected<Vocabulary> Read() {
    const JsonStream tokens = {.object = "model", .key = "vocab", .take = [&](const std::string& name, const json& id) {
                                 // What is said of it comes after what is said of the tokenizer's kind.
                                 if (in_vocab_) in_vocab_ = name.empty() ? TakePiece(id) : TakeToken(name, id);
                                 return Status();
                               }};
    const JsonStream count = {.object = "model", .key = "merges", .take = [&](const std::string&, const json&) {
                                ++num_merges_;
                                return Status();
                              }};
    const std::array<JsonStream, 2> streams = {tokens, count};
    THIMBLE_ASSIGN(const json root, ParseJsonObject(text_, path_, streams));
    const JsonKeys keys(root, path_);
    const json* model = keys.Find("model");
    if (model == nullptr || !model->is_object()) return keys.Refuse("model", "must be an object");
    const std::string place = path_ + ": model";
    const JsonKeys model_keys(*model, place);
    THIMBLE_ASSIGN(const std::vector<const json*> pre_tokenizers, PartsOf(keys, "pre_tokenizer", "pretokenizers"));
    const bool byte_level = IsByteLevel(pre_tokenizers);
    THIMBLE_ASSIGN(const Bpe bpe, ReadBpe(model_keys, byte_level));
    if (byte_level) {
      THIMBLE_ASSIGN(vocabulary_.pre, ReadPreTokenizer(pre_tokenizers, path_));
      THIMBLE_TRY(ReadByteLevel(bpe, model_keys, keys));
      return std::move(vocabulary_);
    }
    if (!spaced_token_.empty()) {
      return Sentence(
          fmt::format("{}: model: vocab has \"{}\" with a space, which should be U+2581", path_, Quote(spaced_token_)));
    }
    THIMBLE_ASSIGN(const Spaces spaces, ReadSpaces(keys));
    THIMBLE_TRY(CheckDecoder(keys));
    THIMBLE_TRY(ReadTokens(model_keys, keys, bpe.is_unigram));
    THIMBLE_TRY(SetTypes(bpe));
    const bool has_unknown = std::ranges::count(vocabulary_.types, TokenType::kByte) != 256;
    if (spaces.split && has_unknown && bpe.fuse_unk && !Find(kSpaceSymbol)) {
      // Unknown characters of neighbouring words would be fused.
      return Sentence(fmt::format("{}: U+2581 is no token, and not all bytes are", path_));
    }
    if (bpe.is_unigram) {
      if (bpe.byte_fallback && has_unknown)
        return model_keys.Refuse("byte_fallback", "is true, but not all bytes are tokens");
      vocabulary_.is_unigram = true;
      for (size_t id = 0; id < scores_.size(); ++id) vocabulary_.scores[id] = scores_[id];
    } else {
      THIMBLE_TRY(ReadMerges(model_keys, spaces.split));
      SetScores();
      vocabulary_.fuse_unknown = bpe.fuse_unk || !has_unknown;
    }
    THIMBLE_TRY(ReadPostProcessor(keys));
    vocabulary_.add_space_prefix = spaces.prefix;
    vocabulary_.remove_extra_whitespaces = spaces.removes_extra;
    vocabulary_.charsmap = spaces.charsmap;
    AddNotes(spaces);
    return std::move(vocabulary_);
  }

 private:
  struct Merge {
    TokenId left = 0;
    TokenId right = 0;
    uint32_t rank = 0;
    TokenId result = 0;

    std::pair<TokenId, TokenId> pair() const { return {left, right}; }
  };

  // Token ids by their texts.
  std::optional<TokenId> Find(std::string_view token) const {
    const auto it = std::ranges::lower_bound(by_text_, token, {}, [&](TokenId id) { return TextOf(id); });
    if (it == by_text_.end() || TextOf(*it) != token) return std::nullopt;
    return *it;
  }
  std::string_view TextOf(TokenId id) const { return vocabulary_.tokens[id]; }

  Status AddToken(std::string_view token, const json& id) {
    if (token.empty() || token.size() > text::kMaxTokenBytes) {
      return Sentence(
          fmt::format("{}: token {} must have 1 to {} bytes", path_, Quote(id.dump()), text::kMaxTokenBytes));
    }
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= kNone) {
      return Sentence(fmt::format("{}: \"{}\" must have a token id, not {}", path_, Quote(token), Quote(id.dump())));
    }
    const auto number = id.get<uint64_t>();
    // A token takes some bytes of the file: with so large an id, others are missing.
    if (number >= text_.size()) {
      has_far_ids_ = true;
      return {};
    }
    std::vector<std::string>& tokens = vocabulary_.tokens;
    if (number >= tokens.size()) tokens.resize(static_cast<size_t>(number) + 1);
    std::string& same_id = tokens[static_cast<size_t>(number)];
    if (same_id == token) return StandsThereTwice(token);
    if (!same_id.empty()) {
      return Sentence(
          fmt::format("{}: \"{}\" and \"{}\" have the same id {}", path_, Quote(same_id), Quote(token), number));
    }
    same_id = token;
    return {};
  }

  std::unexpected<std::string> StandsThereTwice(std::string_view token) const {
    return Sentence(fmt::format("{}: the key \"{}\" stands there twice", path_, Quote(token)));
  }

  Status TakeToken(const std::string& token, const json& id) {
    if (spaced_token_.empty() && token.find(' ') != token.npos) spaced_token_ = token;
    return AddToken(token, id);
  }

  // Of Unigram: a token and its score, in the order of the ids.
  Status TakePiece(const json& piece) {
    const bool is_pair = piece.is_array() && piece.size() == 2 && piece[0].is_string() && piece[1].is_number();
    const float score = is_pair ? static_cast<float>(piece[1].get<double>()) : 0;
    if (!is_pair || !std::isfinite(score)) {
      return Sentence(
          fmt::format("{}: token {} must be a text and its score, not {}", path_, scores_.size(), Quote(piece.dump())));
    }
    scores_.push_back(score);
    return TakeToken(piece[0].get_ref<const std::string&>(), scores_.size() - 1);
  }

  // The vocabulary and the added tokens, one for each id.
  Status ReadTokens(const JsonKeys& model, const JsonKeys& keys, bool is_unigram = false) {
    const json* vocab = model.Find("vocab");
    if (vocab == nullptr || !(is_unigram ? vocab->is_array() : vocab->is_object())) {
      return model.Refuse("vocab", is_unigram ? "must be a list of tokens and scores" : "must be an object of tokens");
    }
    THIMBLE_TRY(std::move(in_vocab_));
    THIMBLE_TRY(IndexTokens());
    THIMBLE_TRY(ReadAddedTokens(keys));
    THIMBLE_TRY(IndexTokens());
    const auto missing = std::ranges::find_if(vocabulary_.tokens, &std::string::empty);
    if (missing != vocabulary_.tokens.end() || has_far_ids_) {
      return Sentence(fmt::format("{}: there are tokens after {}, but none of this id", path_,
                                  missing - vocabulary_.tokens.begin()));
    }
    vocabulary_.scores.resize(vocabulary_.tokens.size(), 0);
    vocabulary_.types.resize(vocabulary_.tokens.size(), TokenType::kNormal);
    return {};
  }

  Status IndexTokens() {
    by_text_.clear();
    by_text_.reserve(vocabulary_.tokens.size());
    for (TokenId id = 0; id < vocabulary_.tokens.size(); ++id) {
      if (!TextOf(id).empty()) by_text_.push_back(id);
    }
    const auto text_of = [&](TokenId id) { return TextOf(id); };
    std::ranges::sort(by_text_, {}, text_of);
    const auto twice = std::ranges::adjacent_find(by_text_, {}, text_of);
    return twice == by_text_.end() ? Status() : StandsThereTwice(TextOf(*twice));
  }

  Status ReadAddedTokens(const JsonKeys& keys) {
    const json* added = keys.Find("added_tokens");
    if (added == nullptr) return {};
    if (!added->is_array()) return keys.Refuse("added_tokens", "must be an array");
    std::set<std::string_view> texts;
    for (const json& token : *added) {
      const std::string place = fmt::format("{}: added token {}", path_, added_.size());
      if (!token.is_object()) return Sentence(place + " must be an object");
      const JsonKeys token_keys(token, place);
      const auto content = token.find("content");
      const json* id = token_keys.Find("id");
      if (content == token.end() || !content->is_string() || id == nullptr) {
        return Sentence(place + " must have an id and a content");
      }
      const auto& text = content->get_ref<const std::string&>();
      THIMBLE_ASSIGN(const bool special, token_keys.Flag("special", false));
      for (const char* key : {"single_word", "lstrip", "rstrip"}) {
        THIMBLE_ASSIGN(const bool flag, token_keys.Flag(key, false));
        if (flag && !special)
          return token_keys.Refuse(key, fmt::format("is true for \"{}\", which is not read", Quote(text)));
      }
      const std::optional<TokenId> known = Find(text);
      if (known && *id != *known) {
        return Sentence(fmt::format("{} is \"{}\" with the id {}, but the vocabulary has it with {}", place,
                                    Quote(text), Quote(id->dump()), *known));
      }
      if (!texts.insert(text).second) {
        return Sentence(fmt::format("{} is \"{}\", which stands there twice", place, Quote(text)));
      }
      if (!known) THIMBLE_TRY(AddToken(text, *id));
      added_.emplace(static_cast<TokenId>(id->get<uint64_t>()), special);
    }
    return {};
  }

  Status SetTypes(const Bpe& bpe) {
    for (const auto& [id, special] : added_) {
      vocabulary_.types[id] = special ? TokenType::kControl : TokenType::kUserDefined;
    }
    if (bpe.byte_fallback) {
      for (int byte = 0; byte < 256; ++byte) {
        const std::string name = ByteTokenName(static_cast<uint8_t>(byte));
        const std::optional<TokenId> id = Find(name);
        if (id) {
          vocabulary_.types[*id] = TokenType::kByte;
        } else if (!bpe.unk_token && !bpe.is_unigram) {
          return Sentence(
              fmt::format("{}: byte_fallback is on, but there is no {}, and no unk_token either", path_, name));
        }
      }
    }
    if (bpe.unk_id) {
      if (*bpe.unk_id >= scores_.size()) {
        return Sentence(fmt::format("{}: unk_id is {}, which is no token", path_, *bpe.unk_id));
      }
      vocabulary_.unk = static_cast<TokenId>(*bpe.unk_id);
      vocabulary_.types[*vocabulary_.unk] = TokenType::kUnknown;
    }
    if (bpe.unk_token) {
      vocabulary_.unk = Find(*bpe.unk_token);
      if (!vocabulary_.unk) {
        return Sentence(fmt::format("{}: unk_token is \"{}\", which is no token", path_, Quote(*bpe.unk_token)));
      }
      vocabulary_.types[*vocabulary_.unk] = TokenType::kUnknown;
    }
    return {};
  }

  Status ReadByteLevel(const Bpe& bpe, const JsonKeys& model, const JsonKeys& keys) {
    THIMBLE_TRY(CheckByteLevel(keys, notes_));
    THIMBLE_TRY(ReadTokens(model, keys));
    for (const auto& [id, special] : added_) {
      vocabulary_.types[id] = special ? TokenType::kControl : TokenType::kUserDefined;
    }
    if (bpe.unk_token) {
      vocabulary_.unk = Find(*bpe.unk_token);
      if (!HasAllBytesOfUtf8()) {
        return model.Refuse("unk_token", "is set, and a byte is no token; only one of the two is read");
      }
    }
    THIMBLE_TRY(ReadMerges(model, false));
    THIMBLE_TRY(KeepMerges(bpe));
    vocabulary_.add_space_prefix = false;
    return ReadPostProcessor(keys);
  }

  bool HasAllBytesOfUtf8() const {
    std::array<bool, 256> has = {};
    for (TokenId id = 0; id < vocabulary_.tokens.size(); ++id) {
      const text::CodePoint letter = text::FirstCodePoint(TextOf(id));
      const int byte = letter.bytes == TextOf(id).size() ? text::ByteOfLetter(letter.value) : -1;
      if (byte >= 0 && vocabulary_.types[id] == TokenType::kNormal) has[static_cast<size_t>(byte)] = true;
    }
    for (size_t byte = 0; byte < has.size(); ++byte) {
      const bool occurs = byte != 0xC0 && byte != 0xC1 && byte < 0xF5;
      if (occurs && !has[byte]) return false;
    }
    return true;
  }

  // Those that ever happen, in their order: one for each token that merging makes.
  Status KeepMerges(const Bpe& bpe) {
    std::optional<TokenId> never;  // made
    std::map<uint32_t, const Merge*> by_rank;
    for (TokenId id = 0; id < vocabulary_.tokens.size(); ++id) {
      if (vocabulary_.types[id] != TokenType::kNormal || TextOf(id).size() == CharacterBytes(TextOf(id))) continue;
      if (const Merge* merge = LastMergeOf(TextOf(id))) {
        by_rank.emplace(merge->rank, merge);
      } else {
        never = never.value_or(id);
      }
    }
    if (never && bpe.ignore_merges != formats::IgnoresMerges(vocabulary_.pre)) {
      return Sentence(fmt::format(
          "{}: model: ignore_merges is {}, which with the pre_tokenizer {} is not read where tokens such as \"{}\" are "
          "made by no merges",
          path_, bpe.ignore_merges, formats::PreTokenizerName(vocabulary_.pre), Quote(TextOf(*never))));
    }
    vocabulary_.merges.reserve(by_rank.size());
    for (const auto& [rank, merge] : by_rank) {
      vocabulary_.merges.push_back(fmt::format("{} {}", TextOf(merge->left), TextOf(merge->right)));
    }
    return {};
  }

  // A merge as "left right" or ["left", "right"].
  Expected<std::pair<std::string_view, std::string_view>> PartsOfMerge(const json& merge, size_t rank) const {
    if (merge.is_string()) {
      const std::string_view text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space != text.npos && text.find(' ', space + 1) == text.npos) {
        return std::pair(text.substr(0, space), text.substr(space + 1));
      }
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      return std::pair<std::string_view, std::string_view>(merge[0].get_ref<const std::string&>(),
                                                           merge[1].get_ref<const std::string&>());
    }
    return Sentence(fmt::format("{}: merge {} must be two tokens, not {}", path_, rank, Quote(merge.dump())));
  }

  Status ReadMerges(const JsonKeys& model, bool split) {
    const json* merges = model.Find("merges");
    constexpr uint32_t kMaxMerges = uint32_t{1} << 24;  // up to here float32 has every whole number
    if (merges == nullptr || !merges->is_array() || num_merges_ > kMaxMerges) {
      return model.Refuse("merges", fmt::format("must be an array of at most {} merges", kMaxMerges));
    }
    merges_.reserve(num_merges_);
    uint32_t rank = 0;
    const JsonStream take = {.object = "model", .key = "merges", .take = [&](const std::string&, const json& merge) {
                               return TakeMerge(merge, rank++, split);
                             }};
    const JsonStream pass = {
        .object = "model", .key = "vocab", .take = [](const std::string&, const json&) { return Status(); }};
    const std::array<JsonStream, 2> streams = {take, pass};
    THIMBLE_TRY(ParseJsonObject(text_, path_, streams));
    const auto order = [](const Merge& merge) { return std::pair(merge.pair(), merge.rank); };
    std::ranges::sort(merges_, {}, order);
    const auto twice = std::ranges::adjacent_find(merges_, {}, &Merge::pair);
    if (twice != merges_.end()) {
      return Sentence(fmt::format("{}: merges {} and {} are the same", path_, twice->rank, (twice + 1)->rank));
    }
    return {};
  }

  Status TakeMerge(const json& merge, uint32_t rank, bool split) {
    THIMBLE_ASSIGN(const auto parts, PartsOfMerge(merge, rank));
    const std::optional<TokenId> left = Find(parts.first);
    const std::optional<TokenId> right = Find(parts.second);
    const std::optional<TokenId> result = Find(std::string(parts.first) + std::string(parts.second));
    const auto refuse = [&](std::string_view what) {
      return Sentence(
          fmt::format("{}: merge {} (\"{}\", \"{}\") {}", path_, rank, Quote(parts.first), Quote(parts.second), what));
    };
    if (!left || !right || !result) return refuse("is of tokens that are not in the vocabulary");
    const std::array<TokenId, 3> ids = {*left, *right, *result};
    // What is added is found in a text before anything is merged.
    if (std::ranges::any_of(ids, [&](TokenId id) { return added_.contains(id); })) return {};
    if (std::ranges::any_of(ids, [&](TokenId id) { return vocabulary_.types[id] != TokenType::kNormal; })) {
      return refuse("is of byte tokens or the unknown token");
    }
    if (split && parts.second.starts_with(kSpaceSymbol)) return {};
    merges_.push_back({.left = *left, .right = *right, .rank = rank, .result = *result});
    return {};
  }

  const Merge* FindMerge(TokenId left, TokenId right) const {
    if (left == kNone || right == kNone) return nullptr;
    const auto it = std::ranges::lower_bound(merges_, std::pair(left, right), {}, &Merge::pair);
    return it == merges_.end() || it->pair() != std::pair(left, right) ? nullptr : &*it;
  }

  // The last merge of `token` alone, if merging makes it one.
  const Merge* LastMergeOf(std::string_view token) const;

  void SetScores() {
    for (TokenId id = 0; id < vocabulary_.tokens.size(); ++id) {
      if (vocabulary_.types[id] != TokenType::kNormal) continue;
      const std::string& token = vocabulary_.tokens[id];
      const Merge* merge = LastMergeOf(token);
      vocabulary_.scores[id] = 0.0f - static_cast<float>(merge == nullptr ? num_merges_ : merge->rank);
      if (merge == nullptr && token.size() > CharacterBytes(token)) vocabulary_.types[id] = TokenType::kUnused;
    }
  }

  static size_t CharacterBytes(std::string_view text) {
    const auto lead = static_cast<uint8_t>(text[0]);
    return lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  }

  Expected<TokenId> SpecialOf(const json& piece, const json& post_processor) const {
    const auto special = piece.find("SpecialToken");
    const auto tokens = post_processor.find("special_tokens");
    if (special != piece.end() && special->is_object() && tokens != post_processor.end() && tokens->is_object()) {
      const auto name = special->find("id");
      const auto token = name != special->end() && name->is_string() ? tokens->find(name->get_ref<const std::string&>())
                                                                     : tokens->end();
      if (token != tokens->end() && token->is_object()) {
        const json ids = token->value("ids", json());
        if (ids.is_array() && ids.size() == 1 && ids[0].is_number_unsigned() &&
            ids[0].get<uint64_t>() < vocabulary_.tokens.size()) {
          return static_cast<TokenId>(ids[0].get<uint64_t>());
        }
      }
    }
    return Sentence(
        fmt::format("{}: the post_processor's {} is no token of the vocabulary", path_, Quote(piece.dump())));
  }

  // A template of one text: at most a beginning before it and an end behind it.
  Status ReadPostProcessor(const JsonKeys& keys) {
    if (!vocabulary_.is_byte_level()) {
      vocabulary_.bos = FindSpecial("<s>");
      vocabulary_.eos = FindSpecial("</s>");
    }
    vocabulary_.add_bos = false;
    THIMBLE_ASSIGN(std::vector<const json*> parts, PartsOf(keys, "post_processor", "processors"));
    if (vocabulary_.is_byte_level()) {
      // It only moves the places of tokens in a text.
      std::erase_if(parts,
                    [](const json* part) { return part->is_object() && part->value("type", json()) == "ByteLevel"; });
    }
    if (parts.empty()) return {};
    THIMBLE_ASSIGN(const std::string type, TypeOf(*parts[0], path_ + ": post_processor"));
    if (parts.size() != 1 || type != "TemplateProcessing") {
      return keys.Refuse("post_processor",
                         fmt::format("is \"{}\"; only one TemplateProcessing is read; {}", Quote(type), kInstead));
    }
    const json single = parts[0]->value("single", json());
    bool has_text = false;
    bool has_end = false;
    for (const json& piece : single) {
      const bool is_text = piece.is_object() && piece.contains("Sequence");
      if (!piece.is_object() || (has_text && is_text) || (!has_text && vocabulary_.add_bos && !is_text) || has_end) {
        return keys.Refuse("post_processor", "must put at most one token before a text and one behind it");
      }
      if (is_text) {
        has_text = true;
        continue;
      }
      THIMBLE_ASSIGN(const TokenId id, SpecialOf(piece, *parts[0]));
      (has_text ? vocabulary_.eos : vocabulary_.bos) = id;
      (has_text ? has_end : vocabulary_.add_bos) = true;
    }
    if (!has_text) return keys.Refuse("post_processor", "must be a template with one text");
    if (has_end) notes_.push_back(fmt::format("{} puts an end behind a text; none is put behind a prompt", path_));
    return {};
  }

  std::optional<TokenId> FindSpecial(std::string_view name) const {
    const std::optional<TokenId> id = Find(name);
    return id && vocabulary_.types[*id] == TokenType::kControl ? id : std::nullopt;
  }

  void AddNotes(const Spaces& spaces) {
    if (spaces.prefix_by_need) {
      notes_.push_back(fmt::format(
          "{} puts no space before a text that begins with one; here every text gets one, as with a tokenizer.model",
          path_));
    }
    if (spaces.prefix_everywhere &&
        std::ranges::find(vocabulary_.types, TokenType::kUserDefined) != vocabulary_.types.end()) {
      notes_.push_back(fmt::format(
          "{} puts a space behind its added tokens; here only the start of a text gets one, as with a tokenizer.model",
          path_));
    }
  }

  const std::string_view text_;
  const std::string& path_;
  std::vector<std::string>& notes_;
  Status in_vocab_;                // what is wrong there
  bool has_far_ids_ = false;       // which are not among the vocabulary's
  std::string spaced_token_;       // of the vocabulary
  std::vector<TokenId> by_text_;   // sorted
  std::map<TokenId, bool> added_;  // whether it is special
  std::vector<Merge> merges_;      // by pair
  std::vector<float> scores_;      // of Unigram
  uint32_t num_merges_ = 0;
  Vocabulary vocabulary_;
};

// Merges as huggingface/tokenizers does: of all pairs the one of the lowest rank, the leftmost of equal ones.
const Reader::Merge* Reader::LastMergeOf(std::string_view token) const {
  struct Symbol {
    TokenId id = kNone;
    size_t previous = 0;
    size_t next = 0;
  };
  std::vector<Symbol> symbols;
  for (size_t at = 0; at < token.size();) {
    const std::string_view character = token.substr(at, CharacterBytes(token.substr(at)));
    at += character.size();
    const std::optional<TokenId> id = Find(character);
    const bool merges = id && vocabulary_.types[*id] == TokenType::kNormal;
    symbols.push_back({merges ? *id : kNone, symbols.size() - 1, symbols.size() + 1});
  }
  const size_t end = symbols.size();
  std::set<std::pair<uint32_t, size_t>> pairs;  // rank, left symbol
  const auto merge_at = [&](size_t left) -> const Merge* {
    return symbols[left].next == end ? nullptr : FindMerge(symbols[left].id, symbols[symbols[left].next].id);
  };
  const auto insert = [&](size_t left) {
    if (const Merge* merge = merge_at(left)) pairs.emplace(merge->rank, left);
  };
  const auto erase = [&](size_t left) {
    if (const Merge* merge = merge_at(left)) pairs.erase({merge->rank, left});
  };
  for (size_t i = 0; i < end; ++i) insert(i);
  const Merge* last = nullptr;
  while (!pairs.empty()) {
    const size_t left = pairs.begin()->second;
    const size_t right = symbols[left].next;
    last = merge_at(left);
    const Merge merge = *last;
    if (left != 0) erase(symbols[left].previous);
    erase(left);
    erase(right);
    symbols[left].id = merge.result;
    symbols[left].next = symbols[right].next;
    if (symbols[right].next != end) symbols[symbols[right].next].previous = left;
    if (left != 0) insert(symbols[left].previous);
    insert(left);
  }
  return end < 2 || symbols[0].next != end ? nullptr : last;
}

}  // namespace

Expected<Vocabulary> ParseTokenizerJson(std::string_view text, const std::string& path,
                                        std::vector<std::string>& notes) {
  return Reader(text, path, notes).Read();
}

}  // namespace thimble::host
