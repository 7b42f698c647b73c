#include "engine/text/needs.h"

#include "engine/text/detokenizer.h"

namespace thimble::text {
namespace {

constexpr uint64_t kStopTextBytes = 2048;

}  // namespace

uint64_t HeldBytes(const formats::TokenizerRef& ref) { return kStopTextBytes + 2 * Detokenizer::MemoryBytes(ref); }

std::array<Need, 3> Needs(uint64_t table_bytes, uint64_t cache_bytes, uint64_t held_bytes) {
  return {{{BufferId::kTokenizer, kPsramFirst, table_bytes},
           {BufferId::kTokenizerCache, Only(Region::kSramDma), cache_bytes},
           {BufferId::kText, kInternalFirst, held_bytes}}};
}

Need EncodingNeed(uint64_t work_bytes) {
  return {.id = BufferId::kScratch, .regions = kPsramFirst, .bytes = work_bytes, .lifetime = Lifetime::kStep};
}

}  // namespace thimble::text
