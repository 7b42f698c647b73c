// A model on a card, a prompt, and its text piece by piece: the engine for a program that needs no more than that.
//
//   Story story(card, {.dma = dma, .sram = sram, .psram = psram});   // memory of the caller's
//   story.Open() -> story.Prompt("Once upon a time") -> story.Next(), story.Next(), ... until it is empty
//
// docs/library.md shows it on four systems; engine/thimble.h is the same for C. Behind it are engine/opening.h and
// engine/session.h, for a program that needs more: other cores, flash, token ids, conversations.
#ifndef THIMBLE_ENGINE_STORY_H_
#define THIMBLE_ENGINE_STORY_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/formats/card_models.h"
#include "engine/generate.h"
#include "engine/head/sampler.h"
#include "engine/opening.h"
#include "engine/plan/plan.h"
#include "engine/storage/block_device.h"

namespace thimble {

// All the memory that a Story ever uses, but for itself and 8 KB of stack. Each is aligned to 16 bytes and outlives it.
struct StoryMemory {
  std::span<std::byte> dma;    // internal memory that the card's driver can write; two tiles lie in it
  std::span<std::byte> sram;   // internal memory; what `dma` has left over is used like it
  std::span<std::byte> psram;  // slower and more; may be empty
};

struct StoryOptions {
  std::string_view model = {};        // its file's name in the card's root folder; empty: the first
  uint32_t n_ctx = 0;                 // tokens of prompt and text together; 0: as many as there is room for
  head::SamplerOptions sampler = {};  // how the next token is chosen; the same seed gives the same text
  bool use_index = true;              // the model's index (`thimble prepare`), where the card has it
};

// One model, one text at a time. Nothing is allocated. Stays where it is, in memory of any kind (sizeof: some KB). One
// thread, but for Stop().
class Story {
 public:
  // A card with a FAT32 or exFAT volume, or its image, or all of a GGUF file. Refers to it.
  Story(storage::BlockDevice& card, const StoryMemory& memory);
  Story(const Story&) = delete;
  Story& operator=(const Story&) = delete;

  // Finds the model, plans its memory and loads what stays there. May be called again, with another card in the slot.
  // Fails with kNotFound if there is no model, kOutOfMemory if it has no room, kUnsupported for a model that the engine
  // does not run, or where a compiler took liberties with its arithmetic (math::ComputesExactly()), and as reads do.
  Result<void> Open(const StoryOptions& options = {});

  // Begins a text: forgets the one before and runs the prompt, at most `n_predict` tokens to follow it (negative: until
  // the model or the context ends). The prompt is not needed afterwards. Fails as Session::Tokenize() and Prefill().
  Result<void> Prompt(std::string_view text, int64_t n_predict = -1);

  // What follows, as whole UTF-8 characters, valid until the next call. Empty: the text has ended, for the reason().
  // After an I/O error the text can be begun again.
  Result<std::string_view> Next();
  StopReason reason() const { return generation_ ? generation_->result().reason : StopReason::kLimit; }

  // Ends the text, and an Open() or Prompt() that is going on (kCancelled): from another thread or an interrupt. The
  // next Open() or Prompt() begins anew.
  void Stop() { stopped_.store(true); }

  // Null before Open().
  Session* session() { return session_; }
  const plan::Plan& plan() const { return plan_; }
  const Ledger& ledger() const { return ledger_; }

 private:
  Result<void> FindFiles(std::string_view model);
  Result<void> Load(const StoryOptions& options);

  storage::BlockDevice* card_;
  StoryMemory memory_;
  Board board_;
  std::array<Arena, kNumRegions> arenas_;
  std::atomic<bool> stopped_ = false;
  Ledger ledger_;
  storage::Extent whole_;
  formats::CardFile model_, index_;
  bool has_index_ = false;
  std::optional<Opening> opening_;
  plan::Plan plan_;
  Session* session_ = nullptr;
  head::SamplerOptions sampler_;
  std::optional<Generation> generation_;
};

}  // namespace thimble

#endif  // THIMBLE_ENGINE_STORY_H_
