#include "host/formats/hf_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "host/formats/hf_config.h"
#include "host/formats/safetensors.h"
#include "host/formats/tokenizer_file.h"
#include "host/formats/weights.h"
#include "host/support/foreign_file.h"
#include "host/support/input_file.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMaxJsonBytes = 16 << 20;
constexpr char kEmbedding[] = "model.embed_tokens.weight";
constexpr char kHead[] = "lm_head.weight";

std::string HfName(TensorId id) {
  const auto in_layer = [&](std::string_view rest, std::string_view what = "weight") {
    return fmt::format("model.layers.{}.{}.{}", id.layer, rest, what);
  };
  switch (id.kind) {
    case TensorKind::kNone:
      return "";
    case TensorKind::kTokenEmbd:
      return kEmbedding;
    case TensorKind::kAttnNorm:
      return in_layer("input_layernorm");
    case TensorKind::kAttnQ:
      return in_layer("self_attn.q_proj");
    case TensorKind::kAttnK:
      return in_layer("self_attn.k_proj");
    case TensorKind::kAttnV:
      return in_layer("self_attn.v_proj");
    case TensorKind::kAttnO:
      return in_layer("self_attn.o_proj");
    case TensorKind::kFfnNorm:
      return in_layer("post_attention_layernorm");
    case TensorKind::kFfnGate:
      return in_layer("mlp.gate_proj");
    case TensorKind::kFfnUp:
      return in_layer("mlp.up_proj");
    case TensorKind::kFfnDown:
      return in_layer("mlp.down_proj");
    case TensorKind::kFinalNorm:
      return "model.norm.weight";
    case TensorKind::kLmHead:
      return kHead;
    case TensorKind::kAttnQBias:
      return in_layer("self_attn.q_proj", "bias");
    case TensorKind::kAttnKBias:
      return in_layer("self_attn.k_proj", "bias");
    case TensorKind::kAttnVBias:
      return in_layer("self_attn.v_proj", "bias");
    case TensorKind::kAttnQNorm:
      return in_layer("self_attn.q_norm");
    case TensorKind::kAttnKNorm:
      return in_layer("self_attn.k_norm");
    case TensorKind::kRopeFactors:  // follow from config.json
      return "";
  }
  return "";
}

// The dtypes that are read.
std::optional<DType> TypeNamed(std::string_view dtype) {
  for (DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (dtype == DTypeName(type)) return type;
  }
  return std::nullopt;
}

class HfWeights : public WeightSource {
 public:
  HfWeights(Safetensors files, const HfConfig& config)
      : files_(std::move(files)), shape_(config.shape), rope_factors_(config.rope_factors) {}

  const Safetensors& files() const { return files_; }

  // The token embedding is read from `name`.
  void SetEmbedding(std::string name) { embedding_ = std::move(name); }

  DType StoredType(TensorId id) const override { return *TypeNamed(TensorOf(NameOf(id)).entry.dtype); }

  Status ReadRows(TensorId id, uint32_t first_row, std::span<float> out) override {
    if (id.kind == TensorKind::kRopeFactors) {
      std::ranges::copy(rope_factors_, out.begin());
      return {};
    }
    const std::string name = NameOf(id);
    const uint32_t cols = DimsOf(id.kind, shape_).cols;
    const bool rotated = id.kind == TensorKind::kAttnQ || id.kind == TensorKind::kAttnK;
    if (!rotated || GgufRowOrder(shape_.architecture) == RowOrder::kHalfSplit) {
      return ReadElements(name, uint64_t{first_row} * cols, out);
    }
    for (uint32_t row = first_row; !out.empty(); ++row, out = out.subspan(cols)) {
      THIMBLE_TRY(ReadElements(name, uint64_t{HalfSplitRow(row, shape_.head_dim)} * cols, out.first(cols)));
    }
    return {};
  }

  // Whether the two tensors, which have the same shape, hold the same numbers.
  Expected<bool> Equal(const std::string& a, const std::string& b) {
    const uint64_t elements = uint64_t{shape_.vocab_size} * shape_.hidden_size;
    std::vector<float> of_a(size_t{1} << 16);
    std::vector<float> of_b(of_a.size());
    for (uint64_t first = 0; first < elements; first += of_a.size()) {
      const auto n = static_cast<size_t>(std::min<uint64_t>(of_a.size(), elements - first));
      THIMBLE_TRY(ReadElements(a, first, std::span(of_a).first(n)));
      THIMBLE_TRY(ReadElements(b, first, std::span(of_b).first(n)));
      if (!std::equal(of_a.begin(), of_a.begin() + static_cast<ptrdiff_t>(n), of_b.begin())) return false;
    }
    return true;
  }

 private:
  std::string NameOf(TensorId id) const { return id.kind == TensorKind::kTokenEmbd ? embedding_ : HfName(id); }
  const Safetensors::Tensor& TensorOf(const std::string& name) const { return files_.tensors().find(name)->second; }

  Status ReadElements(const std::string& name, uint64_t first, std::span<float> out) {
    const Safetensors::Tensor& tensor = TensorOf(name);
    const InputFile& file = files_.files()[tensor.file];
    const DType type = *TypeNamed(tensor.entry.dtype);
    const uint64_t offset = tensor.entry.offset + first * BlockBytes(type);
    if (type == DType::kF32) {
      THIMBLE_TRY(file.ReadAt(offset, std::as_writable_bytes(out)));
    } else {
      halves_.resize(out.size());
      THIMBLE_TRY(file.ReadAt(offset, std::as_writable_bytes(std::span(halves_))));
      std::ranges::transform(halves_, out.begin(), type == DType::kF16 ? FromF16 : FromBf16);
    }
    return CheckFinite(out, file.path(), name, first);
  }

  Safetensors files_;
  ModelShape shape_;
  std::vector<float> rope_factors_;
  std::string embedding_ = kEmbedding;
  std::vector<uint16_t> halves_;
};

bool IsInvFreq(const std::string& name) {
  return name.starts_with("model.layers.") && name.ends_with(".self_attn.rotary_emb.inv_freq");
}

Expected<Safetensors> OpenWeights(const std::string& folder) {
  const std::string path = folder + "/model.safetensors";
  if (Exists(path)) return Safetensors::Open(path);
  if (const std::string index = path + ".index.json"; Exists(index)) return Safetensors::OpenSharded(index, IsInvFreq);
  if (Exists(folder + "/pytorch_model.bin") || Exists(folder + "/pytorch_model.bin.index.json")) {
    return Sentence(fmt::format("{}/pytorch_model.bin is not read; save the model as safetensors", folder));
  }
  return Sentence(fmt::format("{} has no model.safetensors", folder));
}

std::string ShapeText(const std::vector<uint64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

// Checks one tensor's shape and dtype. A missing one is `required` or not.
Expected<bool> CheckTensor(const Safetensors& files, TensorId id, const ModelShape& shape, bool required) {
  const std::string name = HfName(id);
  const auto it = files.tensors().find(name);
  if (it == files.tensors().end()) {
    if (!required) return false;
    return Sentence(fmt::format("{} has no tensor {}, which config.json calls for", files.path(), name));
  }
  const SafetensorsEntry& entry = it->second.entry;
  const std::string& path = files.files()[it->second.file].path();
  const TensorDims dims = DimsOf(id.kind, shape);
  std::vector<uint64_t> wanted = {dims.rows, dims.cols};
  if (IsVector(id.kind)) wanted.erase(wanted.begin());
  if (entry.shape != wanted) {
    return Sentence(fmt::format("{}: tensor {} has the shape {}, but config.json makes it {}", path, name,
                                ShapeText(entry.shape), ShapeText(wanted)));
  }
  if (!TypeNamed(entry.dtype)) {
    return Sentence(fmt::format("{}: tensor {} is stored as {}; F32, F16 and BF16 are read", path, name, entry.dtype));
  }
  return true;
}

// Checks all tensors and settles what the head is.
Status ResolveTensors(HfWeights& weights, const HfConfig& config, Checkpoint& checkpoint) {
  const ModelShape& shape = config.shape;
  const Safetensors& files = weights.files();
  std::set<std::string> known;
  for (uint32_t i = 0; i < TensorCount(shape); ++i) {
    const TensorId id = TensorIdAt(i, shape);
    if (id.kind == TensorKind::kRopeFactors) continue;
    known.insert(HfName(id));
    if (id.kind == TensorKind::kTokenEmbd || id.kind == TensorKind::kLmHead) continue;
    THIMBLE_TRY(CheckTensor(files, id, shape, true));
  }
  for (const auto& [name, tensor] : files.tensors()) {
    if (known.contains(name) || IsInvFreq(name)) continue;
    return Sentence(fmt::format("{}: tensor {} has no place in a {} model of {} layers",
                                files.files()[tensor.file].path(), Quote(name), ArchitectureName(shape.architecture),
                                shape.num_hidden_layers));
  }

  THIMBLE_ASSIGN(const bool has_head, CheckTensor(files, {TensorKind::kLmHead, 0}, shape, false));
  THIMBLE_ASSIGN(const bool has_embedding, CheckTensor(files, {TensorKind::kTokenEmbd, 0}, shape, !has_head));
  if (!has_head || !has_embedding) {
    if (!has_embedding) weights.SetEmbedding(kHead);
    if (!config.tie_word_embeddings) {
      checkpoint.notes.push_back(
          fmt::format("{} has no {}; {} serves as both, although config.json does not say "
                      "tie_word_embeddings",
                      files.path(), has_head ? kEmbedding : kHead, has_head ? kHead : kEmbedding));
    }
    checkpoint.tied = true;
  } else if (config.tie_word_embeddings) {
    THIMBLE_ASSIGN(checkpoint.tied, weights.Equal(kEmbedding, kHead));
    if (!checkpoint.tied) {
      checkpoint.notes.push_back(
          fmt::format("config.json says tie_word_embeddings, but {} and {} differ; both are "
                      "used, as transformers does",
                      kEmbedding, kHead));
    }
  }
  return {};
}

// The id of the token spelt `name`.
std::optional<TokenId> FindToken(const Vocabulary& vocabulary, const std::string& name) {
  const auto it = std::ranges::find(vocabulary.tokens, name);
  if (it == vocabulary.tokens.end()) return std::nullopt;
  return static_cast<TokenId>(it - vocabulary.tokens.begin());
}

std::string WithSpaces(std::string_view text) {
  constexpr std::string_view kEscapedSpace = "\u2581";
  std::string out;
  while (!text.empty()) {
    const bool is_space = text.starts_with(kEscapedSpace);
    out += is_space ? ' ' : text.front();
    text.remove_prefix(is_space ? kEscapedSpace.size() : 1);
  }
  return out;
}

Status AddTokens(const std::map<TokenId, HfAddedToken>& added, uint32_t vocab_size, const std::string& folder,
                 Vocabulary& vocabulary) {
  constexpr float kAddedScore = -1000;
  for (const auto& [id, token] : added) {
    const TokenType type = token.special ? TokenType::kControl : TokenType::kUserDefined;
    if (id < vocabulary.tokens.size()) {
      if (WithSpaces(vocabulary.tokens[id]) != WithSpaces(token.content)) {
        return Sentence(fmt::format("{}: added token {} is \"{}\", but the tokenizer has \"{}\"", folder, id,
                                    Quote(token.content), Quote(vocabulary.tokens[id])));
      }
      if (vocabulary.types[id] == TokenType::kNormal) vocabulary.types[id] = type;
    } else if (id >= vocab_size) {
      return Sentence(
          fmt::format("{}: added token {} is beyond the vocab_size {} of config.json", folder, id, vocab_size));
    } else {
      while (vocabulary.tokens.size() < id) {
        vocabulary.Add(fmt::format("[PAD{}]", vocabulary.tokens.size()), -10000, TokenType::kUnused);
      }
      const bool is_as_it_is = token.special || vocabulary.is_byte_level();
      vocabulary.Add(is_as_it_is ? token.content : WithSpaces(token.content), kAddedScore, type);
    }
  }
  return {};
}

// The files that tell of a tokenizer.
struct TokenizerFiles {
  struct File {
    std::string path;
    std::string text = {};
    bool is_there = false;
  };
  File tokenizer, config, added_tokens, chat_template, generation;

  std::string fault;  // why the tokenizer's file cannot be a tokenizer, a sentence; or empty

  // That they cannot be read is a failure, and that what should be the tokenizer has yet to be fetched.
  static Expected<TokenizerFiles> Read(const std::string& path, const std::string& folder) {
    TokenizerFiles files = {.tokenizer = {path},
                            .config = {folder + "/tokenizer_config.json"},
                            .added_tokens = {folder + "/added_tokens.json"},
                            .chat_template = {folder + "/chat_template.jinja"},
                            .generation = {folder + "/generation_config.json"},
                            .fault = {}};
    THIMBLE_ASSIGN(TokenizerBytes given, ReadTokenizerBytes(path));
    files.tokenizer.text = std::move(given.bytes);
    files.fault = std::move(given.fault);
    for (File* file : {&files.config, &files.added_tokens, &files.chat_template, &files.generation}) {
      file->is_there = Exists(file->path);
      if (!file->is_there) continue;
      THIMBLE_ASSIGN(file->text, ReadWholeFile(file->path, kMaxJsonBytes));
    }
    return files;
  }
};

// What config.json, tokenizer_config.json and tokenizer.model say about bos, eos and unk, in that order of weight for
// eos and unk (generation stops where the model's configuration says); for bos the tokenizer goes first, because it is
// the tokenizer that puts bos before a prompt.
Status SettleSpecialTokens(const HfConfig& config, const HfTokenizerConfig& tokenizer, const std::string& folder,
                           Checkpoint& checkpoint) {
  Vocabulary& vocabulary = checkpoint.vocabulary;
  const auto named = [&](const std::optional<std::string>& name, const char* key) -> Expected<std::optional<TokenId>> {
    if (!name) return std::nullopt;
    const std::optional<TokenId> id = FindToken(vocabulary, *name);
    if (!id) {
      return Sentence(
          fmt::format("{}/tokenizer_config.json: {} is \"{}\", which is no token", folder, key, Quote(*name)));
    }
    return id;
  };
  THIMBLE_ASSIGN(const std::optional<TokenId> bos, named(tokenizer.bos_token, "bos_token"));
  THIMBLE_ASSIGN(const std::optional<TokenId> eos, named(tokenizer.eos_token, "eos_token"));
  THIMBLE_ASSIGN(const std::optional<TokenId> unk, named(tokenizer.unk_token, "unk_token"));
  if (unk) vocabulary.unk = unk;
  if (bos) vocabulary.bos = bos;
  if (!vocabulary.bos) vocabulary.bos = config.bos;
  if (config.bos && vocabulary.bos != config.bos) {
    checkpoint.notes.push_back(
        fmt::format("config.json has the bos_token_id {}, the tokenizer {}; the tokenizer's is used", *config.bos,
                    *vocabulary.bos));
  }
  if (eos) vocabulary.eos = eos;
  if (config.eos && vocabulary.eos && vocabulary.eos != config.eos) {
    checkpoint.notes.push_back(fmt::format(
        "config.json has the eos_token_id {}, the tokenizer {}; config.json's is used", *config.eos, *vocabulary.eos));
  }
  if (config.eos) vocabulary.eos = config.eos;
  return {};
}

// What a conversation wants beside the vocabulary: ends of turns, and the template. Without them a text is a text all
// the same, so that nothing here keeps a model from being read.
void SettleConversation(const TokenizerFiles& files, const HfTokenizerConfig& tokenizer, const HfConfig& config,
                        Checkpoint& checkpoint) {
  Vocabulary& vocabulary = checkpoint.vocabulary;
  for (const TokenId id : config.other_eos) vocabulary.AddEnd(id);
  if (files.generation.is_there) {
    const auto ends = ParseHfGenerationEnds(files.generation.text, config.shape.vocab_size, files.generation.path);
    for (const TokenId id : ends.value_or(std::vector<TokenId>())) vocabulary.AddEnd(id);
    if (!ends) checkpoint.notes.push_back(fmt::format("{}; what ends a text is taken from elsewhere", ends.error()));
  }
  vocabulary.AddNamedEnds();
  vocabulary.chat_template = files.chat_template.is_there ? files.chat_template.text : tokenizer.chat_template;
  if (vocabulary.chat_template.size() <= kMaxKeptTemplateBytes) return;
  checkpoint.notes.push_back(
      fmt::format("the chat template has {} bytes, more than the {} that are kept: it is left out",
                  vocabulary.chat_template.size(), kMaxKeptTemplateBytes));
  vocabulary.chat_template.clear();
}

Status MakeVocabulary(const TokenizerFiles& files, const std::string& folder, const HfConfig& config,
                      Checkpoint& checkpoint) {
  if (!files.fault.empty()) return Sentence(files.fault);
  Vocabulary& vocabulary = checkpoint.vocabulary;
  const uint32_t vocab_size = config.shape.vocab_size;
  THIMBLE_ASSIGN(vocabulary,
                 ParseTokenizerFile(files.tokenizer.text, files.tokenizer.path, vocab_size, checkpoint.notes));
  for (const TokenizerFiles::File* file : {&files.config, &files.added_tokens}) {
    if (file->is_there && file->text.empty()) return Sentence(fmt::format("{} is empty", file->path));
  }
  THIMBLE_ASSIGN(const HfTokenizerConfig flags,
                 ParseHfTokenizerConfig(files.config.text, files.added_tokens.text, folder));
  THIMBLE_TRY(AddTokens(flags.added_tokens, vocab_size, folder, vocabulary));
  if (vocabulary.tokens.size() < vocab_size) {
    checkpoint.notes.push_back(
        fmt::format("the tokenizer has {} tokens, config.json the vocab_size {}; the rest are "
                    "filled up as unused",
                    vocabulary.tokens.size(), vocab_size));
  }
  while (vocabulary.tokens.size() < vocab_size) {
    vocabulary.Add(fmt::format("[PAD{}]", vocabulary.tokens.size()), -10000, TokenType::kUnused);
  }
  THIMBLE_TRY(SettleSpecialTokens(config, flags, folder, checkpoint));
  vocabulary.add_bos = flags.add_bos_token.value_or(vocabulary.add_bos);
  if (vocabulary.is_byte_level()) {
    if (flags.add_prefix_space.value_or(false)) {
      checkpoint.notes.push_back("tokenizer_config.json asks for add_prefix_space; no space is put before a prompt");
    }
  } else if (flags.add_prefix_space && *flags.add_prefix_space != vocabulary.add_space_prefix) {
    checkpoint.notes.push_back(
        fmt::format("tokenizer_config.json has add_prefix_space {}, the tokenizer {}; the first is used",
                    *flags.add_prefix_space, vocabulary.add_space_prefix));
    vocabulary.add_space_prefix = *flags.add_prefix_space;
  }
  if (flags.add_eos_token.value_or(false)) {
    checkpoint.notes.push_back("tokenizer_config.json asks for add_eos_token; no end is put behind a prompt");
  }
  SettleConversation(files, flags, config, checkpoint);
  return {};
}

// From the file that the user names, which must be good, or from the folder's own.
Status ReadVocabulary(const std::string& folder, const std::string& tokenizer, const HfConfig& config,
                      Checkpoint& checkpoint) {
  std::string path = tokenizer.empty() ? folder + "/tokenizer.model" : tokenizer;
  if (tokenizer.empty() && !Exists(path)) path = folder + "/tokenizer.json";
  if (tokenizer.empty() && !Exists(path)) {
    checkpoint.notes.push_back(fmt::format("{} has no tokenizer; the model runs with token ids only", folder));
  } else {
    const size_t notes = checkpoint.notes.size();
    THIMBLE_ASSIGN(const TokenizerFiles files, TokenizerFiles::Read(path, folder));
    const Status made = MakeVocabulary(files, folder, config, checkpoint);
    if (made || !tokenizer.empty()) return made;
    checkpoint.no_texts = made.error();
    checkpoint.notes.resize(notes);
    checkpoint.notes.push_back(IdsOnlyNote(made.error()));
  }
  checkpoint.vocabulary = {};
  checkpoint.vocabulary.bos = config.bos;
  checkpoint.vocabulary.eos = config.eos;
  for (const TokenId id : config.other_eos) checkpoint.vocabulary.AddEnd(id);
  return {};
}

}  // namespace

Expected<Checkpoint> OpenHfFolder(const std::string& path, const std::string& tokenizer) {
  const std::string folder = WithoutLastSeparators(path);
  const std::string config_path = folder + "/config.json";
  if (!Exists(config_path)) {
    return Sentence(fmt::format("{} is no Hugging Face folder: it has no config.json", folder));
  }
  THIMBLE_ASSIGN(const std::string config_text, ReadWholeFile(config_path, kMaxJsonBytes));
  THIMBLE_TRY(RefuseForeign(config_text, config_path));
  THIMBLE_ASSIGN(HfConfig config, ParseHfConfig(config_text, config_path));
  THIMBLE_ASSIGN(Safetensors files, OpenWeights(folder));

  Checkpoint checkpoint;
  checkpoint.name = NameOf(Absolute(folder));
  checkpoint.shape = config.shape;
  checkpoint.notes = std::move(config.notes);
  for (const char* name : {"config.json", "tokenizer.model", "tokenizer.json", "tokenizer_config.json",
                           "added_tokens.json", "chat_template.jinja", "generation_config.json"}) {
    checkpoint.inputs.push_back(folder + "/" + name);
  }
  checkpoint.inputs.push_back(files.path());
  for (const InputFile& file : files.files()) checkpoint.inputs.push_back(file.path());
  auto weights = std::make_unique<HfWeights>(std::move(files), config);
  THIMBLE_TRY(ResolveTensors(*weights, config, checkpoint));
  THIMBLE_TRY(ReadVocabulary(folder, tokenizer, config, checkpoint));
  checkpoint.weights = std::move(weights);
  return checkpoint;
}

}  // namespace thimble::host
