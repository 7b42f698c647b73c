// From a model's file to a session: what the tool, the boards, tests and examples all go through.
//
//   a block device -> the file on it (formats/card_models.h: on a FAT32 card; or all of it)
//     -> OpenFile(): the model's header -> OpenIndex(): what 'thimble prepare' wrote, if it is there
//     -> Plan(): where everything will be -> Start(): a session
#ifndef THIMBLE_ENGINE_OPENING_H_
#define THIMBLE_ENGINE_OPENING_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/base/workers.h"
#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/formats/model_folder.h"
#include "engine/head/sampler.h"
#include "engine/math/kernels.h"
#include "engine/plan/plan.h"
#include "engine/session.h"
#include "engine/storage/block_device.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/flash.h"

namespace thimble {

// One model in a board's memory. Refers to what it is given; all of it outlives this. Stays where it is: sessions point
// into it. One thread.
class Opening {
 public:
  // `cancel` as for FileReader, or null.
  Opening(Arenas arenas, const math::Kernels& kernels, Ledger& ledger, const std::atomic<bool>* cancel = nullptr)
      : arenas_(arenas), kernels_(&kernels), ledger_(&ledger), cancel_(cancel) {}
  Opening(const Opening&) = delete;
  Opening& operator=(const Opening&) = delete;

  // Opens the model's file, or, with `folder`, the virtual file of a tensor folder. Fails as OpenModel().
  Result<void> OpenFile(storage::BlockDevice& device, const storage::FileMap& file,
                        const formats::ModelFolder* folder = nullptr);

  // Opens the index beside it. After a failure, which is OpenModelIndex()'s, the model is used without.
  Result<void> OpenIndex(storage::BlockDevice& device, const storage::FileMap& file);

  const formats::ModelFile& model() const { return model_; }
  const formats::Index* index() const { return index_ ? &*index_ : nullptr; }  // null: none
  storage::FileReader& reader() { return *reader_; }
  storage::FileReader* index_reader() { return index_ ? &*index_reader_ : nullptr; }  // of index()

  // As PlanSession() and LargestContext(). Pure.
  Result<plan::Plan> Plan(const Board& board, const plan::PlanOptions& options,
                          const head::SamplerOptions& sampler = {}) const {
    return PlanSession(model_, board, reader_->block_bytes(), options, sampler, index());
  }
  uint32_t LargestContext(const Board& board, const plan::PlanOptions& options,
                          const head::SamplerOptions& sampler = {}) const {
    return thimble::LargestContext(model_, board, reader_->block_bytes(), options, sampler, index());
  }

  // What Session::Open() is given, with neither other cores nor flash.
  SessionParts PartsFor(const plan::Plan& plan);

  // Gives back all that was taken from the arenas since the model and its index were opened: a session, if there is
  // one.
  void EndSession();

  // A fresh session; the one before is gone.
  Result<Session*> Start(const SessionParts& parts);
  Result<Session*> Start(const plan::Plan& plan) { return Start(PartsFor(plan)); }

 private:
  void Mark();

  Arenas arenas_;
  const math::Kernels* kernels_;
  Ledger* ledger_;
  const std::atomic<bool>* cancel_;
  std::optional<storage::FileReader> reader_, index_reader_;
  formats::ModelFile model_;
  std::optional<formats::Index> index_;
  std::array<uint64_t, kNumRegions> marks_ = {};  // of the arenas, without a session
};

}  // namespace thimble

#endif  // THIMBLE_ENGINE_OPENING_H_
