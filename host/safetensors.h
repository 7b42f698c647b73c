// Reading the header of a safetensors file: which tensors it holds and where they lie.
//
// Format: huggingface/safetensors, README, "Format". What is read and what is refused: docs/formats/safetensors.md.
#ifndef THIMBLE_HOST_SAFETENSORS_H_
#define THIMBLE_HOST_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "host/expected.h"
#include "host/input_file.h"

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

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SAFETENSORS_H_
