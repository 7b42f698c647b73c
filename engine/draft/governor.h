// Whether guesses are worth what they cost, in this text.
#ifndef THIMBLE_ENGINE_DRAFT_GOVERNOR_H_
#define THIMBLE_ENGINE_DRAFT_GOVERNOR_H_

#include <algorithm>
#include <cstdint>

namespace thimble::draft {

// Lets guesses be made as long as enough of them come; if not, once in a while only, so that a text for which nobody
// can guess costs little more than without. Counts decide, so it is the same on every target.
class Governor {
 public:
  Governor() = default;
  // `worth_percent`: of 100 guesses, so many must come; 0: none.
  explicit Governor(uint32_t worth_percent) : worth_percent_(static_cast<int32_t>(worth_percent)) {}

  // Whether to guess for the next pass.
  bool Allows() {
    if (credit_ >= 0) return true;
    credit_ += worth_percent_ * kTrial / kPassesOfTrial + 1;
    return false;
  }
  void OnGuessed(uint32_t guesses) { credit_ -= worth_percent_ * static_cast<int32_t>(guesses); }
  void OnAccepted() { credit_ = std::min(credit_ + 100, kMostCredit); }

 private:
  static constexpr int32_t kTrial = 4;           // guesses that are tried
  static constexpr int32_t kPassesOfTrial = 64;  // once in so many passes, where they do not come
  static constexpr int32_t kFirstCredit = 400;   // a text is tried at its beginning
  static constexpr int32_t kMostCredit = 800;    // what came long ago counts no more

  int32_t worth_percent_ = 0;
  int32_t credit_ = kFirstCredit;
};

}  // namespace thimble::draft

#endif  // THIMBLE_ENGINE_DRAFT_GOVERNOR_H_
