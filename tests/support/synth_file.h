// A seeded model as a GGUF file.
#ifndef THIMBLE_TESTS_SUPPORT_SYNTH_FILE_H_
#define THIMBLE_TESTS_SUPPORT_SYNTH_FILE_H_

#include <cstdint>
#include <string>

namespace thimble::tests {

// Writes what `thimble synth small --shape CHANGES --seed SEED -o PATH` does; 100 000 weights without changes. Returns
// `path`. Expects no failure.
std::string WriteSynth(const std::string& path, const std::string& changes = "hidden_size=32,intermediate_size=64",
                       uint64_t seed = 1);

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_SYNTH_FILE_H_
