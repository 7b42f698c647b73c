#include "engine/model/needs.h"

#include <algorithm>

#include "engine/base/exact.h"
#include "engine/math/kernels.h"

namespace thimble::model {
namespace {

constexpr uint64_t kFloat = sizeof(float);

// Blocks of a position's activations for the matrices of Q8_0; 0 for a model that has none.
uint64_t QuantizedBlocks(const formats::ModelFile& model, bool is_whole) {
  const auto is_q8_matrix = [](const TensorRef& t) {
    return t.type == DType::kQ8_0 && t.id.kind != TensorKind::kTokenEmbd;
  };
  if (std::ranges::none_of(model.tensors, is_q8_matrix)) return 0;
  const ModelShape& s = model.shape;
  const uint32_t widest = std::max({s.hidden_size, s.q_dim(), s.intermediate_size});
  return (is_whole ? widest : s.hidden_size) / math::Q8Block::kElements;
}

// Calls floats(member, how many) for each part of Activations, then blocks(how many). In a model of one layer only
// positions whose hidden states are wanted go through all of it.
template <class Floats, class Blocks>
void ForActivations(const formats::ModelFile& model, const Context& context, uint64_t positions, uint64_t hidden,
                    Floats floats, Blocks blocks) {
  const ModelShape& s = model.shape;
  const uint64_t whole = s.num_hidden_layers == 1 ? std::min(hidden, positions) : positions;
  floats(&Activations::x, positions * s.hidden_size);
  floats(&Activations::normed, positions * s.hidden_size);
  floats(&Activations::k, positions * s.kv_dim());
  floats(&Activations::v, positions * s.kv_dim());
  floats(&Activations::cos, positions * (s.head_dim / 2));
  floats(&Activations::sin, positions * (s.head_dim / 2));
  floats(&Activations::q, whole * s.q_dim());
  floats(&Activations::attended, whole * s.q_dim());
  floats(&Activations::gate, whole * s.intermediate_size);
  floats(&Activations::up, whole * s.intermediate_size);
  floats(&Activations::scores, positions == 1 ? 0 : std::min<uint64_t>(whole, kSwapTogether) * context.SwapScores(s));
  blocks(whole * QuantizedBlocks(model, true) + (positions - whole) * QuantizedBlocks(model, false));
}

uint64_t ActivationBytes(const formats::ModelFile& model, const Context& context, uint64_t positions, uint64_t hidden) {
  static_assert(alignof(math::Q8Block) == kFloat && sizeof(math::Q8Block) % kFloat == 0);
  uint64_t bytes = 0;
  ForActivations(
      model, context, positions, hidden, [&](std::span<float> Activations::*, uint64_t n) { bytes += n * kFloat; },
      [&](uint64_t n) { bytes += n * sizeof(math::Q8Block); });
  return bytes;
}

}  // namespace

SwapLayout::SwapLayout(const ModelShape& shape, CacheTypes types, uint32_t positions, uint32_t block_bytes)
    : page_positions(positions),
      key_bytes(static_cast<uint32_t>(StoredBytes(types.k, uint64_t{positions} * shape.kv_dim()))),
      value_bytes(static_cast<uint32_t>(StoredBytes(types.v, uint64_t{positions} * shape.kv_dim()))),
      key_room((key_bytes + block_bytes - 1) / block_bytes * block_bytes),
      value_room((value_bytes + block_bytes - 1) / block_bytes * block_bytes),
      page_bytes(shape.num_hidden_layers * (uint64_t{key_room} + value_room)) {}

uint64_t CacheBytes(const ModelShape& shape, uint32_t positions, DType type) {
  return StoredBytes(type, uint64_t{shape.num_hidden_layers} * shape.kv_dim() * positions);
}

uint64_t ValuesAt(const ModelShape& shape, uint32_t positions, DType k_type) {
  return (CacheBytes(shape, positions, k_type) + kFloat - 1) / kFloat * kFloat;
}

std::array<Need, 11> Needs(const formats::ModelFile& model, const Context& context, uint32_t draft_max,
                           const stream::ResidentShares& resident, const formats::Index* index) {
  const ModelShape& s = model.shape;
  const auto section = [&](formats::Section id) { return index != nullptr ? index->section(id).bytes : 0; };
  const uint64_t scores =
      context.swaps ? context.SwapScores(s) : s.num_attention_heads / s.num_key_value_heads * uint64_t{context.n_ctx};
  const uint64_t cache_bytes =
      ValuesAt(s, context.window, context.types.k) + CacheBytes(s, context.window, context.types.v);
  const stream::ResidentBytes rows = stream::ResidentBytesOf(model, resident);
  using enum BufferId;
  return {
      {{.id = kActivations, .regions = kInternalFirst, .is_hot = true, .bytes = ActivationBytes(model, context, 1, 1)},
       {.id = kDraftStates, .regions = kPsramFirst, .bytes = uint64_t{draft_max} * s.hidden_size * kFloat},
       {.id = kRotary, .regions = kInternalFirst, .is_hot = true, .bytes = s.head_dim / 2 * kFloat},
       {.id = kNorms, .regions = kInternalFirst, .is_hot = true, .bytes = Vectors(s).all * kFloat},
       {.id = kScores, .regions = kInternalFirst, .is_hot = true, .bytes = scores * kFloat},
       {.id = kSwapChecks, .regions = kPsramFirst, .bytes = context.CheckBytes(s)},
       {.id = kBlockChecks, .regions = kInternalFirst, .bytes = section(formats::Section::kBlockChecks)},
       {.id = kRowChecks, .regions = kPsramFirst, .bytes = section(formats::Section::kRowChecks)},
       {.id = kKvCache, .regions = kPsramFirst, .bytes = cache_bytes},
       {.id = kWeightsPsram, .regions = Only(Region::kPsram), .bytes = rows.psram},
       {.id = kWeightsFlash, .regions = Only(Region::kFlash), .bytes = rows.flash}}};
}

Need BatchNeed(const formats::ModelFile& model, const Context& context, uint32_t positions, uint32_t hidden) {
  return {.id = BufferId::kScratch,
          .regions = kPsramFirst,
          .lifetime = Lifetime::kStep,
          .bytes = positions < 2 ? 0 : ActivationBytes(model, context, positions, hidden)};
}

Activations CutActivations(const formats::ModelFile& model, const Context& context, std::span<float> memory,
                           uint32_t positions, uint32_t hidden) {
  Activations cut;
  const auto take = [&](size_t n) {
    const std::span<float> piece = memory.first(n);
    memory = memory.subspan(n);
    return piece;
  };
  ForActivations(
      model, context, positions, hidden,
      [&](std::span<float> Activations::* part, uint64_t n) { cut.*part = take(static_cast<size_t>(n)); },
      [&](uint64_t n) {
        const auto blocks = static_cast<size_t>(n);
        cut.quantized = {reinterpret_cast<math::Q8Block*>(take(blocks * sizeof(math::Q8Block) / kFloat).data()),
                         blocks};
      });
  return cut;
}

}  // namespace thimble::model
