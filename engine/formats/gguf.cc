#include "engine/formats/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "engine/base/exact.h"
#include "engine/base/text_buffer.h"

namespace thimble::formats {
namespace {

enum ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Bytes of a value of this type, at least: a string has its length, an array its type and count.
constexpr std::array<uint8_t, 13> kMinBytes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
constexpr uint64_t kMinPairBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;
constexpr int kMaxArrayDepth = 4;
constexpr uint32_t kMaxDimensions = 4;
constexpr int32_t kControlType = 3;  // in tokenizer.ggml.token_type
constexpr uint64_t kMaxMerges = uint64_t{1} << 24;

std::string_view GgmlTypeName(uint32_t type) {
  // By type number; "-" is a number that no type has.
  std::string_view names =
      "F32 F16 Q4_0 Q4_1 Q4_2 Q4_3 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S "
      "IQ4_NL "
      "IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16 - - - TQ1_0 TQ2_0 - - - MXFP4 ";
  for (; !names.empty(); --type) {
    const size_t end = names.find(' ');
    if (type == 0 && names[0] != '-') return names.substr(0, end);
    if (type == 0) break;
    names.remove_prefix(end + 1);
  }
  return "a type that is not known here";
}

// A short string value; a longer one is cut and equals nothing.
struct Text {
  std::array<char, 48> chars = {};
  size_t size = 0;
  bool cut = false;
  std::string_view view() const { return {chars.data(), size}; }
  bool operator==(std::string_view other) const { return !cut && view() == other; }
};

// What the keys say; absent until a key says it.
struct Keys {
  std::optional<Text> architecture, file_type, tokenizer_model, pre_tokenizer, rope_scaling_type;
  std::optional<uint64_t> alignment, split_count;
  std::optional<uint64_t> vocab_size, context_length, embedding_length, block_count, feed_forward_length, head_count,
      head_count_kv, key_length, value_length, rope_dimension_count;
  std::optional<double> rms_epsilon, rope_freq_base, rope_scaling_factor, rope_scale_linear, rope_attn_factor;
  std::optional<uint64_t> bos, eos, unk, eot, eom;
  std::optional<bool> causal, add_bos, add_eos, add_space_prefix, remove_extra_whitespaces, fuse_unknown,
      escape_whitespaces;
};

template <class T>
struct KeyOf {
  std::string_view name;
  std::optional<T> Keys::* value;
};

constexpr std::string_view kAlignment = "general.alignment";
// Behind the architecture's name.
constexpr std::string_view kVocabSizeKey = ".vocab_size";
constexpr std::string_view kContextLength = ".context_length";
constexpr std::string_view kEmbeddingLength = ".embedding_length";
constexpr std::string_view kBlockCount = ".block_count";
constexpr std::string_view kFeedForwardLength = ".feed_forward_length";
constexpr std::string_view kHeadCount = ".attention.head_count";
constexpr std::string_view kHeadCountKv = ".attention.head_count_kv";
constexpr std::string_view kKeyLength = ".attention.key_length";
constexpr std::string_view kValueLength = ".attention.value_length";
constexpr std::string_view kRmsEpsilon = ".attention.layer_norm_rms_epsilon";
constexpr std::string_view kRopeDimensionCount = ".rope.dimension_count";
constexpr std::string_view kRopeFreqBase = ".rope.freq_base";
constexpr std::string_view kRopeScalingType = ".rope.scaling.type";
constexpr std::string_view kRopeScalingFactor = ".rope.scaling.factor";
constexpr std::string_view kRopeScaleLinear = ".rope.scale_linear";
constexpr std::string_view kRopeAttnFactor = ".rope.scaling.attn_factor";
constexpr std::string_view kCausal = ".attention.causal";

constexpr std::string_view kTokenizerPrefix = "tokenizer.";
constexpr std::string_view kTokenizerModel = "tokenizer.ggml.model";
constexpr std::string_view kPreTokenizer = "tokenizer.ggml.pre";
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kScores = "tokenizer.ggml.scores";
constexpr std::string_view kTokenTypes = "tokenizer.ggml.token_type";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";
constexpr std::string_view kBos = "tokenizer.ggml.bos_token_id";
constexpr std::string_view kEos = "tokenizer.ggml.eos_token_id";
constexpr std::string_view kEndTokens = "tokenizer.thimble.end_token_ids";
constexpr std::string_view kChatTemplate = "tokenizer.chat_template";
constexpr std::string_view kUnk = "tokenizer.ggml.unknown_token_id";
constexpr std::string_view kCharsmap = "tokenizer.ggml.precompiled_charsmap";

constexpr KeyOf<Text> kTextKeys[] = {
    {"general.architecture", &Keys::architecture}, {"general.type", &Keys::file_type},
    {kTokenizerModel, &Keys::tokenizer_model},     {kPreTokenizer, &Keys::pre_tokenizer},
    {kRopeScalingType, &Keys::rope_scaling_type},
};
constexpr KeyOf<uint64_t> kIntegerKeys[] = {
    {kAlignment, &Keys::alignment},
    {"split.count", &Keys::split_count},
    {kVocabSizeKey, &Keys::vocab_size},
    {kContextLength, &Keys::context_length},
    {kEmbeddingLength, &Keys::embedding_length},
    {kBlockCount, &Keys::block_count},
    {kFeedForwardLength, &Keys::feed_forward_length},
    {kHeadCount, &Keys::head_count},
    {kHeadCountKv, &Keys::head_count_kv},
    {kKeyLength, &Keys::key_length},
    {kValueLength, &Keys::value_length},
    {kRopeDimensionCount, &Keys::rope_dimension_count},
    {kBos, &Keys::bos},
    {kEos, &Keys::eos},
    {kUnk, &Keys::unk},
    {"tokenizer.ggml.eot_token_id", &Keys::eot},
    {"tokenizer.ggml.eom_token_id", &Keys::eom},
};
constexpr KeyOf<double> kNumberKeys[] = {
    {kRmsEpsilon, &Keys::rms_epsilon},
    {kRopeFreqBase, &Keys::rope_freq_base},
    {kRopeScalingFactor, &Keys::rope_scaling_factor},
    {kRopeScaleLinear, &Keys::rope_scale_linear},
    {kRopeAttnFactor, &Keys::rope_attn_factor},
};
constexpr KeyOf<bool> kBoolKeys[] = {
    {kCausal, &Keys::causal},
    {"tokenizer.ggml.add_bos_token", &Keys::add_bos},
    {"tokenizer.ggml.add_eos_token", &Keys::add_eos},
    {"tokenizer.ggml.add_space_prefix", &Keys::add_space_prefix},
    {"tokenizer.ggml.remove_extra_whitespaces", &Keys::remove_extra_whitespaces},
    // What ggml has no key for.
    {"tokenizer.thimble.fuse_unk", &Keys::fuse_unknown},
    {"tokenizer.thimble.escape_whitespaces", &Keys::escape_whitespaces},
};
// Keys of the architecture that have no part in the numbers, whatever they hold.
constexpr std::string_view kHarmlessKeys[] = {
    ".tensor_data_layout",
    ".attention.layer_norm_epsilon",
    ".rope.scaling.original_context_length",
    ".rope.scaling.finetuned",
    ".rope.scaling.yarn_log_multiplier",
    ".rope.scaling.yarn_ext_factor",
    ".rope.scaling.yarn_attn_factor",
    ".rope.scaling.yarn_beta_fast",
    ".rope.scaling.yarn_beta_slow",
};

// An array of the tokenizer.
struct ArrayRef {
  bool present = false;
  uint64_t count = 0;
  uint64_t offset = 0;  // of the first element
};

// A number of any type. `integer` is not negative; `negative` and fractions have no `integer`.
struct Scalar {
  double number = 0;
  std::optional<uint64_t> integer;
};

template <class T>
Scalar ScalarOf(T value) {
  Scalar scalar = {.number = static_cast<double>(value), .integer = {}};
  if constexpr (std::is_integral_v<T>) {
    if (value >= 0) scalar.integer = static_cast<uint64_t>(value);
  }
  return scalar;
}

std::unexpected<Error> FailKey(Code code, const char* what, std::string_view key, uint64_t have = 0,
                               uint64_t need = 0) {
  return Fail(Error{.code = code, .what = what, .have = have, .need = need}.Named(key));
}

class Parser {
 public:
  explicit Parser(storage::ByteReader& reader) : reader_(reader) {}

  Result<ModelFile> Parse(Arena& arena);
  Result<TokenizerRef> ParseVocabulary();

 private:
  Result<void> ReadHeader();
  Result<void> ReadPair();
  std::string_view NameInTables(std::string_view key);
  Result<void> ReadValue(std::string_view key, uint32_t type);
  Result<void> CheckArchitecture();
  TensorId FindTensor(std::string_view name) const;
  Result<std::span<TensorRef>> ReadTensors(Arena& arena);
  Result<void> ReadTensor(std::span<TensorRef> tensors);
  Result<bool> PlaceTensors(std::span<TensorRef> tensors);
  Result<void> CheckKeys();
  Result<void> CheckRope();
  Result<void> MakeShape();
  void MakeTokenizer();
  Result<void> FindNamedEnds();
  bool is_byte_level() const;
  bool is_unigram() const { return keys_.tokenizer_model && *keys_.tokenizer_model == "t5"; }
  PreTokenizer pre_tokenizer() const;
  Result<void> CheckByteLevel() const;
  Result<void> CheckTokenizer() const;
  void NoteTokenizer(const Error& error) {
    if (!tokenizer_fault_) tokenizer_fault_ = error;
  }

  Result<uint32_t> ReadType();
  Result<uint64_t> ReadCount(uint64_t least_bytes, const char* what);
  Result<Text> ReadText();
  Result<Scalar> ReadScalar(uint32_t type);
  Result<void> ReadArrayHead(uint32_t& element_type, uint64_t& count);
  Result<void> SkipValue(uint32_t type, int depth);
  Result<void> ReadTokens(uint32_t type);
  Result<void> ReadMerges(uint32_t type);
  Result<void> ReadCharsmap(uint32_t type);
  Result<void> ReadEndTokens(uint32_t type);
  Result<void> ReadChatTemplate(uint32_t type);
  Result<void> NoteEndName(TokenId id, uint64_t size);
  Result<void> ReadTokenNumbers(uint32_t type, std::string_view key, uint32_t element, uint32_t other, ArrayRef& array);
  Result<void> ReadInteger(uint32_t type, std::string_view key, uint64_t& value);
  Result<void> CheckNeutral(uint32_t type, std::string_view key);

  // As FailKey(), of a key behind the architecture's name.
  std::unexpected<Error> FailOwn(Code code, const char* what, std::string_view key, uint64_t have = 0,
                                 uint64_t need = 0) const {
    char name[sizeof(Error::name)];
    TextBuffer text(name);
    text.Append(ArchitectureName(shape_.architecture));
    text.Append(key);
    return FailKey(code, what, {name, text.size()}, have, need);
  }

  Error At(Code code, const char* what) const { return {.code = code, .what = what, .offset = reader_.offset_bytes()}; }

  storage::ByteReader& reader_;
  uint64_t tensor_count_ = 0;
  uint64_t pair_count_ = 0;
  uint64_t data_offset_ = 0;
  uint64_t alignment_ = 32;
  Keys keys_;
  std::array<bool, kNumArchitectures> has_keys_of_ = {};
  bool has_tokenizer_ = false;
  ArrayRef tokens_, scores_, token_types_, merges_, charsmap_, end_tokens_;
  bool vocabulary_only_ = false;
  EndTokens ends_;        // that a key lists
  EndTokens named_ends_;  // tokens with the name of one
  ByteRange chat_template_;
  ModelShape shape_;
  TokenizerRef tokenizer_;
  std::optional<Error> tokenizer_fault_;  // what was found first
};

Result<ModelFile> Parser::Parse(Arena& arena) {
  THIMBLE_TRY(ReadHeader());
  for (uint64_t i = 0; i < pair_count_; ++i) THIMBLE_TRY(ReadPair());
  THIMBLE_TRY(CheckKeys());
  THIMBLE_TRY(MakeShape());
  THIMBLE_TRY(CheckRope());
  MakeTokenizer();
  THIMBLE_TRY(FindNamedEnds());

  // Single tensors are missed by name below; this keeps a wrong layer count from asking for memory.
  if (tensor_count_ + TensorsPerLayer(shape_.architecture) < TensorCount(shape_)) {
    return FailOwn(Code::kCorrupt, "the file has {have} tensors, too few for the {need} layers of {name}", kBlockCount,
                   tensor_count_, shape_.num_hidden_layers);
  }
  THIMBLE_ASSIGN(const std::span<TensorRef> tensors, ReadTensors(arena));
  THIMBLE_ASSIGN(const bool tied, PlaceTensors(tensors));
  if (tied) {
    TensorRef& head = tensors[TensorIndex({TensorKind::kLmHead, 0}, shape_)];
    head = tensors[TensorIndex({TensorKind::kTokenEmbd, 0}, shape_)];
    head.id.kind = TensorKind::kLmHead;
  }
  return ModelFile{.shape = shape_,
                   .tokenizer = tokenizer_,
                   .tokenizer_fault = tokenizer_fault_,
                   .tensors = tensors,
                   .tied = tied,
                   .metadata = {{{0, data_offset_}, {}}}};
}

// The table, offsets counted from the start of the data; a tied LM head is not there.
Result<std::span<TensorRef>> Parser::ReadTensors(Arena& arena) {
  // Only the tensors' names tell whether there are rotary factors, the table's last.
  shape_.has_rope_factors = shape_.architecture == Architecture::kLlama;
  const uint64_t mark = arena.used_bytes();
  THIMBLE_ASSIGN(std::span<TensorRef> tensors, arena.Take<TensorRef>(TensorCount(shape_)));
  for (uint64_t i = 0; i < tensor_count_; ++i) THIMBLE_TRY(ReadTensor(tensors));
  if (shape_.has_rope_factors && tensors.back().id.kind == TensorKind::kNone) {
    shape_.has_rope_factors = false;
    tensors = tensors.first(tensors.size() - 1);
    arena.Release(mark + ArenaBytes(tensors.size_bytes()));
  }
  if (shape_.has_rope_factors && shape_.rope_linear_factor != 1) {
    return Fail({.code = Code::kUnsupported,
                 .what = "the model scales its rotary positions twice, by {tensor} and by a factor for all of them",
                 .tensor = {TensorKind::kRopeFactors, 0}});
  }
  return tensors;
}

// Checks that all are there and lie in the file. Whether the LM head is tied.
Result<bool> Parser::PlaceTensors(std::span<TensorRef> tensors) {
  data_offset_ = (reader_.offset_bytes() + alignment_ - 1) / alignment_ * alignment_;

  bool tied = false;
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    TensorRef& tensor = tensors[i];
    const TensorId id = TensorIdAt(i, shape_);
    if (tensor.id.kind == TensorKind::kNone) {
      if (id.kind != TensorKind::kLmHead) {
        return Fail({.code = Code::kNotFound, .what = "tensor {tensor} is missing", .tensor = id});
      }
      tied = true;
      continue;
    }
    const uint64_t file_size = reader_.offset_bytes() + reader_.left_bytes();
    const uint64_t room = file_size > data_offset_ ? file_size - data_offset_ : 0;
    if (tensor.offset > room || tensor.size_bytes() > room - tensor.offset) {
      return Fail({.code = Code::kCorrupt,
                   .what =
                       "tensor {tensor} does not lie inside the file: it needs {need} bytes at byte {offset} of the "
                       "tensor data, which has {have} bytes; the file may be cut off",
                   .tensor = id,
                   .offset = tensor.offset,
                   .have = room,
                   .need = tensor.size_bytes()});
    }
    tensor.offset += data_offset_;
  }
  return tied;
}

Result<TokenizerRef> Parser::ParseVocabulary() {
  vocabulary_only_ = true;
  THIMBLE_TRY(ReadHeader());
  for (uint64_t i = 0; i < pair_count_; ++i) THIMBLE_TRY(ReadPair());
  has_tokenizer_ = keys_.tokenizer_model.has_value();
  if (!has_tokenizer_) return FailKey(Code::kNotFound, "metadata key {name} is missing", kTokenizerModel);
  if (tokens_.count == 0 || tokens_.count > kMaxWidth) {
    return FailKey(Code::kCorrupt, "{name} has {have} elements; it must have between 1 and {need}", kTokens,
                   tokens_.count, kMaxWidth);
  }
  shape_.vocab_size = static_cast<uint32_t>(tokens_.count);
  MakeTokenizer();
  if (tokenizer_fault_) return Fail(*tokenizer_fault_);
  return tokenizer_;
}

Result<void> Parser::ReadHeader() {
  THIMBLE_TRY(reader_.Seek(0));
  std::array<char, 4> magic = {};
  if (reader_.left_bytes() >= magic.size()) THIMBLE_TRY(reader_.Read(std::as_writable_bytes(std::span(magic))));
  if (std::string_view(magic.data(), magic.size()) != "GGUF") {
    return Fail(
        {.code = Code::kUnsupported, .what = "this is not a GGUF file: it does not begin with the letters GGUF"});
  }
  THIMBLE_ASSIGN(const uint32_t version, reader_.ReadLittleEndian<uint32_t>());
  if (version != 0 && version % 0x10000 == 0) {
    return Fail(
        {.code = Code::kUnsupported,
         .what = "this GGUF file is big-endian; convert it to little-endian (gguf_convert_endian.py of llama.cpp)"});
  }
  if (version != 2 && version != 3) {
    return Fail({.code = Code::kUnsupported,
                 .what = "this is a GGUF file of version {have}; versions 2 and 3 can be read",
                 .have = version});
  }
  THIMBLE_ASSIGN(tensor_count_, reader_.ReadLittleEndian<uint64_t>());
  THIMBLE_ASSIGN(pair_count_, reader_.ReadLittleEndian<uint64_t>());
  if (tensor_count_ > reader_.left_bytes() / kMinTensorBytes) {
    Error error = At(Code::kCorrupt, "the header announces {have} tensors, more than the file has room for");
    error.have = tensor_count_;
    return Fail(error);
  }
  if (pair_count_ > reader_.left_bytes() / kMinPairBytes) {
    Error error = At(Code::kCorrupt, "the header announces {have} metadata keys, more than the file has room for");
    error.have = pair_count_;
    return Fail(error);
  }
  return {};
}

Result<void> Parser::ReadPair() {
  THIMBLE_ASSIGN(const uint64_t key_size, ReadCount(1, "a metadata key at byte {offset} is {have} bytes long"));
  std::array<char, 96> key_chars = {};
  const size_t kept = static_cast<size_t>(std::min<uint64_t>(key_size, key_chars.size()));
  THIMBLE_TRY(reader_.Read(std::as_writable_bytes(std::span(key_chars).first(kept))));
  THIMBLE_TRY(reader_.Skip(key_size - kept));
  const std::string_view key(key_chars.data(), kept);
  THIMBLE_ASSIGN(const uint32_t type, ReadType());
  const uint64_t value_offset = reader_.offset_bytes();
  const Result<void> read = ReadValue(key, type);
  if (read || !key.starts_with(kTokenizerPrefix) || !IsOfContents(read.error().code)) return read;
  NoteTokenizer(read.error());
  THIMBLE_TRY(reader_.Seek(value_offset));
  return SkipValue(type, 0);
}

// How the tables above spell a key: what is behind the architecture's name, which comes before or after it.
std::string_view Parser::NameInTables(std::string_view key) {
  for (size_t i = 0; i < kNumArchitectures; ++i) {
    const std::string_view prefix = ArchitectureName(static_cast<Architecture>(i));
    if (!key.starts_with(prefix) || !key.substr(prefix.size()).starts_with('.')) continue;
    has_keys_of_[i] = true;
    return key.substr(prefix.size());
  }
  return key.starts_with('.') ? std::string_view() : key;
}

Result<void> Parser::ReadValue(std::string_view key, uint32_t type) {
  const auto doubled = [&] { return FailKey(Code::kCorrupt, "metadata key {name} is there twice", key); };
  if (vocabulary_only_ && !key.starts_with(kTokenizerPrefix)) return SkipValue(type, 0);
  // A key that was cut is longer than any of ours, so that it matches none.
  const std::string_view name = NameInTables(key);
  for (const auto& known : kTextKeys) {
    if (known.name != name) continue;
    if (keys_.*known.value) return doubled();
    if (type != kString) return FailKey(Code::kCorrupt, "metadata key {name} is not a string", key);
    THIMBLE_ASSIGN(keys_.*known.value, ReadText());
    return {};
  }
  for (const auto& known : kIntegerKeys) {
    if (known.name != name) continue;
    if (keys_.*known.value) return doubled();
    uint64_t value = 0;
    THIMBLE_TRY(ReadInteger(type, key, value));
    keys_.*known.value = value;
    return {};
  }
  for (const auto& known : kNumberKeys) {
    if (known.name != name) continue;
    if (keys_.*known.value) return doubled();
    if (type == kString || type == kArray || type == kBool) {
      return FailKey(Code::kCorrupt, "metadata key {name} is not a number", key);
    }
    THIMBLE_ASSIGN(const Scalar scalar, ReadScalar(type));
    keys_.*known.value = scalar.number;
    return {};
  }
  for (const auto& known : kBoolKeys) {
    if (known.name != name) continue;
    if (keys_.*known.value) return doubled();
    if (type != kBool) return FailKey(Code::kCorrupt, "metadata key {name} is not true or false", key);
    THIMBLE_ASSIGN(const Scalar scalar, ReadScalar(type));
    keys_.*known.value = scalar.number != 0;
    return {};
  }
  if (key == kTokens) return tokens_.present ? doubled() : ReadTokens(type);
  if (key == kMerges) return merges_.present ? doubled() : ReadMerges(type);
  if (key == kEndTokens) return end_tokens_.present ? doubled() : ReadEndTokens(type);
  if (key == kChatTemplate) return ReadChatTemplate(type);
  if (key == kScores) {
    return scores_.present ? doubled() : ReadTokenNumbers(type, key, kFloat32, kFloat32, scores_);
  }
  if (key == kCharsmap) return charsmap_.present ? doubled() : ReadCharsmap(type);
  if (key == kTokenTypes) {
    return token_types_.present ? doubled() : ReadTokenNumbers(type, key, kInt32, kUint32, token_types_);
  }
  if (name.starts_with('.') &&
      std::find(std::begin(kHarmlessKeys), std::end(kHarmlessKeys), name) == std::end(kHarmlessKeys)) {
    return CheckNeutral(type, key);
  }
  return SkipValue(type, 0);
}

Result<uint32_t> Parser::ReadType() {
  THIMBLE_ASSIGN(const uint32_t type, reader_.ReadLittleEndian<uint32_t>());
  if (type < kMinBytes.size()) return type;
  Error error = At(Code::kCorrupt, "metadata value type {have} before byte {offset} does not exist");
  error.have = type;
  return Fail(error);
}

// A count of things of which each takes at least `least_bytes` of the file.
Result<uint64_t> Parser::ReadCount(uint64_t least_bytes, const char* what) {
  THIMBLE_ASSIGN(const uint64_t count, reader_.ReadLittleEndian<uint64_t>());
  if (count <= reader_.left_bytes() / least_bytes) return count;
  Error error = At(Code::kCorrupt, what);
  error.have = count;
  return Fail(error);
}

Result<Text> Parser::ReadText() {
  THIMBLE_ASSIGN(const uint64_t size,
                 ReadCount(1, "a string of {have} bytes at byte {offset} is longer than the file"));
  Text text;
  text.size = static_cast<size_t>(std::min<uint64_t>(size, text.chars.size()));
  text.cut = text.size != size;
  THIMBLE_TRY(reader_.Read(std::as_writable_bytes(std::span(text.chars).first(text.size))));
  THIMBLE_TRY(reader_.Skip(size - text.size));
  return text;
}

Result<Scalar> Parser::ReadScalar(uint32_t type) {
  const auto read = [&]<class T>(T) -> Result<Scalar> {
    THIMBLE_ASSIGN(const T value, reader_.ReadLittleEndian<T>());
    return ScalarOf(value);
  };
  switch (type) {
    case kUint8:
      return read(uint8_t{});
    case kInt8:
      return read(int8_t{});
    case kUint16:
      return read(uint16_t{});
    case kInt16:
      return read(int16_t{});
    case kUint32:
      return read(uint32_t{});
    case kInt32:
      return read(int32_t{});
    case kFloat32:
      return read(float{});
    case kUint64:
      return read(uint64_t{});
    case kInt64:
      return read(int64_t{});
    case kFloat64:
      return read(double{});
    default: {
      THIMBLE_ASSIGN(const Scalar scalar, read(uint8_t{}));
      if (scalar.number > 1) return Fail(At(Code::kCorrupt, "a true-or-false value before byte {offset} is neither"));
      return scalar;
    }
  }
}

Result<void> Parser::ReadArrayHead(uint32_t& element_type, uint64_t& count) {
  THIMBLE_ASSIGN(element_type, ReadType());
  THIMBLE_ASSIGN(count, ReadCount(kMinBytes[element_type],
                                  "an array of {have} elements at byte {offset} is longer than the file"));
  return {};
}

Result<void> Parser::SkipValue(uint32_t type, int depth) {
  if (type == kString) {
    THIMBLE_ASSIGN(const uint64_t size,
                   ReadCount(1, "a string of {have} bytes at byte {offset} is longer than the file"));
    return reader_.Skip(size);
  }
  if (type != kArray) return reader_.Skip(kMinBytes[type]);
  if (depth == kMaxArrayDepth) return Fail(At(Code::kUnsupported, "arrays are nested too deeply at byte {offset}"));
  uint32_t element_type = 0;
  uint64_t count = 0;
  THIMBLE_TRY(ReadArrayHead(element_type, count));
  if (element_type != kString && element_type != kArray) return reader_.Skip(count * kMinBytes[element_type]);
  for (uint64_t i = 0; i < count; ++i) THIMBLE_TRY(SkipValue(element_type, depth + 1));
  return {};
}

// One integer of any type, or an array of them, one for each layer, that are all the same.
Result<void> Parser::ReadInteger(uint32_t type, std::string_view key, uint64_t& value) {
  const bool is_array = type == kArray;
  uint64_t count = 1;
  if (is_array) THIMBLE_TRY(ReadArrayHead(type, count));
  const bool is_integer =
      type != kString && type != kArray && type != kBool && type != kFloat32 && type != kFloat64 && count != 0;
  if (!is_integer) return FailKey(Code::kCorrupt, "metadata key {name} is not a whole number", key);
  for (uint64_t i = 0; i < count; ++i) {
    THIMBLE_ASSIGN(const Scalar scalar, ReadScalar(type));
    // Tokens that do not exist are sometimes written as -1.
    if (!scalar.integer && type == kInt32 && scalar.number == -1) {
      value = kNoToken;
      continue;
    }
    if (!scalar.integer) return FailKey(Code::kCorrupt, "metadata key {name} is negative", key);
    if (i != 0 && *scalar.integer != value) {
      return FailKey(Code::kUnsupported, "metadata key {name} differs from layer to layer, which is not supported",
                     key);
    }
    value = *scalar.integer;
  }
  return {};
}

// A key of the architecture that is not known here may stay only if it is zero or false: switched off.
Result<void> Parser::CheckNeutral(uint32_t type, std::string_view key) {
  if (type != kString && type != kArray) {
    THIMBLE_ASSIGN(const Scalar scalar, ReadScalar(type));
    if (scalar.number == 0) return {};
  }
  return FailKey(Code::kUnsupported,
                 "the model sets {name}, which this engine does not support: its numbers would not be the model's",
                 key);
}

Result<void> Parser::ReadTokens(uint32_t type) {
  uint32_t element_type = 0;
  if (type == kArray) THIMBLE_TRY(ReadArrayHead(element_type, tokens_.count));
  if (element_type != kString)
    return FailKey(Code::kCorrupt, "metadata key {name} is not an array of strings", kTokens);
  tokens_.present = true;
  tokens_.offset = reader_.offset_bytes();
  for (uint64_t i = 0; i < tokens_.count; ++i) {
    THIMBLE_ASSIGN(const uint64_t size,
                   ReadCount(1, "a token of {have} bytes at byte {offset} is longer than the file"));
    if (size > std::numeric_limits<uint32_t>::max()) {
      return FailKey(Code::kUnsupported, "a token of {name} has {have} bytes", kTokens, size);
    }
    THIMBLE_TRY(NoteEndName(static_cast<TokenId>(i), size));
    tokenizer_.tokens_bytes += size;
    tokenizer_.longest_token_bytes = std::max(tokenizer_.longest_token_bytes, static_cast<uint32_t>(size));
  }
  return {};
}

// Past a token's text.
Result<void> Parser::NoteEndName(TokenId id, uint64_t size) {
  std::array<char, kLongestEndTokenName> chars;
  if (size > chars.size()) return reader_.Skip(size);
  const std::span<char> name = std::span(chars).first(static_cast<size_t>(size));
  THIMBLE_TRY(reader_.Read(std::as_writable_bytes(name)));
  if (IsEndTokenName({name.data(), name.size()})) named_ends_.Add(id);
  return {};
}

Result<void> Parser::ReadEndTokens(uint32_t type) {
  uint32_t element_type = kString;
  if (type == kArray) THIMBLE_TRY(ReadArrayHead(element_type, end_tokens_.count));
  if (element_type != kUint32 && element_type != kInt32) {
    return FailKey(Code::kCorrupt, "metadata key {name} is not an array of numbers of 32 bits", kEndTokens);
  }
  end_tokens_.present = true;
  for (uint64_t i = 0; i < end_tokens_.count; ++i) {
    THIMBLE_ASSIGN(const TokenId id, reader_.ReadLittleEndian<TokenId>());
    ends_.Add(id);
  }
  return {};
}

// The last one counts, as a key of this name is nothing that a text needs.
Result<void> Parser::ReadChatTemplate(uint32_t type) {
  if (type != kString) return SkipValue(type, 0);
  THIMBLE_ASSIGN(const uint64_t size,
                 ReadCount(1, "a string of {have} bytes at byte {offset} is longer than the file"));
  chat_template_ = {reader_.offset_bytes(), size};
  return reader_.Skip(size);
}

Result<void> Parser::ReadMerges(uint32_t type) {
  uint32_t element_type = 0;
  if (type == kArray) THIMBLE_TRY(ReadArrayHead(element_type, merges_.count));
  if (element_type != kString)
    return FailKey(Code::kCorrupt, "metadata key {name} is not an array of strings", kMerges);
  merges_.present = true;
  merges_.offset = reader_.offset_bytes();
  for (uint64_t i = 0; i < merges_.count; ++i) THIMBLE_TRY(SkipValue(kString, 0));
  return {};
}

Result<void> Parser::ReadCharsmap(uint32_t type) {
  uint32_t element_type = kString;
  if (type == kArray) THIMBLE_TRY(ReadArrayHead(element_type, charsmap_.count));
  if (element_type != kUint8 && element_type != kInt8) {
    return FailKey(Code::kCorrupt, "metadata key {name} is not an array of bytes", kCharsmap);
  }
  charsmap_.present = true;
  charsmap_.offset = reader_.offset_bytes();
  return reader_.Skip(charsmap_.count);
}

Result<void> Parser::ReadTokenNumbers(uint32_t type, std::string_view key, uint32_t element, uint32_t other,
                                      ArrayRef& array) {
  uint32_t element_type = kString;
  if (type == kArray) THIMBLE_TRY(ReadArrayHead(element_type, array.count));
  if (element_type != element && element_type != other) {
    return FailKey(Code::kCorrupt, "metadata key {name} is not an array of numbers of 32 bits", key);
  }
  array.present = true;
  array.offset = reader_.offset_bytes();
  return reader_.Skip(array.count * 4);
}

Result<void> Parser::CheckKeys() {
  if (keys_.split_count.value_or(1) > 1) {
    return Fail(
        {.code = Code::kUnsupported,
         .what =
             "this file is one of {have} parts of a model: give the first to 'thimble convert', NAME-00001-of-..., the "
             "others beside it; it joins them",
         .have = *keys_.split_count});
  }
  if (!keys_.architecture) return FailKey(Code::kNotFound, "metadata key {name} is missing", "general.architecture");
  THIMBLE_TRY(CheckArchitecture());
  if (keys_.file_type && *keys_.file_type != "model") {
    return FailKey(Code::kUnsupported, "the file holds no model: its general.type is {name}", keys_.file_type->view());
  }
  if (!keys_.causal.value_or(true)) {
    return FailOwn(Code::kUnsupported, "{name} is false; only causal models can be run", kCausal);
  }
  has_tokenizer_ = keys_.tokenizer_model && *keys_.tokenizer_model != "none" && *keys_.tokenizer_model != "no_vocab";
  alignment_ = keys_.alignment.value_or(32);
  if (!std::has_single_bit(alignment_) || alignment_ < 8 || alignment_ > uint64_t{1} << 31) {
    return FailKey(Code::kCorrupt, "{name} is {have}; it must be a power of two from 8 up", kAlignment, alignment_);
  }
  return {};
}

Result<void> Parser::CheckArchitecture() {
  size_t i = 0;
  while (i < kNumArchitectures && *keys_.architecture != ArchitectureName(static_cast<Architecture>(i))) ++i;
  if (i == kNumArchitectures) {
    return FailKey(Code::kUnsupported, "the model's architecture is {name}; llama, qwen2 and qwen3 can be run",
                   keys_.architecture->view());
  }
  shape_.architecture = static_cast<Architecture>(i);
  has_keys_of_[i] = false;
  if (std::ranges::count(has_keys_of_, true) == 0) return {};
  return FailKey(Code::kCorrupt, "the model's architecture is {name}, but it has keys of another one",
                 keys_.architecture->view());
}

Result<void> Parser::MakeShape() {
  struct Bound {
    std::string_view key;
    std::optional<uint64_t> value;
    uint64_t max;
    uint32_t ModelShape::* field;
  };
  const std::optional<uint64_t> vocab_size =
      !keys_.vocab_size && has_tokenizer_ && tokens_.present ? std::optional(tokens_.count) : keys_.vocab_size;
  const Bound bounds[] = {
      {kEmbeddingLength, keys_.embedding_length, kMaxWidth, &ModelShape::hidden_size},
      {kFeedForwardLength, keys_.feed_forward_length, kMaxWidth, &ModelShape::intermediate_size},
      {kBlockCount, keys_.block_count, kMaxLayers, &ModelShape::num_hidden_layers},
      {kHeadCount, keys_.head_count, kMaxWidth, &ModelShape::num_attention_heads},
      {kHeadCountKv, keys_.head_count_kv ? keys_.head_count_kv : keys_.head_count, kMaxWidth,
       &ModelShape::num_key_value_heads},
      {kContextLength, keys_.context_length, kMaxContext, &ModelShape::max_position_embeddings},
      {kVocabSizeKey, vocab_size, kMaxWidth, &ModelShape::vocab_size},
  };
  for (const Bound& bound : bounds) {
    if (!bound.value) return FailOwn(Code::kNotFound, "metadata key {name} is missing", bound.key);
    if (*bound.value == 0 || *bound.value > bound.max) {
      return FailOwn(Code::kCorrupt, "{name} is {have}; it must lie between 1 and {need}", bound.key, *bound.value,
                     bound.max);
    }
    shape_.*bound.field = static_cast<uint32_t>(*bound.value);
  }
  const uint64_t head_dim = keys_.key_length.value_or(shape_.hidden_size / shape_.num_attention_heads);
  shape_.head_dim = static_cast<uint32_t>(std::min<uint64_t>(head_dim, std::numeric_limits<uint32_t>::max()));
  switch (CheckShape(shape_, keys_.key_length.has_value())) {
    case ShapeFault::kNone:
      break;
    case ShapeFault::kKeyValueHeads:
      return FailOwn(Code::kCorrupt, "{name} is {have}, which does not divide the {need} heads of attention.head_count",
                     kHeadCountKv, shape_.num_key_value_heads, shape_.num_attention_heads);
    case ShapeFault::kHiddenSize:
      return FailOwn(Code::kCorrupt, "{name} is {have}, not a multiple of the {need} heads, and there is no key_length",
                     kEmbeddingLength, shape_.hidden_size, shape_.num_attention_heads);
    case ShapeFault::kHeadDim:
    case ShapeFault::kAllHeads:
      return FailOwn(
          Code::kCorrupt,
          "heads have {have} elements ({name}, or embedding_length over head_count); it must be an even number, "
          "and all heads together at most {need}",
          kKeyLength, head_dim, kMaxWidth);
  }
  if (keys_.value_length.value_or(head_dim) != head_dim) {
    return FailOwn(Code::kUnsupported, "{name} is {have}, which differs from the {need} elements of a key",
                   kValueLength, *keys_.value_length, head_dim);
  }

  const auto positive = [](double value) {
    return value >= double{std::numeric_limits<float>::min()} && value <= double{std::numeric_limits<float>::max()};
  };
  if (!keys_.rms_epsilon) return FailOwn(Code::kNotFound, "metadata key {name} is missing", kRmsEpsilon);
  if (!positive(*keys_.rms_epsilon)) {
    return FailOwn(Code::kCorrupt, "{name} must be a positive number that fits a float32", kRmsEpsilon);
  }
  shape_.rms_norm_eps = static_cast<float>(*keys_.rms_epsilon);
  const double theta = keys_.rope_freq_base.value_or(10000.0);
  if (!positive(theta)) {
    return FailOwn(Code::kCorrupt, "{name} must be a positive number that fits a float32", kRopeFreqBase);
  }
  shape_.rope_theta = static_cast<float>(theta);
  return {};
}

Result<void> Parser::CheckRope() {
  if (keys_.rope_dimension_count.value_or(shape_.head_dim) != shape_.head_dim) {
    return FailOwn(Code::kUnsupported,
                   "{name} is {have}: only models that rotate all {need} elements of a head can be run",
                   kRopeDimensionCount, *keys_.rope_dimension_count, shape_.head_dim);
  }
  if (keys_.rope_attn_factor && *keys_.rope_attn_factor != 1 && *keys_.rope_attn_factor != 0) {
    return FailOwn(Code::kUnsupported, "the model scales its attention ({name}), which is not supported",
                   kRopeAttnFactor);
  }
  if (keys_.rope_scaling_type && *keys_.rope_scaling_type == "none") return {};
  if (keys_.rope_scaling_type && *keys_.rope_scaling_type != "linear") {
    return FailKey(Code::kUnsupported,
                   "the model scales its rotary positions (type {name}), which is not supported; types none and linear "
                   "are",
                   keys_.rope_scaling_type->view());
  }
  // A factor of 0 means that there is none.
  const std::string_view key = keys_.rope_scaling_factor ? kRopeScalingFactor : kRopeScaleLinear;
  const double factor = keys_.rope_scaling_factor.value_or(keys_.rope_scale_linear.value_or(0));
  if (factor == 0) return {};
  if (!(factor >= 1 && factor <= kMaxRopeFactor)) {
    return FailOwn(Code::kUnsupported, "{name} must lie between 1 and {need}", key, 0, kMaxRopeFactor);
  }
  shape_.rope_linear_factor = static_cast<float>(factor);
  return {};
}

bool Parser::is_byte_level() const { return keys_.tokenizer_model && *keys_.tokenizer_model == "gpt2"; }

PreTokenizer Parser::pre_tokenizer() const {
  const bool is_known = is_byte_level() && keys_.pre_tokenizer && !keys_.pre_tokenizer->cut;
  return is_known ? FindPreTokenizer(keys_.pre_tokenizer->view()) : PreTokenizer::kNone;
}

// What SentencePiece's have no counterpart of.
Result<void> Parser::CheckByteLevel() const {
  if (!keys_.pre_tokenizer) return FailKey(Code::kNotFound, "metadata key {name} is missing", kPreTokenizer);
  if (pre_tokenizer() == PreTokenizer::kNone) {
    return FailKey(Code::kUnsupported,
                   "the tokenizer divides texts into words as {name} does, which is not supported; "
                   "docs/tokenizer.md has the ways that are",
                   keys_.pre_tokenizer->view());
  }
  if (!merges_.present) return FailKey(Code::kNotFound, "metadata key {name} is missing", kMerges);
  if (merges_.count > kMaxMerges) {
    return FailKey(Code::kUnsupported, "{name} has {have} merges, more than the {need} that are supported", kMerges,
                   merges_.count, kMaxMerges);
  }
  return {};
}

Result<void> Parser::CheckTokenizer() const {
  if (*keys_.tokenizer_model != "llama" && !is_byte_level() && !is_unigram()) {
    return FailKey(
        Code::kUnsupported,
        "the model's tokenizer is of type {name}; only SentencePiece's BPE (type llama) and Unigram (type t5) "
        "and byte-level BPE (type gpt2) are supported",
        keys_.tokenizer_model->view());
  }
  if (is_byte_level()) {
    THIMBLE_TRY(CheckByteLevel());
  }
  for (const auto& [key, array] :
       {std::pair(kTokens, &tokens_), std::pair(kScores, &scores_), std::pair(kTokenTypes, &token_types_)}) {
    if (is_byte_level() && key == kScores) continue;
    if (!array->present && key != kTokens) continue;
    if (!array->present) return FailKey(Code::kNotFound, "metadata key {name} is missing", key);
    if (array->count != shape_.vocab_size) {
      return FailKey(Code::kCorrupt, "{name} has {have} elements, but the vocabulary has {need} tokens", key,
                     array->count, shape_.vocab_size);
    }
  }
  if (charsmap_.count > kMaxCharsmapBytes) {
    return FailKey(Code::kUnsupported, "{name} has {have} bytes, more than the {need} that are supported", kCharsmap,
                   charsmap_.count, kMaxCharsmapBytes);
  }
  return {};
}

void Parser::MakeTokenizer() {
  const uint64_t vocab_size = shape_.vocab_size;
  // The ids that a SentencePiece model has unless it says otherwise, T5's or Llama's; byte-level BPE has none then.
  struct Special {
    std::string_view key;
    std::optional<uint64_t> value;
    TokenId usual;
    TokenId TokenizerRef::* field;
  };
  const bool is_t5 = is_unigram();
  const Special specials[] = {{kBos, keys_.bos, is_t5 ? kNoToken : 1, &TokenizerRef::bos},
                              {kEos, keys_.eos, is_t5 ? TokenId{1} : 2, &TokenizerRef::eos},
                              {kUnk, keys_.unk, is_t5 ? TokenId{2} : 0, &TokenizerRef::unk}};
  const auto is_id = [&](const Special& special) { return special.value && *special.value < vocab_size; };
  for (const Special& special : specials) {
    if (!special.value || *special.value == kNoToken || is_id(special)) continue;
    NoteTokenizer(FailKey(Code::kCorrupt, "{name} is {have}, but the vocabulary has {need} tokens", special.key,
                          *special.value, vocab_size)
                      .error());
  }
  if (has_tokenizer_) {
    if (const Result<void> checked = CheckTokenizer(); !checked) NoteTokenizer(checked.error());
  }

  const TokenizerRef found = std::exchange(tokenizer_, {});
  if (has_tokenizer_ && !tokenizer_fault_) {
    tokenizer_ = {.present = true,
                  .num_tokens = static_cast<uint32_t>(vocab_size),
                  .tokens_offset = tokens_.offset,
                  .tokens_bytes = found.tokens_bytes,
                  .longest_token_bytes = found.longest_token_bytes,
                  .scores_offset = scores_.offset,
                  .types_offset = token_types_.offset,
                  .add_bos = keys_.add_bos.value_or(!is_t5),
                  .add_space_prefix = keys_.add_space_prefix.value_or(!is_t5),
                  .add_eos = keys_.add_eos.value_or(false),
                  .is_unigram = is_t5,
                  .remove_extra_whitespaces = keys_.remove_extra_whitespaces.value_or(false),
                  .escape_whitespaces = keys_.escape_whitespaces.value_or(true),
                  .fuse_unknown = keys_.fuse_unknown.value_or(true),
                  .charsmap_offset = charsmap_.offset,
                  .charsmap_bytes = static_cast<uint32_t>(charsmap_.count)};
    if (is_byte_level()) {
      tokenizer_.layout = TokenizerLayout::kByteLevel;
      tokenizer_.scores_offset = 0;
      tokenizer_.merges_offset = merges_.offset;
      tokenizer_.num_merges = static_cast<uint32_t>(merges_.count);
      tokenizer_.pre = pre_tokenizer();
      // llama.cpp's default.
      tokenizer_.add_bos = keys_.add_bos.value_or(tokenizer_.pre == PreTokenizer::kLlamaBpe);
      tokenizer_.add_space_prefix = tokenizer_.remove_extra_whitespaces = false;
      tokenizer_.escape_whitespaces = tokenizer_.fuse_unknown = true;
      tokenizer_.charsmap_offset = tokenizer_.charsmap_bytes = 0;
    }
  }
  if (tokenizer_.present) tokenizer_.chat_template = chat_template_;
  for (const Special& special : specials) {
    if (is_id(special)) {
      tokenizer_.*special.field = static_cast<TokenId>(*special.value);
    } else if (!special.value && tokenizer_.present && !tokenizer_.is_byte_level() && special.usual < vocab_size) {
      tokenizer_.*special.field = special.usual;
    }
  }
  const auto add_end = [&](uint64_t id) {
    const bool is_other = id != tokenizer_.eos && id != tokenizer_.bos;
    if (id < vocab_size && is_other) tokenizer_.ends.Add(static_cast<TokenId>(id));
  };
  for (const std::optional<uint64_t>& id : {keys_.eot, keys_.eom}) add_end(id.value_or(kNoToken));
  for (const TokenId id : ends_.ids()) add_end(id);
}

// Of tokens with the name of an end those that are control tokens, which a text cannot spell.
Result<void> Parser::FindNamedEnds() {
  if (!tokenizer_.present || tokenizer_.types_offset == 0) return {};
  const uint64_t offset = reader_.offset_bytes();
  for (const TokenId id : named_ends_.ids()) {
    if (tokenizer_.EndsText(id)) continue;
    THIMBLE_TRY(reader_.Seek(tokenizer_.types_offset + uint64_t{id} * sizeof(int32_t)));
    THIMBLE_ASSIGN(const int32_t type, reader_.ReadLittleEndian<int32_t>());
    if (type == kControlType) tokenizer_.ends.Add(id);
  }
  return reader_.Seek(offset);
}

// The tensor of the architecture that has this name; kNone if there is no such tensor.
TensorId Parser::FindTensor(std::string_view name) const {
  uint64_t layer = 0;
  if (name.starts_with("blk.")) {
    const std::string_view digits = name.substr(4, name.find('.', 4) - 4);
    if (digits.empty() || digits.size() > 5) return {};
    for (char c : digits) {
      if (c < '0' || c > '9') return {};
      layer = layer * 10 + static_cast<uint64_t>(c - '0');
    }
    if (layer >= kMaxLayers) return {};
  }
  const auto is_named = [&](TensorId id) {
    char expected[48];
    return name == std::string_view(expected, FormatTensorName(id, expected));
  };
  const uint32_t first = layer == 0 ? 0 : kTensorsOutsideLayers;
  for (uint32_t i = first; i < kTensorsOutsideLayers + TensorsPerLayer(shape_.architecture); ++i) {
    const TensorId id = {TensorIdAt(i, shape_).kind, static_cast<uint16_t>(layer)};
    if (is_named(id)) return id;
  }
  constexpr TensorId kFactors = {TensorKind::kRopeFactors, 0};
  return shape_.has_rope_factors && is_named(kFactors) ? kFactors : TensorId{};
}

Result<void> Parser::ReadTensor(std::span<TensorRef> tensors) {
  THIMBLE_ASSIGN(const Text name, ReadText());
  const TensorId id = name.cut ? TensorId{} : FindTensor(name.view());
  if (id.kind == TensorKind::kNone) {
    const std::string_view text = name.view();
    const char* what = "tensor {name} is not part of a plain model of this architecture, so the model cannot be run";
    if (text.find("rope_f") != text.npos) {
      what = "the model scales its rotary positions (tensor {name}) in a way that is not supported";
    } else if (text.ends_with(".bias")) {
      what = "the model has a bias (tensor {name}) that is not part of this architecture, so it cannot be run";
    }
    return FailKey(Code::kUnsupported, what, text);
  }
  if (id.layer >= shape_.num_hidden_layers) {
    return Fail({.code = Code::kCorrupt,
                 .what = "tensor {tensor} belongs to a layer beyond the {have} layers of block_count",
                 .tensor = id,
                 .have = shape_.num_hidden_layers});
  }
  TensorRef& tensor = tensors[TensorIndex(id, shape_)];
  if (tensor.id.kind != TensorKind::kNone) {
    return Fail({.code = Code::kCorrupt, .what = "tensor {tensor} is there twice", .tensor = id});
  }

  THIMBLE_ASSIGN(const uint32_t num_dimensions, reader_.ReadLittleEndian<uint32_t>());
  if (num_dimensions == 0 || num_dimensions > kMaxDimensions) {
    return Fail({.code = Code::kCorrupt,
                 .what = "tensor {tensor} has {have} dimensions; it must have 1 to {need}",
                 .tensor = id,
                 .have = num_dimensions,
                 .need = kMaxDimensions});
  }
  std::array<uint64_t, kMaxDimensions> dimensions = {1, 1, 1, 1};  // the fastest first: columns, rows
  for (uint32_t i = 0; i < num_dimensions; ++i) {
    THIMBLE_ASSIGN(dimensions[i], reader_.ReadLittleEndian<uint64_t>());
  }
  const TensorDims dims = DimsOf(id.kind, shape_);
  const std::array<uint64_t, kMaxDimensions> expected = {dims.cols, dims.rows, 1, 1};
  for (uint32_t i = 0; i < kMaxDimensions; ++i) {
    if (dimensions[i] == expected[i]) continue;
    return Fail({.code = Code::kCorrupt,
                 .what = i == 0   ? "tensor {tensor} has {have} columns; the metadata asks for {need}"
                         : i == 1 ? "tensor {tensor} has {have} rows; the metadata asks for {need}"
                                  : "tensor {tensor} has more than two dimensions",
                 .tensor = id,
                 .have = dimensions[i],
                 .need = expected[i]});
  }
  THIMBLE_ASSIGN(const uint32_t type, reader_.ReadLittleEndian<uint32_t>());
  const std::optional<DType> stored = TypeOfGgml(type);
  if (!stored) {
    return Fail(
        Error{.code = Code::kUnsupported,
              .what = "tensor {tensor} is stored as {name}, which is none of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, "
                      "Q5_1, Q4_K, Q5_K, Q6_K and IQ4_NL; convert the original model, or take its file in one of these",
              .tensor = id,
              .have = type}
            .Named(GgmlTypeName(type)));
  }
  if (dims.cols % BlockElements(*stored) != 0) {
    return Fail({.code = Code::kCorrupt,
                 .what = "tensor {tensor} is stored in blocks of {need}, and its rows of {have} are no whole blocks",
                 .tensor = id,
                 .have = dims.cols,
                 .need = BlockElements(*stored)});
  }
  THIMBLE_ASSIGN(const uint64_t offset, reader_.ReadLittleEndian<uint64_t>());
  if (offset % alignment_ != 0) {
    return Fail({.code = Code::kCorrupt,
                 .what = "tensor {tensor} starts at byte {offset} of the tensor data, which is not a multiple of the "
                         "file's alignment of {need}",
                 .tensor = id,
                 .offset = offset,
                 .need = alignment_});
  }
  const bool rotated = id.kind == TensorKind::kAttnQ || id.kind == TensorKind::kAttnK;
  tensor = {.offset = offset,
            .rows = dims.rows,
            .cols = dims.cols,
            .id = id,
            .type = *stored,
            .order = rotated ? GgufRowOrder(shape_.architecture) : RowOrder::kHalfSplit};
  return {};
}

}  // namespace

std::optional<DType> TypeOfGgml(uint32_t ggml_type) {
  for (size_t i = 0; i < kNumDTypes; ++i) {
    if (kGgmlTypes[i] == ggml_type) return static_cast<DType>(i);
  }
  return std::nullopt;
}

Result<TokenizerRef> OpenGgufVocabulary(storage::ByteReader& reader) { return Parser(reader).ParseVocabulary(); }

Result<ModelFile> OpenGguf(storage::ByteReader& reader, Arena& arena) {
  const uint64_t mark = arena.used_bytes();
  Result<ModelFile> model = Parser(reader).Parse(arena);
  if (!model) arena.Release(mark);
  return model;
}

}  // namespace thimble::formats
