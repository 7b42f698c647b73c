// The table of drafts in a model's index: docs/formats/index.md.
#ifndef THIMBLE_HOST_MODELS_DRAFT_TABLE_H_
#define THIMBLE_HOST_MODELS_DRAFT_TABLE_H_

#include <span>
#include <vector>

#include "engine/base/tensor.h"
#include "engine/formats/index_file.h"

namespace thimble::host {

// Of texts: which token followed each context of up to kDraftOrder tokens most often, the lower id of equals, where the
// context came twice at least and a shorter one does not say the same. The same texts give the same table.
std::vector<formats::DraftEntry> MakeDraftTable(std::span<const std::vector<TokenId>> texts);

// What guesses by such a table come to, on some of the texts by a table of the others; zeros for fewer than eight.
formats::DraftUse MeasureDrafts(std::span<const std::vector<TokenId>> texts);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_DRAFT_TABLE_H_
