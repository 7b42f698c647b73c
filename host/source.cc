#include "host/source.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <cstring>

#include "host/card_open.h"
#include "host/command.h"
#include "host/convert.h"
#include "host/gguf_writer.h"
#include "host/input_file.h"
#include "host/llama2c.h"

namespace thimble::host {
namespace {

// Whether the engine reads this as it is. A llama2.c checkpoint has no mark of its own, only a header that tells its
// exact length; everything with a mark, and every disk image, is told from it by that.
Expected<bool> IsReadAsItIs(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return !S_ISDIR(info.st_mode) || (IsTensorFolder(path) && !Exists(path + "/config.json"));
  }
  THIMBLE_ASSIGN(const InputFile file, InputFile::Open(path));
  std::array<std::byte, 512> sector = {};
  const size_t n = file.size_bytes() < sector.size() ? static_cast<size_t>(file.size_bytes()) : sector.size();
  THIMBLE_TRY(file.ReadAt(0, std::span(sector).first(n)));
  if (std::memcmp(sector.data(), "GGUF", 4) == 0) return true;
  const auto header = std::span(sector).first<kLlama2cHeaderBytes>();
  if (ParseLlama2cHeader(header, file.size_bytes(), path)) return false;
  return path.ends_with(".img") || (sector[510] == std::byte{0x55} && sector[511] == std::byte{0xaa});
}

}  // namespace

Expected<ModelSource> OpenModelSource(const std::string& path, const std::string& tokenizer) {
  THIMBLE_ASSIGN(const bool as_it_is, IsReadAsItIs(path));
  if (as_it_is) {
    if (!tokenizer.empty()) return Sentence(fmt::format("--tokenizer: {} brings its own tokenizer.", path));
    return ModelSource(path);
  }
  THIMBLE_ASSIGN(const Checkpoint checkpoint, OpenCheckpoint(path, tokenizer));
  THIMBLE_ASSIGN(TemporaryFile file, TemporaryFile::Create());
  THIMBLE_TRY(WriteGguf(checkpoint, WrittenType::kF32, "convert", file.sink()));
  for (const std::string& note : checkpoint.notes) ReportNote(note);
  return ModelSource(std::move(file));
}

}  // namespace thimble::host
