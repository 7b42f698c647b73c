// Stop texts: generation ends where one of them appears, and nothing of it is shown.
#ifndef THIMBLE_ENGINE_TEXT_STOP_MATCHER_H_
#define THIMBLE_ENGINE_TEXT_STOP_MATCHER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/error.h"

namespace thimble::text {

// Passes text through and holds back only what may still turn out to be the beginning of a stop text. What it shows in
// all is the text before the first place where a stop text begins, or all of it, however the text is cut into pushes.
// One thread.
class StopMatcher {
 public:
  // Bytes of memory for these stop texts and pushes of at most `max_push_bytes` at once. 0 without stop texts.
  static uint64_t MemoryBytes(std::span<const std::string_view> stops, size_t max_push_bytes);

  // `stops` and `memory`, MemoryBytes() of it, must outlive this. kInvalidArgument if a stop text is empty or `memory`
  // has no room for them.
  static Result<StopMatcher> Create(std::span<const std::string_view> stops, std::span<char> memory);

  // Adds text, at most max_push_bytes; returns what may be shown now, valid until the next call or, without stop texts,
  // as long as `text`. Once stopped() it returns nothing more. Of several stop texts the one that begins first counts:
  // when one is complete while an earlier beginning of another is not yet decided, it waits. Time per byte is at most
  // the sum of the stop texts' lengths.
  std::string_view Push(std::string_view text);

  // The held-back rest when generation ends for another reason, up to a stop text if one waited in it (stopped() then
  // says so). Valid until the next call. Nothing is held afterwards.
  std::string_view Flush();

  bool stopped() const { return stopped_; }
  // Then: which of the stop texts; one that begins there, where several do.
  size_t stop() const { return stop_; }

 private:
  StopMatcher(std::span<const std::string_view> stops, std::span<char> memory) : stops_(stops), memory_(memory) {}

  std::string_view Show(bool at_end);

  std::span<const std::string_view> stops_;
  std::span<char> memory_;
  size_t begin_ = 0;  // memory_[begin_, end_) is held back
  size_t end_ = 0;
  bool stopped_ = false;
  size_t stop_ = 0;
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_STOP_MATCHER_H_
