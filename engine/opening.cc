#include "engine/opening.h"

namespace thimble {

void Opening::Mark() {
  for (size_t i = 0; i < kNumRegions; ++i) marks_[i] = arenas_[i].used_bytes();
}

Result<void> Opening::OpenFile(storage::BlockDevice& device, const storage::FileMap& file,
                               const formats::ModelFolder* folder) {
  reader_.emplace(device, file, *ledger_, cancel_);
  THIMBLE_ASSIGN(model_, OpenModel(*reader_, arenas_, folder));
  Mark();
  return {};
}

Result<void> Opening::OpenIndex(storage::BlockDevice& device, const storage::FileMap& file) {
  index_reader_.emplace(device, file, *ledger_, cancel_);
  THIMBLE_ASSIGN(index_, OpenModelIndex(*reader_, *index_reader_, model_, *kernels_, arenas_));
  Mark();
  return {};
}

SessionParts Opening::PartsFor(const plan::Plan& plan) {
  return {.model = &model_,
          .plan = &plan,
          .reader = &*reader_,
          .kernels = kernels_,
          .index = index(),
          .index_reader = index_reader()};
}

void Opening::EndSession() {
  for (size_t i = 0; i < kNumRegions; ++i) arenas_[i].Release(marks_[i]);
}

Result<Session*> Opening::Start(const SessionParts& parts) {
  EndSession();
  return Session::Open(parts, arenas_);
}

}  // namespace thimble
