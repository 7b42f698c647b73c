// The JSON files of a Hugging Face folder: the first byte says which one.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fuzz/sentence.h"
#include "host/formats/hf_config.h"

namespace {

template <class T>
void CheckSentence(const thimble::host::Expected<T>& result) {
  if (!result && (result.error().size() > 600 || !thimble::IsSentence(result.error()))) std::abort();
}

void CheckConfig(std::string_view json) {
  using namespace thimble;
  const auto config = host::ParseHfConfig(json, "FILE");
  CheckSentence(config);
  if (!config) return;
  const ModelShape& shape = config->shape;
  const bool in_range = shape.vocab_size - 1 < host::kMaxVocabSize && shape.hidden_size - 1 < host::kMaxWidth &&
                        shape.intermediate_size - 1 < host::kMaxWidth &&
                        shape.num_hidden_layers - 1 < host::kMaxLayers && shape.num_key_value_heads > 0 &&
                        shape.num_attention_heads % shape.num_key_value_heads == 0 && shape.head_dim > 0 &&
                        shape.head_dim % 2 == 0 &&
                        uint64_t{shape.num_attention_heads} * shape.head_dim <= host::kMaxWidth &&
                        shape.max_position_embeddings - 1 < 0x7fffffff && std::isnormal(shape.rms_norm_eps) &&
                        shape.rms_norm_eps > 0 && std::isnormal(shape.rope_theta) && shape.rope_theta > 0 &&
                        config->bos.value_or(0) < shape.vocab_size && config->eos.value_or(0) < shape.vocab_size;
  if (!in_range) std::abort();
  if (!(shape.rope_linear_factor >= 1 && shape.rope_linear_factor <= 1 << 20)) std::abort();
  if (config->rope_factors.size() != (shape.has_rope_factors ? shape.head_dim / 2 : 0)) std::abort();
  for (const float factor : config->rope_factors) {
    if (!(factor > 0.999f && factor <= 1 << 20)) std::abort();
  }
  for (const TokenId id : config->other_eos) {
    if (id >= shape.vocab_size) std::abort();
  }
}

void CheckGeneration(std::string_view json) {
  constexpr uint32_t kVocabSize = 300;
  const auto ends = thimble::host::ParseHfGenerationEnds(json, kVocabSize, "FILE");
  CheckSentence(ends);
  if (!ends) return;
  for (const thimble::TokenId id : *ends) {
    if (id >= kVocabSize) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble::host;
  if (size == 0) return 0;
  const std::string_view json(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      CheckConfig(json);
      break;
    case 1:
      CheckSentence(ParseHfTokenizerConfig(json, "", "FOLDER"));
      break;
    case 2:
      CheckSentence(ParseHfTokenizerConfig("", json, "FOLDER"));
      break;
    default:
      CheckGeneration(json);
      break;
  }
  return 0;
}
