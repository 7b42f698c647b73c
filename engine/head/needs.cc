#include "engine/head/needs.h"

#include <algorithm>

#include "engine/base/exact.h"
#include "engine/head/head.h"
#include "engine/head/query.h"
#include "engine/head/sampler.h"

namespace thimble::head {

std::array<Need, 9> Needs(const formats::ModelFile& model, const formats::Index* screen, bool keep_logits) {
  const ModelShape& s = model.shape;
  const bool is_q8 = model.tensor({TensorKind::kLmHead, 0}).type == DType::kQ8_0;
  const auto section = [&](formats::Section id) { return screen != nullptr ? screen->section(id).bytes : 0; };
  const uint64_t query =
      screen == nullptr ? 0 : QueryStateBytes(s.hidden_size) + (is_q8 ? uint64_t{s.hidden_size} * sizeof(float) : 0);
  const uint64_t tables = screen == nullptr ? 0 : QueryTableBytes(screen->screen.most_part_bytes());
  const bool is_in_parts = screen != nullptr && screen->screen.num_parts > 1;
  constexpr Regions kFlashLast = {{Region::kPsram, Region::kFlash, Region::kSram}, 3};
  using enum BufferId;
  return {
      {{.id = kHeadRows, .regions = kInternalFirst, .is_hot = true, .bytes = 2 * uint64_t{kBlockRows} * sizeof(float)},
       {.id = kScreenTables, .regions = kInternalFirst, .is_hot = true, .bytes = tables},
       {.id = kScreenQuery, .regions = kInternalFirst, .is_hot = true, .bytes = query},
       {.id = kScreenVectors,
        .regions = kInternalFirst,
        .is_hot = true,
        .bytes = section(formats::Section::kMean) + section(formats::Section::kGroupChecks)},
       {.id = kScreenSums, .regions = kPsramFirst, .bytes = is_in_parts ? uint64_t{s.vocab_size} * sizeof(int32_t) : 0},
       {.id = kScreenTransform, .regions = kFlashLast, .bytes = section(formats::Section::kTransform)},
       {.id = kLogits, .regions = kPsramFirst, .bytes = keep_logits ? uint64_t{s.vocab_size} * sizeof(float) : 0},
       {.id = kScreenFlash, .regions = Only(Region::kFlash), .bytes = 0},
       {.id = kScreenPsram, .regions = Only(Region::kPsram), .bytes = 0}}};
}

std::array<Need, 2> SamplerNeeds(uint64_t candidate_bytes, uint64_t penalised_ids) {
  return {{{.id = BufferId::kCandidates, .regions = kInternalFirst, .is_hot = true, .bytes = candidate_bytes},
           {.id = BufferId::kPenalised, .regions = kInternalFirst, .bytes = penalised_ids * sizeof(TokenId)}}};
}

Need CandidatesNeed(uint32_t candidates) {
  static_assert(sizeof(Bounded) == 24);  // on every target
  return {.id = BufferId::kScratch,
          .regions = kPsramFirst,
          .lifetime = Lifetime::kStep,
          .bytes = candidates * uint64_t{sizeof(Bounded)}};
}

uint32_t MinCandidates(bool sampler_keeps_several, const formats::ScreenInfo& screen) {
  constexpr uint32_t kMin = 256;
  constexpr uint32_t kMost = 1024;
  constexpr uint32_t kSurvivors = 3;  // that a candidate's memory holds
  const auto sampler = sampler_keeps_several ? formats::MeasuredSampler::kDefault : formats::MeasuredSampler::kGreedy;
  const uint32_t left = screen.uses[static_cast<size_t>(sampler)].survivors_most / kSurvivors + 1;
  return std::min(std::clamp(left, kMin, kMost), screen.num_candidates);
}

}  // namespace thimble::head
