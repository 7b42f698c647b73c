// Seeded checkpoints of any shape, for tests, benchmarks and demonstrations without a download.
#ifndef THIMBLE_HOST_SYNTH_SYNTH_H_
#define THIMBLE_HOST_SYNTH_SYNTH_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "host/formats/checkpoint.h"
#include "host/support/errors.h"
#include "host/synth/synth_head.h"

namespace thimble::host {

struct SynthPreset {
  const char* name;
  const char* description;
  ModelShape shape;
  bool tied;
  DType stored = DType::kF32;  // of the matrices: F32 or BF16; vectors are F32
};

// "tiny-llm" and others.
std::span<const SynthPreset> SynthPresets();

// The preset `name`, changed by `changes`: "hidden_size=64,vocab_size=512",
// keys as in config.json. Refused: unknown names and keys, sizes that contradict each other.
Expected<SynthPreset> SynthShape(std::string_view name, std::string_view changes);

// The head of that name, plain, story or web. Refused: other names, and story and web for a tied preset, whose output
// matrix is the embedding.
Expected<SynthHead> SynthHeadNamed(std::string_view name, const SynthPreset& preset);

// The model. Every element is a pure function of the seed, its tensor and its place, made by integer arithmetic and
// basic operations of IEEE 754 in a fixed order, so that each computer makes the same bits. Matrices are scaled by
// their width so that activations stay near 1, attention is neither flat nor a single peak, and logits spread by about
// 3; norms lie between 0.75 and 1.25. The vocabulary is a working SentencePiece BPE: control tokens, 256 bytes,
// characters, syllables, made-up words; a model of fewer than 512 tokens comes without one. With a head that is not
// plain, embedding and head are HeadGeometry's (host/synth/synth_head.h), layers add less, and matrices are F16, every
// element rounded to it.
Checkpoint MakeSynth(const SynthPreset& preset, uint64_t seed, SynthHead head = SynthHead::kPlain);

// The number of weights.
uint64_t CountParameters(const ModelShape& shape, bool tied);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SYNTH_SYNTH_H_
