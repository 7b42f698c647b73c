// A model on a block device, opened inside a board's memory: what the tool does before it generates, for tests.
#ifndef THIMBLE_TESTS_SUPPORT_OPEN_MODEL_H_
#define THIMBLE_TESTS_SUPPORT_OPEN_MODEL_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "engine/base/ledger.h"
#include "engine/formats/gguf.h"
#include "engine/math/kernels.h"
#include "engine/opening.h"
#include "engine/plan/plan.h"
#include "engine/session.h"
#include "engine/storage/block_device.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/flash.h"
#include "engine/storage/swap_file.h"

namespace thimble::tests {

// A model and all it needs but the device, which must outlive it. Stays where it is: the session points into it.
class OpenModel {
 public:
  struct Options {
    Board board = kEsp32Cam;
    plan::PlanOptions plan = {};
    bool keep_logits = true;  // whatever the plan says
    const math::Kernels* kernels = &math::BestKernels();
    Workers* workers = nullptr;
    const formats::ModelFolder* folder = nullptr;        // of a tensor folder
    head::SamplerOptions sampler = {};                   // that the plan is for
    storage::BlockDevice* index = nullptr;               // all of it is the model's index
    storage::Flash* flash = nullptr;                     // in place of the board's memory of Region::kFlash
    draft::Drafter* drafter = nullptr;                   // for plan::DraftMode::kGiven
    storage::WritableDevice* swap = nullptr;             // all of it is a swap file, which gets its header here
    std::span<const storage::Extent> swap_extents = {};  // in place of all of it
    std::optional<std::byte> left_over = {};             // what all memory holds before; empty: whatever it does
  };

  // `extents`: where the model's file lies on the device; empty: the whole device is the file. On failure session() is
  // null and error() says why.
  OpenModel(storage::BlockDevice& device, const Options& options, std::span<const storage::Extent> extents = {});
  OpenModel(const OpenModel&) = delete;
  OpenModel& operator=(const OpenModel&) = delete;

  Session* session() { return session_; }
  const std::string& error() const { return error_; }

  const formats::ModelFile& model() const { return opening_->model(); }
  const plan::Plan& plan() const { return plan_; }
  Ledger& ledger() { return ledger_; }
  void Cancel() { cancel_ = true; }  // as Ctrl-C does
  std::atomic<bool>& cancel() { return cancel_; }
  Arena& arena(Region region) { return arenas_[static_cast<size_t>(region)]; }

 private:
  Result<void> Open(storage::BlockDevice& device, const Options& options);
  Result<void> OpenSwap(const Options& options, plan::PlanOptions& plan);

  std::array<std::unique_ptr<std::byte[]>, kNumRegions> memory_;
  std::array<Arena, kNumRegions> arenas_;
  std::vector<storage::Extent> extents_;
  Ledger ledger_;
  std::atomic<bool> cancel_ = false;
  storage::Extent index_extent_;
  std::vector<storage::Extent> swap_extents_;
  std::optional<storage::SwapFile> swap_;
  std::optional<Opening> opening_;
  plan::Plan plan_;
  Session* session_ = nullptr;
  std::string error_;
};

// 64-bit FNV-1a (Fowler, Noll, Vo) over the bits of floats, to be carried on.
uint64_t HashBits(std::span<const float> values, uint64_t hash = 0xcbf29ce484222325);

// Feeds `prompt` and then `n` greedy ids, and hashes the logits of every position from the prompt's last on. Expects no
// failure.
struct GreedyRun {
  std::vector<TokenId> ids;
  uint64_t logits_hash = 0;
  friend bool operator==(const GreedyRun&, const GreedyRun&) = default;
};
GreedyRun RunGreedy(Session& session, std::span<const TokenId> prompt, int n);

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_OPEN_MODEL_H_
