// One position through a Llama-family decoder, every matrix streamed from the card.
//
// H. Touvron et al., "LLaMA", arXiv:2302.13971; grouped-query attention: J. Ainslie et al., arXiv:2305.13245. Rounding
// and order of every sum: docs/numbers.md.
#ifndef THIMBLE_ENGINE_MODEL_TRANSFORMER_H_
#define THIMBLE_ENGINE_MODEL_TRANSFORMER_H_

#include <array>
#include <cstdint>
#include <span>

#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/base/tensor.h"
#include "engine/card/model_file.h"
#include "engine/card/tile_stream.h"
#include "engine/math/kernels.h"

namespace thimble::model {

// Working memory of a Transformer: the caller's, sized as said. The spans may lie in any region.
struct Memory {
  std::span<float> norms;     // [2 * num_hidden_layers + 1, hidden_size]
  std::span<float> x;         // [hidden_size], the residual stream
  std::span<float> normed;    // [hidden_size]
  std::span<float> q;         // [q_dim]
  std::span<float> attended;  // [q_dim]
  std::span<float> k;         // [kv_dim]
  std::span<float> v;         // [kv_dim]
  std::span<float> gate;      // [intermediate_size]
  std::span<float> up;        // [intermediate_size]
  std::span<float> inv_freq;  // [head_dim / 2]
  std::span<float> cos;       // [head_dim / 2]
  std::span<float> sin;       // [head_dim / 2]
  std::span<float> scores;    // [n_ctx]
  std::span<float> k_cache;   // [num_hidden_layers, num_key_value_heads, n_ctx, head_dim]
  std::span<float> v_cache;   // the same
  std::span<float> logits;    // [vocab_size]

  // What the tensors of each zone come through, indexed by Zone; kOpen: the norms. Zones may share buffers.
  struct Tiles {
    card::TileBuffers buffers;
    uint32_t chunks = 0;  // as for card::TileRows()
  };
  std::array<Tiles, kNumZones> tiles;
};

// Refers to everything it is given; all of it outlives this. One thread.
class Transformer {
 public:
  Transformer(const card::ModelFile& model, const math::Kernels& kernels, card::TileStream& stream, Ledger& ledger,
              const Memory& memory, uint32_t n_ctx, uint32_t block_bytes);

  // Reads the norm weights and computes the rotary frequencies. Fails by I/O only.
  Result<void> Load();

  // Runs `token` at `position` (positions come in order from 0, below n_ctx; token below vocab_size), and leaves its
  // keys and values in the cache. The final norm and the LM head are computed, into Memory::logits, only if
  // `want_logits`. Fails by I/O or cancellation, after which the same position can be run again.
  Result<void> Step(TokenId token, uint32_t position, bool want_logits);

 private:
  Result<void> BeginTiles(const TensorRef& tensor);
  Result<void> BeginRow(const TensorRef& tensor, uint32_t row);
  Result<void> Stream(TensorId id, const float* x, float* y);
  Result<void> StreamHeads(TensorId id, const float* x, float* y);
  Result<void> Attention(uint16_t layer, uint32_t position);
  Result<void> FeedForward(uint16_t layer);
  Result<void> Embed(TokenId token);
  void Attend(uint16_t layer, uint32_t position);

  const float* NormOf(uint32_t index) const { return memory_.norms.data() + size_t{index} * shape_.hidden_size; }
  const Memory::Tiles& TilesOf(const TensorRef& t) const {
    return memory_.tiles[static_cast<size_t>(ZoneOf(t.id.kind))];
  }

  const card::ModelFile* model_;
  ModelShape shape_;
  const math::Kernels* kernels_;
  card::TileStream* stream_;
  Ledger* ledger_;
  Memory memory_;
  uint32_t n_ctx_;
  uint32_t block_bytes_;
  float attention_scale_;  // 1 / sqrt(head_dim)
};

}  // namespace thimble::model

#endif  // THIMBLE_ENGINE_MODEL_TRANSFORMER_H_
