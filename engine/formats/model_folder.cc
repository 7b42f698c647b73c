#include "engine/formats/model_folder.h"

#include <algorithm>
#include <array>
#include <limits>

#include "engine/base/exact.h"
#include "engine/base/text_buffer.h"
#include "engine/formats/flat_json.h"

namespace thimble::formats {
namespace {

constexpr std::string_view kLayerPrefix = "layer_";
constexpr uint64_t kTokenizerHeaderBytes = 4;
constexpr uint64_t kTokenHeaderBytes = 8;

constexpr std::string_view FileStem(TensorKind kind) {
  switch (kind) {
    case TensorKind::kNone:
      break;
    case TensorKind::kTokenEmbd:
      return "embed_tokens.bin";
    case TensorKind::kAttnNorm:
      return "norm1.bin";
    case TensorKind::kAttnQ:
      return "q_proj.bin";
    case TensorKind::kAttnK:
      return "k_proj.bin";
    case TensorKind::kAttnV:
      return "v_proj.bin";
    case TensorKind::kAttnO:
      return "o_proj.bin";
    case TensorKind::kFfnNorm:
      return "norm2.bin";
    case TensorKind::kFfnGate:
      return "gate_proj.bin";
    case TensorKind::kFfnUp:
      return "up_proj.bin";
    case TensorKind::kFfnDown:
      return "down_proj.bin";
    case TensorKind::kFinalNorm:
      return "final_norm.bin";
    case TensorKind::kLmHead:
      return "lm_head.bin";
    case TensorKind::kAttnQBias:  // not of Llama
    case TensorKind::kAttnKBias:
    case TensorKind::kAttnVBias:
    case TensorKind::kAttnQNorm:
    case TensorKind::kAttnKNorm:
    case TensorKind::kRopeFactors:
      break;
  }
  return "";
}

// The tensor of a file, by its number less kFolderTensors.
TensorId IdOfFile(uint32_t index) { return TensorIdAt(index, ModelShape{.architecture = Architecture::kLlama}); }

uint64_t RoundUp(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

std::unexpected<Error> FailNamed(Code code, const char* what, std::string_view name, uint64_t have = 0,
                                 uint64_t need = 0) {
  return Fail(Error{.code = code, .what = what, .have = have, .need = need}.Named(name));
}

std::unexpected<Error> FailFile(Code code, const char* what, uint32_t number, uint32_t num_hidden_layers,
                                uint64_t have = 0, uint64_t need = 0) {
  std::array<char, 40> name;
  const size_t size = FormatFolderFileName(number, num_hidden_layers, name);
  return FailNamed(code, what, {name.data(), size}, have, need);
}

// The keys that are looked at. Others have no part in what a Llama model computes.
enum class Key : uint8_t {
  kVocabSize,
  kHiddenSize,
  kIntermediateSize,
  kNumHiddenLayers,
  kNumAttentionHeads,
  kNumKeyValueHeads,
  kHeadDim,
  kMaxPositionEmbeddings,
  kBosTokenId,
  kEosTokenId,
  kRmsNormEps,
  kRopeTheta,
  kPartialRotaryFactor,
  kTieWordEmbeddings,
  kAddBosToken,
  kAddPrefixSpace,
  kRemoveExtraWhitespaces,
  kUseQuantization,
  kAttentionBias,
  kMlpBias,
  kAddEosToken,
  kHiddenAct,
  kModelType,
  kRopeScaling,
  kRopeParameters,
  kQuantizationConfig,
};
constexpr size_t kNumKeys = 26;

struct KnownKey {
  enum class Type : uint8_t { kInteger, kNumber, kFlag, kMustBeFalse, kMustBeText, kMustBeNull };
  std::string_view name;
  Type type;
  std::string_view text = {};  // of kMustBeText
};

constexpr std::array<KnownKey, kNumKeys> kKnownKeys = {{
    {"vocab_size", KnownKey::Type::kInteger},
    {"hidden_size", KnownKey::Type::kInteger},
    {"intermediate_size", KnownKey::Type::kInteger},
    {"num_hidden_layers", KnownKey::Type::kInteger},
    {"num_attention_heads", KnownKey::Type::kInteger},
    {"num_key_value_heads", KnownKey::Type::kInteger},
    {"head_dim", KnownKey::Type::kInteger},
    {"max_position_embeddings", KnownKey::Type::kInteger},
    {"bos_token_id", KnownKey::Type::kInteger},
    {"eos_token_id", KnownKey::Type::kInteger},
    {"rms_norm_eps", KnownKey::Type::kNumber},
    {"rope_theta", KnownKey::Type::kNumber},
    {"partial_rotary_factor", KnownKey::Type::kNumber},
    {"tie_word_embeddings", KnownKey::Type::kFlag},
    {"add_bos_token", KnownKey::Type::kFlag},
    {"add_prefix_space", KnownKey::Type::kFlag},
    {"remove_extra_whitespaces", KnownKey::Type::kFlag},
    {"use_quantization", KnownKey::Type::kMustBeFalse},
    {"attention_bias", KnownKey::Type::kMustBeFalse},
    {"mlp_bias", KnownKey::Type::kMustBeFalse},
    {"add_eos_token", KnownKey::Type::kMustBeFalse},
    {"hidden_act", KnownKey::Type::kMustBeText, "silu"},
    {"model_type", KnownKey::Type::kMustBeText, "llama"},
    {"rope_scaling", KnownKey::Type::kMustBeNull},
    {"rope_parameters", KnownKey::Type::kMustBeNull},
    {"quantization_config", KnownKey::Type::kMustBeNull},
}};

constexpr std::string_view NameOf(Key key) { return kKnownKeys[static_cast<size_t>(key)].name; }

class Config {
 public:
  // Reads the text that `reader` stands before.
  Result<void> Read(storage::ByteReader& reader, uint64_t size_bytes);

  Result<ModelShape> Shape() const;
  Result<TokenId> SpecialToken(Key key, TokenId usual, uint32_t vocab_size) const;
  bool Flag(Key key, bool otherwise) const { return Has(key) ? NumberOf(key) != 0 : otherwise; }

 private:
  // What is known of a key. A key that is null is as good as absent; only for bos and eos it means that there is none.
  enum class State : uint8_t { kAbsent, kNull, kGiven };

  Result<void> Take(const KnownKey& known, const JsonMember& member, State& state, double& value);
  bool Has(Key key) const { return StateOf(key) == State::kGiven; }
  State StateOf(Key key) const { return states_[static_cast<size_t>(key)]; }
  double NumberOf(Key key) const { return values_[static_cast<size_t>(key)]; }
  Result<uint32_t> Size(Key key, uint64_t most, uint64_t otherwise) const;
  Result<float> Positive(Key key, double otherwise) const;

  std::array<State, kNumKeys> states_ = {};
  std::array<double, kNumKeys> values_ = {};  // whole numbers that matter are below 2^53
};

Result<void> Config::Read(storage::ByteReader& reader, uint64_t size_bytes) {
  FlatJsonReader json(reader, size_bytes);
  JsonMember member;
  while (true) {
    const Result<bool> found = json.Next(member);
    if (!found) return std::unexpected(found.error().Named(kFolderConfigName));
    if (!*found) return {};
    const auto known = std::ranges::find_if(kKnownKeys, [&](const KnownKey& k) { return member.key == k.name; });
    if (known == kKnownKeys.end()) continue;
    const auto i = static_cast<size_t>(known - kKnownKeys.begin());
    if (states_[i] != State::kAbsent) {
      return FailNamed(Code::kCorrupt, "{name} stands twice in model_config.json", known->name);
    }
    THIMBLE_TRY(Take(*known, member, states_[i], values_[i]));
  }
}

Result<void> Config::Take(const KnownKey& known, const JsonMember& member, State& state, double& value) {
  using Type = JsonMember::Type;
  if (member.type == Type::kNull) {
    state = State::kNull;
    return {};
  }
  state = State::kGiven;
  switch (known.type) {
    case KnownKey::Type::kInteger:
      if (const auto integer = member.Integer()) {
        value = static_cast<double>(*integer);
        return {};
      }
      return FailNamed(Code::kCorrupt, "{name} in model_config.json must be a whole number", known.name);
    case KnownKey::Type::kNumber:
      if (const auto number = member.Number()) {
        value = *number;
        return {};
      }
      return FailNamed(Code::kCorrupt,
                       "{name} in model_config.json must be a number of at most 40 digits and a moderate size",
                       known.name);
    case KnownKey::Type::kFlag:
    case KnownKey::Type::kMustBeFalse:
      if (member.type != Type::kTrue && member.type != Type::kFalse) {
        return FailNamed(Code::kCorrupt, "{name} in model_config.json must be true or false", known.name);
      }
      value = member.type == Type::kTrue ? 1 : 0;
      if (known.type == KnownKey::Type::kFlag || value == 0) return {};
      return FailNamed(Code::kUnsupported, "model_config.json sets {name}, which is not supported", known.name);
    case KnownKey::Type::kMustBeText:
      if (member.type == Type::kString && member.text == known.text) return {};
      return known.text == "silu"
                 ? FailNamed(Code::kUnsupported,
                             "{name} in model_config.json is not \"silu\", which is all that can be run", known.name)
                 : FailNamed(Code::kUnsupported,
                             "{name} in model_config.json is not \"llama\", which is all that can be run", known.name);
    case KnownKey::Type::kMustBeNull:
      break;
  }
  return FailNamed(Code::kUnsupported,
                   "model_config.json sets {name}, which is not supported; where it asks for nothing special, take it "
                   "out and give rope_theta as a key of its own",
                   known.name);
}

Result<uint32_t> Config::Size(Key key, uint64_t most, uint64_t otherwise) const {
  if (!Has(key) && otherwise == 0) {
    return FailNamed(Code::kNotFound, "{name} is missing in model_config.json", NameOf(key));
  }
  const double value = Has(key) ? NumberOf(key) : static_cast<double>(otherwise);
  if (value >= 1 && value <= static_cast<double>(most)) return static_cast<uint32_t>(value);
  return FailNamed(Code::kCorrupt, "{name} in model_config.json must lie between 1 and {need}", NameOf(key), 0, most);
}

Result<float> Config::Positive(Key key, double otherwise) const {
  const double value = Has(key) ? NumberOf(key) : otherwise;
  if (value >= double{std::numeric_limits<float>::min()} && value <= double{std::numeric_limits<float>::max()}) {
    return static_cast<float>(value);
  }
  return FailNamed(Code::kCorrupt, "{name} in model_config.json must be a positive number that fits a float32",
                   NameOf(key));
}

Result<ModelShape> Config::Shape() const {
  ModelShape shape;
  THIMBLE_ASSIGN(shape.vocab_size, Size(Key::kVocabSize, kMaxWidth, 0));
  THIMBLE_ASSIGN(shape.hidden_size, Size(Key::kHiddenSize, kMaxWidth, 0));
  THIMBLE_ASSIGN(shape.intermediate_size, Size(Key::kIntermediateSize, kMaxWidth, 0));
  THIMBLE_ASSIGN(shape.num_hidden_layers, Size(Key::kNumHiddenLayers, kMaxLayers, 0));
  THIMBLE_ASSIGN(shape.num_attention_heads, Size(Key::kNumAttentionHeads, kMaxWidth, 0));
  THIMBLE_ASSIGN(shape.num_key_value_heads, Size(Key::kNumKeyValueHeads, kMaxWidth, shape.num_attention_heads));
  THIMBLE_ASSIGN(shape.max_position_embeddings, Size(Key::kMaxPositionEmbeddings, kMaxContext, 2048));
  const bool has_head_dim = Has(Key::kHeadDim);
  shape.head_dim = shape.hidden_size / shape.num_attention_heads;
  if (has_head_dim) shape.head_dim = static_cast<uint32_t>(std::clamp(NumberOf(Key::kHeadDim), 0.0, 0x1p32 - 1));
  switch (CheckShape(shape, has_head_dim)) {
    case ShapeFault::kNone:
      break;
    case ShapeFault::kKeyValueHeads:
      return FailNamed(Code::kCorrupt,
                       "{name} in model_config.json is {have}, which does not divide the {need} heads of "
                       "num_attention_heads",
                       NameOf(Key::kNumKeyValueHeads), shape.num_key_value_heads, shape.num_attention_heads);
    case ShapeFault::kHiddenSize:
      return FailNamed(
          Code::kCorrupt,
          "{name} in model_config.json is {have}, no multiple of the {need} heads, and there is no head_dim",
          NameOf(Key::kHiddenSize), shape.hidden_size, shape.num_attention_heads);
    case ShapeFault::kHeadDim:
      if (shape.head_dim != 0) {
        return FailNamed(Code::kCorrupt, "{name} is {have}; rotary positions need an even number",
                         NameOf(Key::kHeadDim), shape.head_dim);
      }
      [[fallthrough]];
    case ShapeFault::kAllHeads:
      return FailNamed(Code::kCorrupt, "{name} in model_config.json must lie between 1 and {need}",
                       NameOf(Key::kHeadDim), 0, kMaxWidth / shape.num_attention_heads);
  }
  THIMBLE_ASSIGN(shape.rms_norm_eps, Positive(Key::kRmsNormEps, 1e-6));
  THIMBLE_ASSIGN(shape.rope_theta, Positive(Key::kRopeTheta, 10000));
  if (Has(Key::kRopeTheta) && double{shape.rope_theta} != NumberOf(Key::kRopeTheta)) {
    return FailNamed(Code::kUnsupported, "{name} in model_config.json is a number that float32 cannot hold exactly",
                     NameOf(Key::kRopeTheta));
  }
  if (Has(Key::kPartialRotaryFactor) && NumberOf(Key::kPartialRotaryFactor) != 1) {
    return FailNamed(Code::kUnsupported, "{name} in model_config.json is not 1, which is all that can be run",
                     NameOf(Key::kPartialRotaryFactor));
  }
  return shape;
}

// Absent: the token that LlamaConfig takes, if the vocabulary has it.
Result<TokenId> Config::SpecialToken(Key key, TokenId usual, uint32_t vocab_size) const {
  if (StateOf(key) == State::kNull) return kNoToken;
  if (!Has(key)) return usual < vocab_size ? usual : kNoToken;
  if (NumberOf(key) < vocab_size) return static_cast<TokenId>(NumberOf(key));
  return FailNamed(Code::kCorrupt, "{name} in model_config.json is no token of the vocabulary of {need}", NameOf(key),
                   0, vocab_size);
}

Result<void> CheckFileSize(uint32_t number, const ModelShape& shape, const FolderFile& file, uint64_t need) {
  if (!file.is_there()) {
    return FailFile(Code::kNotFound, "the folder has no {name}, which must have {need} bytes", number,
                    shape.num_hidden_layers, 0, need);
  }
  if (file.size_bytes != need) {
    return FailFile(Code::kCorrupt, "{name} has {have} bytes, and the shape in model_config.json needs {need}", number,
                    shape.num_hidden_layers, file.size_bytes, need);
  }
  return {};
}

TensorRef MakeTensorRef(uint32_t index, const ModelShape& shape, uint64_t offset) {
  const TensorId id = IdOfFile(index);
  const TensorDims dims = DimsOf(id.kind, shape);
  return {.offset = offset, .rows = dims.rows, .cols = dims.cols, .id = id};
}

Result<void> CheckFiles(const ModelFolder& files, const ModelShape& shape, bool tied) {
  const uint32_t count = FolderFileCount(shape.num_hidden_layers);
  for (uint32_t number = count; number < files.num_slots(); ++number) {
    if (!files.file(number).is_there()) continue;
    return FailFile(Code::kCorrupt, "{name} is of a layer beyond the {have} layers of model_config.json", number,
                    std::numeric_limits<uint32_t>::max(), shape.num_hidden_layers);
  }
  for (uint32_t number = kFolderTensors; number < count; ++number) {
    const TensorRef tensor = MakeTensorRef(number - kFolderTensors, shape, 0);
    const FolderFile file = files.file(number);
    if (tied && tensor.id.kind == TensorKind::kLmHead && !file.is_there()) continue;
    THIMBLE_TRY(CheckFileSize(number, shape, file, tensor.size_bytes()));
  }
  return {};
}

Result<void> ReadTokenizer(storage::ByteReader& reader, const FolderFile& file, uint32_t vocab_size,
                           TokenizerRef& tokenizer) {
  const auto fail = [](const char* what, uint64_t have, uint64_t need) {
    return FailNamed(Code::kCorrupt, what, kFolderTokenizerName, have, need);
  };
  THIMBLE_TRY(reader.Seek(file.offset_bytes));
  uint64_t left = file.size_bytes;
  constexpr const char* kTooShort = "{name} ends at token {have}, but the vocabulary has {need} tokens";
  if (left < kTokenizerHeaderBytes) return fail(kTooShort, 0, vocab_size);
  THIMBLE_TRY(reader.Skip(kTokenizerHeaderBytes));
  left -= kTokenizerHeaderBytes;
  tokenizer.tokens_offset = reader.offset_bytes();
  for (TokenId id = 0; id < vocab_size; ++id) {
    if (left < kTokenHeaderBytes) return fail(kTooShort, id, vocab_size);
    THIMBLE_TRY(reader.Skip(sizeof(float)));
    THIMBLE_ASSIGN(const uint32_t length, reader.ReadLittleEndian<uint32_t>());
    left -= kTokenHeaderBytes;
    if (length > left) return fail("token {have} of {name} has {need} bytes, more than are left", id, length);
    if (id == kLlama2cFirstByteToken && length == 1) {
      THIMBLE_ASSIGN(const uint8_t byte, reader.ReadLittleEndian<uint8_t>());
      if (byte == 0) {
        return fail("{name} keeps bytes raw, as llama2.c did at first; export it again with a newer tokenizer.py", 0,
                    0);
      }
    } else {
      THIMBLE_TRY(reader.Skip(length));
    }
    left -= length;
    tokenizer.tokens_bytes += length;
    tokenizer.longest_token_bytes = std::max(tokenizer.longest_token_bytes, length);
  }
  if (left != 0) return fail("{name} goes on for {have} bytes after its {need} tokens", left, vocab_size);
  tokenizer.present = true;
  tokenizer.layout = TokenizerLayout::kLlama2c;
  tokenizer.num_tokens = vocab_size;
  tokenizer.unk = tokenizer.bos == 0 || tokenizer.eos == 0 ? kNoToken : 0;
  return {};
}

}  // namespace

std::optional<uint32_t> FolderFileNumber(std::string_view name) {
  if (storage::SameName(name, kFolderConfigName)) return kFolderConfig;
  if (storage::SameName(name, kFolderTokenizerName)) return kFolderTokenizer;
  uint32_t layer = 0;
  uint32_t first = 0;
  uint32_t end = kTensorsOutsideLayers + kFolderTensorsPerLayer;
  if (name.size() > kLayerPrefix.size() && storage::SameName(name.substr(0, kLayerPrefix.size()), kLayerPrefix)) {
    name.remove_prefix(kLayerPrefix.size());
    const size_t digits = name.find('_');
    if (digits == name.npos || digits == 0 || digits > 5 || (digits > 1 && name[0] == '0')) return {};
    for (const char c : name.substr(0, digits)) {
      if (c < '0' || c > '9') return {};
      layer = layer * 10 + static_cast<uint32_t>(c - '0');
    }
    if (layer >= kMaxLayers) return {};
    name.remove_prefix(digits + 1);
    first = kTensorsOutsideLayers;
  }
  for (uint32_t i = first; i < end; ++i) {
    if (storage::SameName(name, FileStem(IdOfFile(i).kind))) return kFolderTensors + i + layer * kFolderTensorsPerLayer;
  }
  return {};
}

size_t FormatFolderFileName(uint32_t number, uint32_t num_hidden_layers, std::span<char> out) {
  TextBuffer text(out);
  if (number == kFolderConfig) {
    text.Append(kFolderConfigName);
  } else if (number == kFolderTokenizer) {
    text.Append(kFolderTokenizerName);
  } else {
    const TensorId id = IdOfFile(number - kFolderTensors);
    if (number >= kFolderTensors + kTensorsOutsideLayers && num_hidden_layers > 1) {
      text.Append(kLayerPrefix);
      text.Append(uint64_t{id.layer});
      text.Append("_");
    }
    text.Append(FileStem(id.kind));
  }
  return text.size();
}

ModelFolder::ModelFolder(std::span<FolderFile> files) : files_(files) { std::ranges::fill(files_, FolderFile{}); }

Result<void> ModelFolder::Add(uint32_t number, uint64_t file_bytes, uint32_t unit_bytes) {
  if (number >= files_.size()) {
    const uint64_t layers =
        files_.size() < FolderFileCount(0) ? 0 : (files_.size() - FolderFileCount(0)) / kFolderTensorsPerLayer;
    return FailFile(Code::kUnsupported,
                    "{name} is of a layer beyond the {have} that a folder can have here; use a GGUF", number,
                    std::numeric_limits<uint32_t>::max(), layers);
  }
  if (files_[number].is_there()) {
    return FailFile(Code::kCorrupt,
                    "the folder has two files for {name}, with a prefix and without, or in other letters", number, 1);
  }
  if (file_bytes > std::numeric_limits<uint64_t>::max() / 2 - size_bytes_) {
    return FailFile(Code::kUnsupported, "{name} is too large", number, 1);
  }
  files_[number] = {.offset_bytes = size_bytes_, .size_bytes = file_bytes};
  size_bytes_ += RoundUp(file_bytes, unit_bytes);
  return {};
}

Result<storage::FileMap> MapFolder(storage::Volume& volume, const storage::DirEntry& folder, ModelFolder& files,
                                   std::span<storage::Extent> extents) {
  size_t used = 0;
  const auto add = [&](const storage::DirEntry& entry) -> Result<void> {
    const std::optional<uint32_t> number = FolderFileNumber(entry.name.data());
    if (!number) return {};
    const uint64_t begin = files.size_bytes();
    THIMBLE_TRY(files.Add(*number, entry.size_bytes, volume.cluster_bytes()));
    const Result<storage::FileMap> map = volume.MapFile(entry, extents.subspan(used));
    if (!map && map.error().code == Code::kUnsupported) {
      return FailNamed(Code::kUnsupported,
                       "the files of {name} lie in more than {need} pieces on the card, which is the most that can be "
                       "used; format the card and copy the folder again",
                       folder.name.data(), used, extents.size());
    }
    if (!map) return std::unexpected(map.error());
    for (storage::Extent piece : map->extents) {
      piece.file_offset_bytes += begin;
      piece.size_bytes = RoundUp(piece.size_bytes, volume.cluster_bytes());
      storage::Extent* last = used == 0 ? nullptr : &extents[used - 1];
      if (last != nullptr && last->device_offset_bytes + last->size_bytes == piece.device_offset_bytes) {
        last->size_bytes += piece.size_bytes;
      } else {
        extents[used++] = piece;
      }
    }
    return {};
  };
  Result<void> added;
  THIMBLE_TRY(volume.ListFolder(folder, [&](const storage::DirEntry& entry) {
    added = add(entry);
    return added.has_value();
  }));
  THIMBLE_TRY(added);
  return storage::FileMap{.extents = extents.first(used), .size_bytes = files.size_bytes()};
}

Result<ModelFile> OpenFolder(storage::ByteReader& reader, const ModelFolder& files, Arena& arena) {
  const FolderFile config_file = files.file(kFolderConfig);
  if (!config_file.is_there()) {
    return FailNamed(Code::kNotFound, "the folder has no {name}", kFolderConfigName);
  }
  if (config_file.size_bytes > kMaxFolderConfigBytes) {
    return FailNamed(Code::kUnsupported, "{name} has {have} bytes; at most {need} are read", kFolderConfigName,
                     config_file.size_bytes, kMaxFolderConfigBytes);
  }
  Config config;
  THIMBLE_TRY(reader.Seek(config_file.offset_bytes));
  THIMBLE_TRY(config.Read(reader, config_file.size_bytes));
  ModelFile model;
  THIMBLE_ASSIGN(model.shape, config.Shape());
  model.tied = config.Flag(Key::kTieWordEmbeddings, false);
  model.metadata[0] = {config_file.offset_bytes, config_file.size_bytes};
  THIMBLE_TRY(CheckFiles(files, model.shape, model.tied));

  TokenizerRef& tokenizer = model.tokenizer;
  THIMBLE_ASSIGN(tokenizer.bos, config.SpecialToken(Key::kBosTokenId, 1, model.shape.vocab_size));
  THIMBLE_ASSIGN(tokenizer.eos, config.SpecialToken(Key::kEosTokenId, 2, model.shape.vocab_size));
  tokenizer.add_bos = config.Flag(Key::kAddBosToken, true);
  tokenizer.add_space_prefix = config.Flag(Key::kAddPrefixSpace, true);
  tokenizer.remove_extra_whitespaces = config.Flag(Key::kRemoveExtraWhitespaces, false);
  if (const FolderFile file = files.file(kFolderTokenizer); file.is_there()) {
    const TokenizerRef special = tokenizer;
    const Result<void> read = ReadTokenizer(reader, file, model.shape.vocab_size, tokenizer);
    if (!read) {
      if (!IsOfContents(read.error().code)) return std::unexpected(read.error());
      tokenizer = special;
      model.tokenizer_fault = read.error();
    }
    model.metadata[1] = {file.offset_bytes, file.size_bytes};
  }

  THIMBLE_ASSIGN(const std::span<TensorRef> tensors, arena.Take<TensorRef>(TensorCount(model.shape)));
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    const bool is_embedding_too = model.tied && IdOfFile(i).kind == TensorKind::kLmHead;
    const uint32_t from = is_embedding_too ? TensorIndex({TensorKind::kTokenEmbd, 0}, model.shape) : i;
    tensors[i] = MakeTensorRef(i, model.shape, files.file(kFolderTensors + from).offset_bytes);
  }
  model.tensors = tensors;
  return model;
}

}  // namespace thimble::formats
