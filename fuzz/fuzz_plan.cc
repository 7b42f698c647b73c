// Plan files: what is parsed comes back the same when it is written and parsed again, and every plan that follows from
// it stays inside the board.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "engine/plan/plan.h"
#include "engine/plan/plan_file.h"

namespace {

using namespace thimble;

formats::ModelFile ModelOf(const ModelShape& shape, DType type, std::vector<TensorRef>& tensors) {
  uint64_t offset = 32;
  for (uint32_t i = 0; i < TensorCount(shape); ++i) {
    const TensorId id = TensorIdAt(i, shape);
    const TensorDims dims = DimsOf(id.kind, shape);
    tensors.push_back({.offset = offset, .rows = dims.rows, .cols = dims.cols, .id = id, .type = type});
    offset += (tensors.back().size_bytes() + 31) / 32 * 32;
  }
  formats::ModelFile model;
  model.shape = shape;
  model.tensors = tensors;
  return model;
}

void CheckPlans(const plan::PlanOptions& options) {
  constexpr ModelShape kOdd = {.vocab_size = 1000,
                               .hidden_size = 45,
                               .intermediate_size = 127,
                               .num_hidden_layers = 3,
                               .num_attention_heads = 5,
                               .num_key_value_heads = 1,
                               .head_dim = 6,
                               .max_position_embeddings = 4096,
                               .rms_norm_eps = 1e-5f,
                               .rope_theta = 10000,
                               .has_rope_factors = true,
                               .architecture = Architecture::kQwen2};
  constexpr ModelShape kBlocks = {.vocab_size = 1000,
                                  .hidden_size = 96,
                                  .intermediate_size = 160,
                                  .num_hidden_layers = 1,
                                  .num_attention_heads = 3,
                                  .num_key_value_heads = 1,
                                  .head_dim = 32,
                                  .max_position_embeddings = 4096,
                                  .rms_norm_eps = 1e-5f,
                                  .rope_theta = 10000};
  for (DType type : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0, DType::kQ5_1}) {
    std::vector<TensorRef> tensors;
    const formats::ModelFile model = ModelOf(IsOfBlocks(type) ? kBlocks : kOdd, type, tensors);
    for (const Board& board :
         {kEsp32Cam, kEsp32CamWifi, kEsp32, kEsp32S3, kEsp32S3Wifi, kEsp32P4, HostBoard(1 << 30)}) {
      const auto made = plan::MakePlan(model, {}, board, 512, options);
      if (!made) continue;
      for (size_t i = 0; i < kNumRegions; ++i) {
        if (made->region_bytes(static_cast<Region>(i)) > board.capacity_bytes[i]) std::abort();
      }
      for (const TensorRef& tensor : tensors) {
        const plan::Placement placement = made->PlacementOf(tensor);
        if (placement.tile_rows == 0 || placement.tile_bytes > made->zone(ZoneOf(tensor.id.kind)).buffer_bytes ||
            uint64_t{placement.tile_rows} * placement.tiles < tensor.rows) {
          std::abort();
        }
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = plan::ParsePlanFile({reinterpret_cast<const char*>(data), size});
  if (!file) return 0;
  if (file->board.size() < 64) {
    std::array<char, plan::kMaxPlanFileBytes> text;
    const auto again = plan::ParsePlanFile({text.data(), plan::FormatPlanFile(*file, text)});
    if (!again || again->board != file->board || again->options != file->options) std::abort();
  }
  CheckPlans(file->options);
  return 0;
}
