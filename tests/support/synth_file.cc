#include "tests/support/synth_file.h"

#include <gtest/gtest.h>

#include "host/formats/gguf_writer.h"
#include "host/support/atomic_file.h"
#include "host/synth/synth.h"

namespace thimble::tests {
namespace {

host::Status Write(const std::string& path, const std::string& changes, uint64_t seed) {
  THIMBLE_ASSIGN(const host::SynthPreset preset, host::SynthShape("small", changes));
  const host::Checkpoint checkpoint = host::MakeSynth(preset, seed);
  THIMBLE_ASSIGN(host::AtomicFile file, host::AtomicFile::Create(path, {}));
  THIMBLE_TRY(host::WriteGguf(checkpoint, {.dtype = host::WrittenType::kKeep}, "synth", file.sink()));
  return file.Commit();
}

}  // namespace

std::string WriteSynth(const std::string& path, const std::string& changes, uint64_t seed) {
  const host::Status written = Write(path, changes, seed);
  EXPECT_TRUE(written) << written.error();
  return path;
}

}  // namespace thimble::tests
