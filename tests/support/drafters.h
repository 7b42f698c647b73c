// Drafters for tests: those that know what comes, those that never do, and those that mean harm.
#ifndef THIMBLE_TESTS_SUPPORT_DRAFTERS_H_
#define THIMBLE_TESTS_SUPPORT_DRAFTERS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "engine/base/tensor.h"
#include "engine/draft/drafter.h"

namespace thimble::tests {

// What a drafter does with the ids that really come, if it is told them.
enum class Guesses : uint8_t {
  kNothing,
  kRight,      // always
  kWrong,      // never
  kAtTimes,    // right up to a place that changes, wrong from there on
  kRandom,     // any ids, as many as it likes
  kNoIds,      // ids that there are not
  kTooMany,    // right, and says that it wrote more than there was room for
  kRightLate,  // wrong, and right after that
};
inline constexpr Guesses kAllGuesses[] = {Guesses::kNothing, Guesses::kRight, Guesses::kWrong,   Guesses::kAtTimes,
                                          Guesses::kRandom,  Guesses::kNoIds, Guesses::kTooMany, Guesses::kRightLate};

class TestDrafter final : public draft::Drafter {
 public:
  // `text`: all that will be the context, the prompt included.
  TestDrafter(Guesses guesses, std::span<const TokenId> text, uint32_t vocab_size)
      : guesses_(guesses), text_(text.begin(), text.end()), vocab_size_(vocab_size) {}

  size_t Guess(std::span<const TokenId> text, std::span<TokenId> out) override {
    ++asked;
    if (text.size() > text_.size() || !std::equal(text.begin(), text.end(), text_.begin())) ++strayed;
    if (guesses_ == Guesses::kNothing) return 0;
    size_t n = out.size();
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t at = text.size() + i;
      const TokenId right = at < text_.size() ? text_[at] : 0;
      const TokenId wrong = (right + 1) % vocab_size_;
      const auto any = static_cast<TokenId>(random_());
      switch (guesses_) {
        case Guesses::kWrong:
          out[i] = wrong;
          break;
        case Guesses::kAtTimes:
          out[i] = i < text.size() % (out.size() + 1) ? right : wrong;
          break;
        case Guesses::kRandom:
          out[i] = any % vocab_size_;
          n = any % (out.size() + 1);
          break;
        case Guesses::kNoIds:
          out[i] = i == 0 && any % 2 == 0 ? right : any % 3 == 0 ? vocab_size_ : any | 0x80000000;
          break;
        case Guesses::kRightLate:
          out[i] = i == 0 ? wrong : right;
          break;
        default:
          out[i] = right;
      }
    }
    return guesses_ == Guesses::kTooMany ? n + 1000 : n;
  }

  uint64_t asked = 0;
  uint64_t strayed = 0;  // times the text was another one

 private:
  Guesses guesses_;
  std::vector<TokenId> text_;
  uint32_t vocab_size_;
  std::mt19937 random_;
};

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_DRAFTERS_H_
