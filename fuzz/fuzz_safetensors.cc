// A safetensors header: the first byte says how many bytes of data follow it, the rest is the JSON text.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fuzz/sentence.h"
#include "host/formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble::host;
  if (size == 0) return 0;
  const std::string_view json(reinterpret_cast<const char*>(data) + 1, size - 1);
  const uint64_t data_bytes = data[0];
  const auto entries = ParseSafetensorsHeader(json, 8 + json.size(), data_bytes, "FILE");
  if (!entries) {
    if (entries.error().size() > 400 || !thimble::IsSentence(entries.error())) std::abort();
    return 0;
  }
  uint64_t bytes = 0;
  for (const auto& [name, entry] : *entries) {
    if (entry.offset < 8 + json.size() || entry.offset + entry.size_bytes > 8 + json.size() + data_bytes) std::abort();
    bytes += entry.size_bytes;
  }
  if (bytes != data_bytes) std::abort();
  return 0;
}
