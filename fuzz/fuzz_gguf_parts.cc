// Two parts of a model in GGUF files: the first two bytes say how long the first is.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "fuzz/sentence.h"
#include "host/formats/gguf_parts.h"
#include "host/support/atomic_file.h"
#include "host/support/input_file.h"

namespace {

using namespace thimble::host;

TemporaryFile FileOf(std::span<const std::byte> bytes) {
  auto file = TemporaryFile::Create();
  if (!file || !file->sink().Write(bytes)) std::abort();
  return std::move(*file);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(2);
  const size_t cut = std::min<size_t>(bytes.size(), data[0] + 256u * data[1]);
  const TemporaryFile first = FileOf(bytes.first(cut));
  const TemporaryFile second = FileOf(bytes.subspan(cut));
  TemporaryFile whole = FileOf({});
  const std::vector<std::string> parts = {first.path(), second.path()};
  const Status joined = JoinGguf(parts, whole.sink());
  if (!joined && (joined.error().size() > 400 || !thimble::IsSentence(joined.error()))) std::abort();
  // Padding is at most an alignment, which the first part says.
  if (joined && whole.sink().written_bytes() < 24) std::abort();
  return 0;
}
