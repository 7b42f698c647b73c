// GGUF files: the reader refuses them with a sentence or gives a model whose every number holds, whose tensors and
// tokenizer lie in the file.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/base/arena.h"
#include "engine/formats/gguf.h"
#include "host/devices/ram_device.h"
#include "tests/support/gguf_builder.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace thimble {
namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

void RequireSentence(const Error& error) {
  std::array<char, 300> text;
  Require(FormatError(error, text) != 0);
  // Nothing a file holds may make the engine ask its device for what it does not have.
  Require(error.code != Code::kInvalidArgument && error.code != Code::kIo);
}

void CheckModel(const formats::ModelFile& model, uint64_t file_bytes) {
  const ModelShape& shape = model.shape;
  Require(shape.vocab_size != 0 && shape.hidden_size != 0 && shape.intermediate_size != 0);
  Require(shape.num_hidden_layers != 0 && shape.max_position_embeddings != 0);
  Require(shape.num_key_value_heads != 0 && shape.num_attention_heads % shape.num_key_value_heads == 0);
  Require(shape.head_dim != 0 && shape.head_dim % 2 == 0);
  Require(uint64_t{shape.head_dim} * shape.num_attention_heads == shape.q_dim());
  Require(shape.rms_norm_eps > 0 && shape.rms_norm_eps <= std::numeric_limits<float>::max());
  Require(shape.rope_linear_factor >= 1 && shape.rope_linear_factor <= static_cast<float>(formats::kMaxRopeFactor));
  Require(shape.architecture == Architecture::kLlama || !shape.has_rope_factors);
  Require(shape.rope_theta > 0 && shape.rope_theta <= std::numeric_limits<float>::max());
  Require(model.tensors.size() == TensorCount(shape));
  for (uint32_t i = 0; i < model.tensors.size(); ++i) {
    const TensorRef& tensor = model.tensors[i];
    const TensorDims dims = DimsOf(tensor.id.kind, shape);
    Require(tensor.id == TensorIdAt(i, shape) && tensor.rows == dims.rows && tensor.cols == dims.cols);
    Require(tensor.cols % BlockElements(tensor.type) == 0);
    Require(tensor.offset % 4 == 0 && tensor.offset <= file_bytes && tensor.size_bytes() <= file_bytes - tensor.offset);
  }
}

// The three arrays lie in the file, and the tokens are as long as is said. What they hold is fuzz_tokenizer's business.
void CheckTokenizer(const formats::TokenizerRef& tokenizer, uint32_t vocab_size, storage::ByteReader& bytes,
                    uint64_t file_bytes) {
  Require(tokenizer.num_tokens == vocab_size);
  for (const TokenId id : {tokenizer.bos, tokenizer.eos, tokenizer.unk}) {
    Require(id == kNoToken || id < vocab_size);
  }
  for (const TokenId id : tokenizer.ends.ids()) {
    Require(id < vocab_size && id != tokenizer.eos && id != tokenizer.bos && tokenizer.EndsText(id));
  }
  Require(tokenizer.chat_template.offset <= file_bytes &&
          tokenizer.chat_template.bytes <= file_bytes - tokenizer.chat_template.offset);
  for (const uint64_t offset : {tokenizer.scores_offset, tokenizer.types_offset}) {
    if (offset == 0) continue;  // there are none
    Require(offset <= file_bytes && uint64_t{vocab_size} * 4 <= file_bytes - offset);
  }
  Require(tokenizer.charsmap_offset <= file_bytes &&
          tokenizer.charsmap_bytes <= file_bytes - tokenizer.charsmap_offset);
  Require(tokenizer.is_byte_level() == (tokenizer.pre != formats::PreTokenizer::kNone));
  if (tokenizer.is_byte_level()) Require(bytes.Seek(tokenizer.merges_offset).has_value());
  for (uint32_t i = 0; i < tokenizer.num_merges; ++i) {
    const Result<uint64_t> size = bytes.ReadLittleEndian<uint64_t>();
    Require(size.has_value() && bytes.Skip(*size).has_value());
  }
  Require(bytes.Seek(tokenizer.tokens_offset).has_value());
  uint64_t sum = 0;
  uint64_t longest = 0;
  for (uint32_t i = 0; i < vocab_size; ++i) {
    const Result<uint64_t> size = bytes.ReadLittleEndian<uint64_t>();
    Require(size.has_value() && bytes.Skip(*size).has_value());
    sum += *size;
    longest = std::max(longest, *size);
  }
  Require(sum == tokenizer.tokens_bytes && longest == tokenizer.longest_token_bytes);
}

void OpenAndUse(std::span<const std::byte> file) {
  alignas(kArenaAlign) static std::array<std::byte, 1 << 18> memory;
  alignas(64) std::array<std::byte, 1024> buffer;
  host::RamDevice device(file);
  const storage::Extent extent = {.file_offset_bytes = 0, .device_offset_bytes = 0, .size_bytes = file.size()};
  Ledger ledger;
  storage::FileReader reader(device, {.extents = {&extent, 1}, .size_bytes = file.size()}, ledger);
  storage::ByteReader bytes(reader, buffer);
  Arena arena(Region::kPsram, memory);
  if (const auto vocabulary = formats::OpenGgufVocabulary(bytes); !vocabulary) {
    RequireSentence(vocabulary.error());
  } else {
    CheckTokenizer(*vocabulary, vocabulary->num_tokens, bytes, file.size());
  }
  const Result<formats::ModelFile> model = formats::OpenGguf(bytes, arena);
  if (!model) {
    Require(arena.used_bytes() == 0);
    return RequireSentence(model.error());
  }
  CheckModel(*model, file.size());
  if (model->tokenizer_fault) {
    Require(!model->tokenizer.present);
    RequireSentence(*model->tokenizer_fault);
  }
  if (model->tokenizer.present) CheckTokenizer(model->tokenizer, model->shape.vocab_size, bytes, file.size());
}

// A file that is valid but for a few changes that a mutator of bytes would not find.
std::string MakeSeed(unsigned seed) {
  std::mt19937 random(seed);
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  const bool has_blocks = below(4) == 0;  // of 32
  const uint32_t unit = has_blocks ? 16 : 1;
  GgufBuilder file = GgufBuilder::Llama(1 + below(2), 4 + below(8), 4 * unit * (1 + below(2)), unit * (2 + below(6)), 2,
                                        1 + below(2), 2 * unit * (1 + below(2)), below(2) != 0);
  for (GgufTensor& tensor : file.tensors) {
    // Not always of whole blocks.
    constexpr std::array<uint32_t, 9> kOfBlocks = {2, 3, 6, 7, 8, 20, 12, 13, 14};
    if (has_blocks && tensor.dimensions.size() == 2 && below(4) != 0) {
      tensor.type = kOfBlocks[below(below(4) != 0 ? 6 : 9)];
    }
  }
  std::string architecture = "llama";
  if (below(3) == 0) {
    architecture = below(2) != 0 ? "qwen2" : "qwen3";
    file.Become(architecture, static_cast<uint32_t>(file.Tensor("blk.0.attn_q.weight").dimensions[1] / 2));
  }
  if (below(4) == 0) file.tensors.push_back({"rope_freqs.weight", {1 + below(2)}});
  file.version = 2 + below(2);
  if (below(4) == 0) {
    file.Set("tokenizer.ggml.model", GgufValue::Of("gpt2"));
    file.Set("tokenizer.ggml.pre", GgufValue::Of(std::string(formats::kPreTokenizerNames[below(11)])));
    file.Set("tokenizer.ggml.merges", GgufValue::ArrayOf(std::vector<std::string>(below(4), "a a")));
    if (below(2) != 0) file.Remove("tokenizer.ggml.scores");
  }
  const auto value = [&] {
    switch (below(10)) {
      case 0:
        return GgufValue::Of(static_cast<uint8_t>(random()));
      case 1:
        return GgufValue::Of(static_cast<int32_t>(below(12)) - 2);
      case 2:
        return GgufValue::Of(uint64_t{random()} << below(33));
      case 3:
        return GgufValue::Of(static_cast<float>(below(5)) - 1);
      case 4:
        return GgufValue::Of(below(2) != 0);
      case 5:
        return GgufValue::Of(std::string(below(60), 'a'));
      case 6:
        return GgufValue::ArrayOf(std::vector<uint32_t>(below(4), below(3)));
      case 7:
        return GgufValue::ArrayOfArrays(GgufValue::ArrayOf(std::vector<std::string>(below(3), "x")), below(3));
      case 8:
        return GgufValue::Of(static_cast<double>(below(3)));
      default:
        return GgufValue::Of(below(20));
    }
  };
  static constexpr const char* kKeys[] = {"general.alignment",
                                          "general.type",
                                          "split.count",
                                          "llama.vocab_size",
                                          "llama.attention.key_length",
                                          "llama.attention.value_length",
                                          "llama.rope.freq_base",
                                          "llama.rope.scaling.type",
                                          "llama.rope.scaling.factor",
                                          "llama.rope.scale_linear",
                                          "llama.rope.scaling.attn_factor",
                                          "llama.attention.causal",
                                          "llama.expert_count",
                                          "llama.tensor_data_layout",
                                          "tokenizer.ggml.bos_token_id",
                                          "tokenizer.ggml.eos_token_id",
                                          "tokenizer.ggml.unknown_token_id",
                                          "tokenizer.ggml.add_bos_token",
                                          "tokenizer.ggml.add_eos_token",
                                          "tokenizer.ggml.add_space_prefix",
                                          "tokenizer.ggml.pre",
                                          "tokenizer.ggml.merges",
                                          "tokenizer.ggml.remove_extra_whitespaces",
                                          "other"};
  for (uint32_t changes = below(4); changes != 0; --changes) {
    switch (below(6)) {
      case 0: {
        std::string key = kKeys[below(std::size(kKeys))];
        if (key.starts_with("llama.") && below(4) != 0) key.replace(0, 5, architecture);
        file.Set(key, value());
        break;
      }
      case 1:
        file.keys[below(static_cast<uint32_t>(file.keys.size()))].second = value();
        break;
      case 2:
        std::swap(file.keys[below(static_cast<uint32_t>(file.keys.size()))], file.keys[0]);
        break;
      case 3:
        file.keys.erase(file.keys.begin() + below(static_cast<uint32_t>(file.keys.size())));
        break;
      case 4:
        std::swap(file.tensors[below(static_cast<uint32_t>(file.tensors.size()))], file.tensors[0]);
        break;
      default: {
        GgufTensor& tensor = file.tensors[below(static_cast<uint32_t>(file.tensors.size()))];
        switch (below(4)) {
          case 0:
            tensor.name = below(2) != 0 ? "blk.0.attn_q.bias" : "rope_freqs.weight";
            break;
          case 1:
            tensor.type = below(45);
            break;
          case 2:
            tensor.offset = 32 * below(100);
            break;
          default:
            tensor.dimensions.resize(below(6), 1);
        }
      }
    }
    if (file.keys.empty()) break;
  }
  if (below(4) == 0) {
    file.alignment = uint64_t{8} << below(4);
    file.Set("general.alignment", GgufValue::Of(static_cast<uint32_t>(file.alignment)));
  }
  return file.Build();
}

}  // namespace
}  // namespace thimble

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  if (size < 64 || seed % 64 == 0) {
    const std::string made = thimble::MakeSeed(seed);
    if (made.size() <= max_size) {
      std::memcpy(data, made.data(), made.size());
      return made.size();
    }
  }
  return LLVMFuzzerMutate(data, size, max_size);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size != 0) thimble::OpenAndUse(std::as_bytes(std::span(data, size)));
  return 0;
}
