// What a refusal must look like.
#ifndef THIMBLE_FUZZ_SENTENCE_H_
#define THIMBLE_FUZZ_SENTENCE_H_

#include <string_view>

namespace thimble {

// Something, without a full stop. One that ends in a text from the file may have been cut: "...".
inline bool IsSentence(std::string_view text) {
  return !text.empty() && (!text.ends_with('.') || text.ends_with("..."));
}

}  // namespace thimble

#endif  // THIMBLE_FUZZ_SENTENCE_H_
