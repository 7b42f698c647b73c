// GGUF files for tests, byte by byte: valid ones and every kind of broken one. Knows nothing of the engine's reader.
#ifndef THIMBLE_TESTS_SUPPORT_GGUF_BUILDER_H_
#define THIMBLE_TESTS_SUPPORT_GGUF_BUILDER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace thimble {

// A value with its GGUF type number in front of it.
class GgufValue {
 public:
  template <class T>
  static GgufValue Of(T value) {
    if constexpr (std::is_convertible_v<T, std::string_view>) {
      GgufValue text(8);
      text.PutString(value);
      return text;
    } else {
      GgufValue number(TypeOf<T>());
      number.Put(value);
      return number;
    }
  }

  template <class T>
  static GgufValue ArrayOf(const std::vector<T>& values) {
    GgufValue array(9);
    if constexpr (std::is_convertible_v<T, std::string_view>) {
      array.Put(uint32_t{8});
      array.Put(uint64_t{values.size()});
      for (const T& value : values) array.PutString(value);
    } else {
      array.Put(TypeOf<T>());
      array.Put(uint64_t{values.size()});
      for (const T value : values) array.Put(value);
    }
    return array;
  }

  // An array of arrays: `inner` repeated.
  static GgufValue ArrayOfArrays(const GgufValue& inner, uint64_t count) {
    GgufValue array(9);
    array.Put(uint32_t{9});
    array.Put(count);
    for (uint64_t i = 0; i < count; ++i) array.bytes_.append(inner.bytes_, 4);
    return array;
  }

  static GgufValue Raw(std::string bytes) {
    GgufValue value(0);
    value.bytes_ = std::move(bytes);
    return value;
  }

  const std::string& bytes() const { return bytes_; }

 private:
  explicit GgufValue(uint32_t type) { Put(type); }

  template <class T>
  static uint32_t TypeOf() {
    if constexpr (std::is_same_v<T, bool>) return 7;
    if constexpr (std::is_same_v<T, float>) return 6;
    if constexpr (std::is_same_v<T, double>) return 12;
    if constexpr (sizeof(T) == 8) return std::is_signed_v<T> ? 11 : 10;
    return (sizeof(T) == 1 ? 0u : sizeof(T) == 2 ? 2u : 4u) + (std::is_signed_v<T> ? 1u : 0u);
  }
  template <class T>
  void Put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void PutString(std::string_view text) {
    Put(uint64_t{text.size()});
    bytes_.append(text);
  }

  std::string bytes_;
};

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> dimensions;  // the fastest first: columns, rows
  uint32_t type = 0;
  int64_t offset = -1;  // within the tensor data; -1: behind the tensor before it, on the alignment
};

struct GgufBuilder {
  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t alignment = 32;
  std::vector<std::pair<std::string, GgufValue>> keys;
  std::vector<GgufTensor> tensors;

  // A plain Llama with tokenizer. Every key and tensor that the reader insists on, and rope.dimension_count.
  static GgufBuilder Llama(uint32_t layers = 2, uint32_t vocab = 8, uint32_t hidden = 4, uint32_t intermediate = 6,
                           uint32_t heads = 2, uint32_t kv_heads = 1, uint32_t head_dim = 2, bool tied = false) {
    GgufBuilder file;
    file.Set("general.architecture", GgufValue::Of("llama"));
    file.Set("llama.context_length", GgufValue::Of(uint32_t{16}));
    file.Set("llama.embedding_length", GgufValue::Of(hidden));
    file.Set("llama.block_count", GgufValue::Of(layers));
    file.Set("llama.feed_forward_length", GgufValue::Of(intermediate));
    file.Set("llama.attention.head_count", GgufValue::Of(heads));
    file.Set("llama.attention.head_count_kv", GgufValue::Of(kv_heads));
    file.Set("llama.rope.dimension_count", GgufValue::Of(head_dim));
    if (head_dim * heads != hidden) {
      file.Set("llama.attention.key_length", GgufValue::Of(head_dim));
      file.Set("llama.attention.value_length", GgufValue::Of(head_dim));
    }
    file.Set("llama.attention.layer_norm_rms_epsilon", GgufValue::Of(1e-5f));
    file.Set("tokenizer.ggml.model", GgufValue::Of("llama"));
    std::vector<std::string> tokens;
    std::vector<float> scores;
    std::vector<int32_t> types;
    for (uint32_t i = 0; i < vocab; ++i) {
      // Beyond some hundreds by number: names that grow took half a gigabyte.
      const bool is_many = i >= 512;
      tokens.push_back(i == 0    ? "<unk>"
                       : i == 1  ? "<s>"
                       : i == 2  ? "</s>"
                       : is_many ? "a" + std::to_string(i)
                                 : std::string(i - 2, 'a'));
      scores.push_back(-static_cast<float>(i));
      types.push_back(i == 0 ? 2 : i < 3 ? 3 : 1);
    }
    file.Set("tokenizer.ggml.tokens", GgufValue::ArrayOf(tokens));
    file.Set("tokenizer.ggml.scores", GgufValue::ArrayOf(scores));
    file.Set("tokenizer.ggml.token_type", GgufValue::ArrayOf(types));

    const uint64_t q = uint64_t{heads} * head_dim, kv = uint64_t{kv_heads} * head_dim;
    file.tensors.push_back({"token_embd.weight", {hidden, vocab}});
    for (uint32_t i = 0; i < layers; ++i) {
      const std::string blk = "blk." + std::to_string(i) + ".";
      file.tensors.push_back({blk + "attn_norm.weight", {hidden}});
      file.tensors.push_back({blk + "attn_q.weight", {hidden, q}});
      file.tensors.push_back({blk + "attn_k.weight", {hidden, kv}});
      file.tensors.push_back({blk + "attn_v.weight", {hidden, kv}});
      file.tensors.push_back({blk + "attn_output.weight", {q, hidden}});
      file.tensors.push_back({blk + "ffn_norm.weight", {hidden}});
      file.tensors.push_back({blk + "ffn_gate.weight", {hidden, intermediate}});
      file.tensors.push_back({blk + "ffn_up.weight", {hidden, intermediate}});
      file.tensors.push_back({blk + "ffn_down.weight", {intermediate, hidden}});
    }
    file.tensors.push_back({"output_norm.weight", {hidden}});
    if (!tied) file.tensors.push_back({"output.weight", {hidden, vocab}});
    return file;
  }

  // Makes a Llama a "qwen2" or "qwen3": the same keys under that name, and what it adds to each layer.
  GgufBuilder& Become(const std::string& architecture, uint32_t head_dim = 2) {
    for (auto& [key, value] : keys) {
      if (key.starts_with("llama.")) key.replace(0, 5, architecture);
    }
    Set("general.architecture", GgufValue::Of(architecture));
    const std::vector<GgufTensor> plain = tensors;
    for (const GgufTensor& tensor : plain) {
      if (!tensor.name.ends_with(".attn_q.weight")) continue;
      const std::string blk = tensor.name.substr(0, tensor.name.find("attn_q"));
      if (architecture == "qwen2") {
        const uint64_t kv = Tensor(blk + "attn_k.weight").dimensions[1];
        tensors.push_back({blk + "attn_q.bias", {tensor.dimensions[1]}});
        tensors.push_back({blk + "attn_k.bias", {kv}});
        tensors.push_back({blk + "attn_v.bias", {kv}});
      } else {
        tensors.push_back({blk + "attn_q_norm.weight", {head_dim}});
        tensors.push_back({blk + "attn_k_norm.weight", {head_dim}});
      }
    }
    return *this;
  }

  // Replaces the key's value, or appends the key.
  void Set(const std::string& key, GgufValue value) {
    for (auto& [name, old] : keys) {
      if (name == key) {
        old = std::move(value);
        return;
      }
    }
    keys.emplace_back(key, std::move(value));
  }
  void Remove(const std::string& key) {
    std::erase_if(keys, [&](const auto& pair) { return pair.first == key; });
  }
  GgufTensor& Tensor(const std::string& name) {
    return *std::find_if(tensors.begin(), tensors.end(), [&](const GgufTensor& t) { return t.name == name; });
  }
  void RemoveTensor(const std::string& name) {
    std::erase_if(tensors, [&](const GgufTensor& t) { return t.name == name; });
  }

  // Of so many elements of ggml's type; of one that is not known here as if it were F32.
  static uint64_t BytesOf(uint32_t type, uint64_t elements) {
    switch (type) {
      case 1:   // F16
      case 30:  // BF16
        return elements * 2;
      case 2:   // Q4_0
      case 20:  // IQ4_NL
        return elements / 32 * 18;
      case 3:  // Q4_1
        return elements / 32 * 20;
      case 6:  // Q5_0
        return elements / 32 * 22;
      case 7:  // Q5_1
        return elements / 32 * 24;
      case 8:  // Q8_0
        return elements / 32 * 34;
      case 12:  // Q4_K
        return elements / 256 * 144;
      case 13:  // Q5_K
        return elements / 256 * 176;
      case 14:  // Q6_K
        return elements / 256 * 210;
      default:
        return elements * 4;
    }
  }

  // The file; float number i of the tensor data is i / 64.
  std::string Build() const {
    std::string out = magic;
    const auto put = [&](auto value) { out.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
    put(version);
    put(uint64_t{tensors.size()});
    put(uint64_t{keys.size()});
    for (const auto& [key, value] : keys) {
      put(uint64_t{key.size()});
      out += key + value.bytes();
    }
    uint64_t end = 0;
    for (const GgufTensor& tensor : tensors) {
      put(uint64_t{tensor.name.size()});
      out += tensor.name;
      put(static_cast<uint32_t>(tensor.dimensions.size()));
      uint64_t size = 1;
      for (const uint64_t dimension : tensor.dimensions) {
        put(dimension);
        size *= dimension;
      }
      put(tensor.type);
      size = BytesOf(tensor.type, size);
      const uint64_t next = (end + alignment - 1) / alignment * alignment;
      put(tensor.offset < 0 ? next : static_cast<uint64_t>(tensor.offset));
      if (tensor.offset < 0) end = next + size;
    }
    out.resize(static_cast<size_t>((out.size() + alignment - 1) / alignment * alignment));
    for (uint64_t i = 0; i < end / 4; ++i) put(static_cast<float>(i) / 64);
    out.resize(out.size() + end % 4);
    return out;
  }
};

}  // namespace thimble

#endif  // THIMBLE_TESTS_SUPPORT_GGUF_BUILDER_H_
