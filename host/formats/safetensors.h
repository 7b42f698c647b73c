// Reading the headers of safetensors files: which tensors a checkpoint holds and where they lie.
//
// Format: huggingface/safetensors, README, "Format". What is read and what is refused: docs/formats/safetensors.md.
#ifndef THIMBLE_HOST_FORMATS_SAFETENSORS_H_
#define THIMBLE_HOST_FORMATS_SAFETENSORS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "host/support/errors.h"
#include "host/support/input_file.h"

namespace thimble::host {

// The format's own limit.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct SafetensorsEntry {
  std::string dtype;            // "F32", "F16", "BF16", "I64", ...
  std::vector<uint64_t> shape;  // outermost first; empty for a scalar
  uint64_t offset = 0;          // bytes from the start of the file
  uint64_t size_bytes = 0;
};

using SafetensorsEntries = std::map<std::string, SafetensorsEntry, std::less<>>;

// Parses the JSON text of a header. `data_offset` is where the tensors start in the file and `data_bytes` how many
// bytes there are from there to its end. Everything the format promises is checked: each tensor has a known dtype, a
// shape whose size in bytes is that of its place (no product overflows), and the places cover the data from its first
// byte to its last without gap or overlap; no key stands twice. Sentences start with `path`.
Expected<SafetensorsEntries> ParseSafetensorsHeader(std::string_view json, uint64_t data_offset, uint64_t data_bytes,
                                                    const std::string& path);

// Reads and parses the header of `file`.
Expected<SafetensorsEntries> ReadSafetensorsHeader(const InputFile& file);

// Parses the text of a model.safetensors.index.json: the name of each tensor and of the file that has it. File names
// are plain ("model-00001-of-00002.safetensors"): a path, and a name of more than 80 bytes or without ".safetensors" at
// its end, is refused, as is a map without tensors or with more than 512 files. "metadata" is not looked at.
Expected<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view json, const std::string& path);

// The tensors of a checkpoint, in one file or in shards, open.
class Safetensors {
 public:
  struct Tensor {
    SafetensorsEntry entry;
    size_t file = 0;  // in files()
  };

  // One file.
  static Expected<Safetensors> Open(const std::string& path);

  // The shards that an index names, which lie beside it. Each tensor must be in the shard that the index names for it
  // and in no other; one that the index does not name is skipped if `is_ignorable` says so, and refused otherwise.
  static Expected<Safetensors> OpenSharded(const std::string& index_path,
                                           const std::function<bool(const std::string& name)>& is_ignorable);

  // Of the file or of the index.
  const std::string& path() const { return path_; }

  const std::vector<InputFile>& files() const { return files_; }
  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }

 private:
  explicit Safetensors(std::string path) : path_(std::move(path)) {}
  Status AddShard(const std::string& shard_path, const std::map<std::string, std::string>& index,
                  const std::function<bool(const std::string& name)>& is_ignorable);

  std::string path_;
  std::vector<InputFile> files_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_SAFETENSORS_H_
