// Memory that a drafter needs.
#ifndef THIMBLE_ENGINE_DRAFT_NEEDS_H_
#define THIMBLE_ENGINE_DRAFT_NEEDS_H_

#include "engine/base/need.h"
#include "engine/formats/index_file.h"

namespace thimble::draft {

// Of the index's table of drafts; `index`: null if it is not used.
Need TableNeed(const formats::Index* index);

}  // namespace thimble::draft

#endif  // THIMBLE_ENGINE_DRAFT_NEEDS_H_
