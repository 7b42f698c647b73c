// A plan's choices as text, one `key = value` a line: what `thimble plan -o` writes, `run --plan` takes and a card may
// carry. It holds choices only; buffers, sizes and places are computed again from the model and the board that it is
// used with. Format: docs/formats/plan.md.
#ifndef THIMBLE_ENGINE_PLAN_PLAN_FILE_H_
#define THIMBLE_ENGINE_PLAN_PLAN_FILE_H_

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/plan/plan.h"

namespace thimble::plan {

// A longer file is not a plan.
inline constexpr size_t kMaxPlanFileBytes = 4096;

struct PlanFile {
  std::string_view board;  // name of the board it was made for; a part of the text it was parsed from
  PlanOptions options;
};

// Parses a plan. Refuses with kCorrupt, the line in {have}: lines that are neither empty, a comment (#) nor
// `key = value`; keys that are unknown ({name}) or given twice; values out of range; a file without a board.
Result<PlanFile> ParsePlanFile(std::string_view text);

// Writes `file` as text into `out`, cut to fit; kMaxPlanFileBytes always suffice. Returns its length.
size_t FormatPlanFile(const PlanFile& file, std::span<char> out);

// How keys and values can be stored, exactly first.
inline constexpr std::array kCacheTypes = {DType::kF32, DType::kF16, DType::kQ8_0};
const char* CacheTypeName(DType type);                       // "f32", "f16", "q8_0"; static lifetime
std::optional<DType> ParseCacheType(std::string_view name);  // nothing: it is none of these

// "streamed", "bounced"; static lifetime.
const char* TileModeName(TileMode mode);

}  // namespace thimble::plan

#endif  // THIMBLE_ENGINE_PLAN_PLAN_FILE_H_
