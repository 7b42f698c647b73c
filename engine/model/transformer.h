// Positions through a decoder of Llama's family, every matrix streamed from the card once for all of them.
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
#include "engine/base/workers.h"
#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/math/kernels.h"
#include "engine/model/kv_swap.h"
#include "engine/stream/resident_rows.h"
#include "engine/stream/tile_stream.h"

namespace thimble::model {

// What some positions of a run need while it lasts; rows are positions. All of them have a row of x, normed, k, v, cos
// and sin. The others have a row for each position that goes through a whole layer: all, but in a model of one layer
// only the last ones, whose hidden states are wanted.
struct Activations {
  std::span<float> x;         // [positions, hidden_size], the residual stream
  std::span<float> normed;    // [positions, hidden_size]
  std::span<float> k;         // [positions, kv_dim]
  std::span<float> v;         // [positions, kv_dim]
  std::span<float> cos;       // [positions, head_dim / 2]
  std::span<float> sin;       // [positions, head_dim / 2]
  std::span<float> q;         // [whole positions, q_dim]
  std::span<float> attended;  // [whole positions, q_dim]
  std::span<float> gate;      // [whole positions, intermediate_size]
  std::span<float> up;        // [whole positions, intermediate_size]
  // [whole positions, or kSwapTogether, num_attention_heads, n_ctx], where keys and values are swapped; of one position
  // in its place Memory::scores.
  std::span<float> scores;
  // Of all positions, the input of one matrix at a time, as Q8_0 wants it.
  std::span<math::Q8Block> quantized;
};

// The vectors of a model that stay in memory, one after the other, in floats: norms first, [2 * num_hidden_layers + 1,
// hidden_size], then of each layer those that its architecture adds, in the order of the table of tensors.
struct Vectors {
  uint64_t norms = 0;
  uint64_t of_layer = 0;  // what each layer adds
  uint64_t all = 0;

  explicit Vectors(const ModelShape& shape);
};

// Heads of more numbers are cached in float32 alone: others are expanded in a small piece of stack.
inline constexpr uint32_t kMostExpandedFloats = 256;

// Whether keys or values of heads of so many numbers can be cached as `type`.
constexpr bool CanCache(DType type, uint32_t head_dim) {
  if (type == DType::kF32) return true;
  if (type != DType::kF16 && type != DType::kQ8_0) return false;
  return head_dim <= kMostExpandedFloats && head_dim % BlockElements(type) == 0;
}

// Working memory of a Transformer: the caller's, sized as said. The spans may lie in any region.
struct Memory {
  Activations one;            // of one position
  Activations batch;          // of as many as are run at once; may be empty
  std::span<float> states;    // [positions, hidden_size], beside the first whose hidden state is wanted; may be empty
  std::span<float> vectors;   // as Vectors says
  std::span<float> inv_freq;  // [head_dim / 2]
  // [num_attention_heads / num_key_value_heads, n_ctx]; where keys and values are swapped [num_attention_heads, n_ctx]
  std::span<float> scores;
  // [num_hidden_layers, num_key_value_heads, window, head_dim], stored as these types: of kF32, kF16 and kQ8_0 each
  // where CanCache() says so; aligned to 4 bytes. A position is in row position % window.
  std::span<std::byte> k_cache;
  std::span<std::byte> v_cache;
  DType k_type = DType::kF32;
  DType v_type = DType::kF32;
  Region kv_region = Region::kPsram;
  // Positions that the caches have room for: n_ctx; or, where others are swapped, whole pages, and at least a page and
  // all positions that are run at once.
  uint32_t window = 0;
  KvSwap swap;
  stream::ResidentMemory resident;  // rows of the layers' matrices that are in memory

  // What the tensors of each zone come through, indexed by Zone; kOpen: the norms. Zones may share buffers.
  struct Tiles {
    stream::TileBuffers buffers;
    uint32_t chunks = 0;  // as for stream::TileRows()
  };
  std::array<Tiles, kNumZones> tiles;
};

// Checksums of the rows of the token embedding, from an index.
struct RowChecks {
  storage::FileReader* reader = nullptr;  // of the index; null: rows are not checked
  formats::SectionRef section;            // the checksums, uint32 each
  std::span<const uint32_t> in_memory;    // all of them, or empty: read one by one
  Xxh32::TakeStripes xxh32 = nullptr;
};

// Refers to everything it is given; all of it outlives this. One thread.
class Transformer {
 public:
  // `workers`: the other cores, or null.
  Transformer(const formats::ModelFile& model, const math::Kernels& kernels, Workers* workers,
              stream::TileStream& stream, Ledger& ledger, const Memory& memory, uint32_t n_ctx, uint32_t block_bytes,
              const RowChecks& row_checks);

  // Reads the vectors and computes the rotary frequencies. Fails by I/O, and with kCorrupt for a rotary factor that is
  // none.
  Result<void> Load();

  // Runs `tokens` at the positions from `first_position` on (at most the first that was not run yet, all below n_ctx,
  // none that Keep() would drop;
  // tokens below vocab_size; one of them, or at most as many as Memory::batch has rows), and leaves their keys and
  // values in the cache, in place of what positions from there on had. Of the last `num_hidden` of them, at most one
  // more than Memory::states has rows, the hidden states are made: hidden() is then the first of these. Every tensor is
  // read at most once; of the last layer only k and v, if no hidden state is wanted. Fails by I/O or cancellation, with
  // kCorrupt when a checksum does not fit, and with kUnsupported for a key or value that the cache's type cannot hold;
  // the same positions can be run again then.
  // `scan_follows`: the LM head is streamed next, whole, and nothing else is read before.
  Result<void> Run(std::span<const TokenId> tokens, uint32_t first_position, uint32_t num_hidden,
                   bool scan_follows = false);

  // Forgets all positions but the first so many. Returns how many are kept: fewer than asked for where a page of the
  // swap file would be kept in part.
  uint32_t Keep(uint32_t positions);

  // Writes all whole pages of the first so many positions, which have run, to the swap file. Returns how many positions
  // these are. Fails as Run().
  Result<uint32_t> SwapOut(uint32_t positions);
  // The first so many positions, whole pages, lie in the swap file, and Memory::swap's checksums are theirs; nothing
  // else is known.
  void TakeSwapped(uint32_t positions) { swapped_ = positions; }
  // The swap file keeps a conversation of the pages that it has now: it is dropped before one of them is written over.
  void OnKept() { kept_pages_ = SwappedPages(); }

  // The state [hidden_size] that the LM head multiplies: after the final norm. Valid until the next Run() or
  // UseHidden().
  const float* hidden() const { return hidden_; }
  // Makes hidden() the state of the i-th of the last run's num_hidden positions, the first being 0; i is not 0.
  void UseHidden(uint32_t i);

 private:
  // Rows [begin, end) of the positions of a run.
  struct Rows {
    uint32_t begin, end;
  };

  stream::TileRequest RequestOf(const TensorRef& tensor) const;
  Result<void> BeginTiles(TensorId id);
  Result<void> FollowWith(TensorId id);
  TensorId After(TensorId id) const;
  Result<void> BeginRow(const TensorRef& tensor, uint32_t row);
  math::Activation InputOf(const TensorRef& tensor, const float* x, uint32_t positions);
  Result<void> Stream(TensorId id, const float* x, float* y, uint32_t positions);
  Result<void> StreamHeads(TensorId id, const float* x, float* y, uint32_t positions);
  Result<void> CheckRow(const TensorRef& table, TokenId token, std::span<const std::byte> row);
  Result<void> Embed(std::span<const TokenId> tokens, const Activations& a);
  Result<void> Attention(uint16_t layer, uint32_t first_position, uint32_t positions, Rows whole, const Activations& a);
  Result<void> FeedForward(uint16_t layer, Rows whole, const Activations& a);
  void Norm(uint32_t index, Rows rows, const Activations& a);
  const float* VectorOf(TensorId id) const;
  void AddBias(TensorId id, float* y, uint32_t positions);
  void NormHeads(TensorId id, float* y, uint32_t positions, uint32_t heads);
  Result<void> LoadVector(TensorId id, float* out);
  Result<void> ScaleFrequencies();
  void AddToResidual(Rows rows, const Activations& a);
  Result<void> Store(uint16_t layer, uint32_t first_position, uint32_t positions, const Activations& a);
  void CountRope(uint64_t heads);
  void Attend(uint16_t layer, uint32_t position, const float* q, float* attended);
  Result<void> AttendSwapped(uint16_t layer, uint32_t first_position, Rows some, bool goes_on, const Activations& a);
  void ScoreKeys(const std::byte* keys, Rows rows, const float* q, float* scores, size_t stride) const;
  void AddValues(const std::byte* values, uint32_t num_rows, Rows units, const float* scores, size_t stride,
                 float* attended) const;
  template <class Use>
  void ForPieces(uint32_t end, Use use) const;
  uint32_t SwappedPages() const { return swapped_ == 0 ? 0 : swapped_ / memory_.swap.layout.page_positions; }
  stream::TileRequest SwapRequest(uint16_t layer, bool of_values) const;
  Result<void> CheckPage(uint16_t layer, bool of_values, const stream::Tile& tile);
  uint32_t& PageCheck(uint32_t page, uint16_t layer, bool of_values) const {
    return memory_.swap.checks[(size_t{page} * shape_.num_hidden_layers + layer) * 2 + (of_values ? 1 : 0)];
  }
  Result<void> MakeRoom(uint32_t end);
  Result<void> WritePage();
  // The element of a cache where a head's row begins.
  size_t CacheRow(uint16_t layer, uint32_t kv_head, uint32_t position) const {
    const uint32_t row = position < memory_.window ? position : position % memory_.window;
    return ((size_t{layer} * shape_.num_key_value_heads + kv_head) * memory_.window + row) * shape_.head_dim;
  }
  void CountStored(DType type, uint32_t positions);
  void CountRead(DType type, uint32_t positions, uint32_t parts);

  const float* NormOf(uint32_t index) const { return memory_.vectors.data() + size_t{index} * shape_.hidden_size; }
  const Memory::Tiles& TilesOf(const TensorRef& t) const {
    return memory_.tiles[static_cast<size_t>(ZoneOf(t.id.kind))];
  }

  const formats::ModelFile* model_;
  ModelShape shape_;
  const math::Kernels* kernels_;
  Workers* workers_;
  stream::TileStream* stream_;
  Ledger* ledger_;
  const Memory& memory_;
  uint32_t n_ctx_;
  uint32_t block_bytes_;
  float attention_scale_;  // 1 / sqrt(head_dim)
  RowChecks row_checks_;
  const float* hidden_ = nullptr;
  uint32_t swapped_ = 0;                // positions in the swap file, the first ones: whole pages
  uint32_t kept_pages_ = ~uint32_t{0};  // of a conversation that the file keeps, or may keep
  // Of the present run.
  uint32_t num_hidden_ = 0;
  bool scan_follows_ = false;
  std::span<math::Q8Block> quantized_;
};

}  // namespace thimble::model

#endif  // THIMBLE_ENGINE_MODEL_TRANSFORMER_H_
