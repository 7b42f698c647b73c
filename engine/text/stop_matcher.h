// Stop texts: generation ends where one of them appears, and nothing of it is shown.
#ifndef THIMBLE_ENGINE_TEXT_STOP_MATCHER_H_
#define THIMBLE_ENGINE_TEXT_STOP_MATCHER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/arena.h"
#include "engine/base/error.h"

namespace thimble::text {

// Passes text through and holds back only what may still turn out to be the beginning of a stop text.
class StopMatcher {
 public:
  // Bytes of `memory` that Create() needs for the longest stop text and pushes of at most `max_push_bytes` at once.
  static uint64_t MemoryBytes(std::span<const std::string_view> stops, size_t max_push_bytes);

  // `stops` (not empty strings; kInvalidArgument) and `memory` must outlive this.
  static Result<StopMatcher> Create(std::span<const std::string_view> stops, std::span<char> memory);

  // Adds text; returns what may be shown now, valid until the next call. Once stopped() it returns nothing more. Of
  // several stop texts the one that begins first counts.
  std::string_view Push(std::string_view text);

  // The held-back rest when generation ends for another reason.
  std::string_view Flush();

  bool stopped() const { return stopped_; }

 private:
  std::span<const std::string_view> stops_;
  std::span<char> memory_;
  size_t held_ = 0;
  bool stopped_ = false;
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_STOP_MATCHER_H_
