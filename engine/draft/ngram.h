// Guesses from the index's table of what the model writes: the token that followed most often, of the longest context
// that the table has. For models whose texts are alike; 'thimble prepare --draft-tokens' makes it.
#ifndef THIMBLE_ENGINE_DRAFT_NGRAM_H_
#define THIMBLE_ENGINE_DRAFT_NGRAM_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/tensor.h"
#include "engine/draft/drafter.h"
#include "engine/formats/index_file.h"

namespace thimble::draft {

class Ngram final : public Drafter {
 public:
  Ngram() = default;
  // `table` outlives this. Any numbers do no harm. A guess is given that comes in `worth_percent` of 100 times at
  // least, by the table.
  Ngram(std::span<const formats::DraftEntry> table, uint32_t worth_percent)
      : table_(table), worth_percent_(worth_percent) {}

  // As long as it knows what follows; a guess goes on from the one before it.
  size_t Guess(std::span<const TokenId> text, std::span<TokenId> out) override;

 private:
  const formats::DraftEntry* Find(std::span<const TokenId> context) const;

  std::span<const formats::DraftEntry> table_;
  uint32_t worth_percent_ = 0;
};

}  // namespace thimble::draft

#endif  // THIMBLE_ENGINE_DRAFT_NGRAM_H_
