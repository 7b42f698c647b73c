#include "engine/model_drafter.h"

namespace thimble {

size_t ModelDrafter::Guess(std::span<const TokenId> text, std::span<TokenId> out) {
  if (fault_ || text.size() > session_->n_ctx()) return 0;
  const ZoneCounts before = own_->total();
  const uint64_t retries = own_->retries, reinitialised = own_->reinitialised;
  own_->events = whole_->events == nullptr ? nullptr : this;
  const size_t guessed = Write(text, out);
  own_->events = nullptr;
  whole_->zones[static_cast<size_t>(Zone::kDraft)] += own_->total().Since(before);
  whole_->retries += own_->retries - retries;
  whole_->reinitialised += own_->reinitialised - reinitialised;
  return guessed;
}

size_t ModelDrafter::Write(std::span<const TokenId> text, std::span<TokenId> out) {
  if (const auto read = session_->Replace(text); !read) {
    Keep(read.error());
    return 0;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    const Result<TokenId> next = session_->Next(sampler_);
    if (!next) {
      Keep(next.error());
      return i;
    }
    out[i] = *next;
    if (session_->tokenizer_ref().EndsText(*next)) return i + 1;
  }
  return out.size();
}

// An interrupt ends the text anyway, and a full context is none of its failures.
void ModelDrafter::Keep(const Error& error) {
  if (error.code != Code::kCancelled && error.code != Code::kContextFull) fault_ = error;
}

void ModelDrafter::OnReadStarted(Zone, uint64_t offset_bytes, uint64_t bytes) {
  whole_->events->OnReadStarted(Zone::kDraft, offset_bytes, bytes);
}
void ModelDrafter::OnReadAwaited(Zone) { whole_->events->OnReadAwaited(Zone::kDraft); }
void ModelDrafter::OnReadDone(Zone) { whole_->events->OnReadDone(Zone::kDraft); }
void ModelDrafter::OnWork(Zone, const Work& work) { whole_->events->OnWork(Zone::kDraft, work); }

}  // namespace thimble
