#include "engine/text/needs.h"

#include <algorithm>

#include "engine/text/detokenizer.h"

namespace thimble::text {
namespace {

constexpr uint64_t kStopTextBytes = 2048;
constexpr uint64_t kStretchBytesOfPosition = 8;
constexpr uint64_t kPiecesOfStretch = 4;
constexpr uint64_t kUsualPieceBytes = 256;  // no memory is kept for longer ones

}  // namespace

uint64_t HeldBytes(const formats::TokenizerRef& ref) { return kStopTextBytes + 2 * Detokenizer::MemoryBytes(ref); }

uint64_t StretchBytes(const formats::TokenizerRef& ref, uint32_t n_ctx) {
  const uint64_t pieces = kPiecesOfStretch * std::min<uint64_t>(ref.longest_token_bytes, kUsualPieceBytes);
  return std::max(kStretchBytesOfPosition * n_ctx, pieces);
}

std::array<Need, 3> Needs(uint64_t table_bytes, uint64_t cache_bytes, uint64_t held_bytes) {
  return {{{.id = BufferId::kTokenizer, .regions = kPsramFirst, .bytes = table_bytes},
           {.id = BufferId::kTokenizerCache, .regions = Only(Region::kSramDma), .bytes = cache_bytes},
           {.id = BufferId::kText, .regions = kInternalFirst, .bytes = held_bytes}}};
}

Need EncodingNeed(uint64_t work_bytes) {
  return {.id = BufferId::kScratch, .regions = kPsramFirst, .lifetime = Lifetime::kStep, .bytes = work_bytes};
}

}  // namespace thimble::text
