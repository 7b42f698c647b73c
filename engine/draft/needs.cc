#include "engine/draft/needs.h"

namespace thimble::draft {

Need TableNeed(const formats::Index* index) {
  return {.id = BufferId::kDraftTable,
          .regions = kPsramFirst,
          .bytes = index == nullptr ? 0 : index->section(formats::Section::kDrafts).bytes};
}

}  // namespace thimble::draft
