// Checkpoints as other programs write them, made in a temporary folder, and a reader of GGUF files that shares no code
// with the product's writer.
#ifndef THIMBLE_TESTS_SUPPORT_CHECKPOINTS_H_
#define THIMBLE_TESTS_SUPPORT_CHECKPOINTS_H_

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/tensor.h"

namespace thimble::tests {

// A folder that is removed with all it holds.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

  // The names in it.
  std::set<std::string> Names() const;

 private:
  std::string path_;
};

void WriteFile(const std::string& path, std::string_view bytes);
std::string ReadFile(const std::string& path);

// The bytes of a number as x86 keeps it.
template <class T>
std::string Bytes(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

struct StoredTensor {
  std::string dtype;
  std::vector<uint64_t> shape;
  std::string bytes;
};

// A safetensors file: the header as given, and the data.
std::string SafetensorsFile(std::string_view header, std::string_view data);
std::string SafetensorsFile(const std::map<std::string, StoredTensor>& tensors);

// The value of one stored element, by the definition of its type.
double StoredValue(const StoredTensor& tensor, uint64_t element);
void StoreElement(StoredTensor& tensor, uint64_t element, uint32_t bits);

// A tokenizer.model, field by field.
struct ProtoPiece {
  std::string piece;
  float score = 0;
  int type = 1;
};
struct SentencePieceProto {
  std::vector<ProtoPiece> pieces;
  int model_type = 2;
  bool byte_fallback = true;
  bool whitespace_as_suffix = false;
  std::string normalizer_name = "identity";
  std::string charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = false;
  bool escape_whitespaces = true;

  // <unk>, <s>, </s>, 256 bytes, and letters and words up to `size` pieces.
  static SentencePieceProto Make(uint32_t size);
  std::string Serialize() const;
};

// A Hugging Face folder in memory.
struct HfModel {
  nlohmann::json config;
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::string> files;  // all others

  // A model of this shape with seeded weights in `dtype`, every bit pattern of a finite number among them.
  static HfModel Make(const ModelShape& shape, const std::string& dtype, uint64_t seed);
  void Write(const std::string& folder) const;

  // The same in shards that take turns, with an index.
  void WriteSharded(const std::string& folder, size_t num_shards) const;
};
std::string ShardName(size_t shard, size_t num_shards);

// The tokenizer.json that transformers makes of a tokenizer.model.
nlohmann::json TokenizerJson(const SentencePieceProto& proto);

// llama2.c's legacy checkpoint and tokenizer.bin.
struct Llama2cModel {
  std::vector<int32_t> header;  // dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, max_seq_len
  std::map<std::string, std::string> tensors;  // by GGUF name, float32
  bool tied = true;

  static Llama2cModel Make(const ModelShape& shape, bool tied, uint64_t seed);
  std::string File() const;  // version 0
  std::string FileOfVersion1() const;
  std::string FileOfVersion2(uint32_t group_size) const;  // each matrix as Llama2cGroups
};
// Float32 numbers as int8 and a scale for each `group_size` of them, as export.py makes them, and what these stand for.
struct Llama2cGroups {
  Llama2cGroups(std::string_view float32, uint32_t group_size);
  std::string codes, scales, values;
};
std::string Llama2cTokenizerFile(uint32_t size);

// What a GGUF file holds. Arrays are JSON arrays.
struct GgufContent {
  uint32_t version = 0;
  std::map<std::string, nlohmann::json> keys;
  struct Tensor {
    std::vector<uint64_t> dims;  // as stored: innermost first
    uint32_t type = 0;
    uint64_t file_offset = 0;
    std::string bytes;
  };
  std::map<std::string, Tensor> tensors;
  std::vector<std::string> tensor_order;
  uint64_t file_bytes = 0;
};
// Expects no failure.
GgufContent ReadGguf(const std::string& path);

// One small shape: two layers, four heads that share two key/value heads, a head size that the hidden size does not
// make.
ModelShape SmallShape();

// The number of `size` bytes at `offset`, the lowest first.
uint32_t LittleEndian(std::string_view bytes, size_t offset, size_t size);

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_CHECKPOINTS_H_
