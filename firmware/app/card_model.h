// A model on the card, or without a card in flash, from its name to a session: what the console's commands and the
// automatic run begin with.
#ifndef THIMBLE_FIRMWARE_APP_CARD_MODEL_H_
#define THIMBLE_FIRMWARE_APP_CARD_MODEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "engine/base/board.h"
#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/base/workers.h"
#include "engine/formats/card_models.h"
#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/formats/model_folder.h"
#include "engine/head/sampler.h"
#include "engine/opening.h"
#include "engine/plan/plan.h"
#include "engine/plan/plan_file.h"
#include "engine/session.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/swap_file.h"
#include "engine/storage/volume.h"
#include "engine/stream/observed_device.h"
#include "firmware/app/machine.h"
#include "firmware/app/volume.h"

namespace thimble::firmware {

// What a model is called on the card, and whether it is a tensor folder.
struct ModelName {
  std::array<char, 256> text = {};
  bool is_folder = false;
};

// What may be chosen when a session starts; what is left out is the plan file's or the plan's own.
struct StartOptions {
  uint32_t n_ctx = 0;  // 0: as much as the board has memory for, up to the model's
  plan::HeadMode head = plan::HeadMode::kAuto;
  bool keep_logits = false;
  head::SamplerOptions sampler = {};
};

// One model at a time, in the machine's arenas. Some 8 KB: static, and as MountedVolume says in memory for the card's
// DMA. One task.
class CardModel {
 public:
  // `workers`: the other core, or null. Both outlive this.
  CardModel(Machine& machine, Workers* workers) : machine_(&machine), workers_(workers) {}

  // Calls visit(name) for the models in the root folder: GGUF files, then tensor folders; stops when it returns false.
  // Mounts the card if it was not. A session may be open.
  template <class Visit>
  Result<void> ForModels(Visit&& visit) {
    THIMBLE_TRY(MountVolume());
    return ForEntries([&](const storage::DirEntry& entry, bool is_folder) {
      return visit(ModelName{.text = entry.name, .is_folder = is_folder});
    });
  }

  // Where there is no card, the card's place is taken by the partition for a model (Machine::model_partition()), if
  // there is a volume in it. A card that is put in later is found by the next Open().
  bool is_in_flash() const { return is_in_flash_; }

  // Opens the model of this name (the case of the letters A to Z does not matter), or, when it is empty, the only one
  // or the first; Close()s the one that is open. Mounts the card if it was not, and anew if the model cannot be found.
  // Reads the header, the index's beside it and the plan file's. kNotFound: no card, or no model on it.
  Result<void> Open(std::string_view name);
  bool is_open() const { return opening_.has_value(); }

  // Plans the open model and opens a session in the machine's arenas; the session before is gone. A plan file that does
  // not fit this board is left aside (plan_note()). If n_ctx is 0 and the model's context does not fit, it becomes the
  // largest that does; a swap file on the card counts as room. One that cannot be used is left aside (swap_note()).
  Result<void> Start(const StartOptions& options);
  // Its plan; and a session by a plan that was so made.
  Result<plan::Plan> MakePlan(const StartOptions& options);
  Result<void> StartBy(const plan::Plan& plan);

  // Gives all memory back. Nothing of the model or the session may be used afterwards.
  void Close();

  // Of the open model.
  const ModelName& name() const { return name_; }
  const formats::ModelFile& model() const { return opening_->model(); }
  const formats::Index* index() const { return opening_ ? opening_->index() : nullptr; }
  // What is wrong with an index or a plan file that is beside the model and not used; null: nothing.
  const Error* index_note() const { return index_note_ ? &*index_note_ : nullptr; }
  const Error* plan_note() const { return plan_note_ ? &*plan_note_ : nullptr; }
  // Why a swap file of the card is not used; null: it is, or is not needed, or there is none.
  const Error* swap_note() const { return swap_note_ ? &*swap_note_ : nullptr; }
  bool has_plan_file() const { return plan_file_.has_value(); }
  uint64_t file_bytes() const { return map_.size_bytes; }
  size_t pieces() const { return map_.extents.size(); }  // of the file on the card
  uint32_t block_bytes() const { return device_->geometry().block_bytes; }
  const Board& board() const { return board_; }  // what is left of the machine's for it
  Ledger& ledger() { return ledger_; }

  // A file of the card's root folder beside the models. Mounts the card if it was not.
  Result<std::string_view> ReadText(std::string_view name, std::span<char> out) {
    THIMBLE_TRY(MountVolume());
    return volume_.ReadText(name, out);
  }

  // Whether there is such a file. Fails where it cannot be known. Mounts the card if it was not.
  Result<bool> HasFile(std::string_view name) {
    THIMBLE_TRY(MountVolume());
    const Result<storage::DirEntry> entry = volume_.Find(name);
    if (entry) return true;
    return entry.error().code == Code::kNotFound ? Result<bool>(false) : std::unexpected(entry.error());
  }

  // The first sector of the open model's file, raw, into memory that the card can be read into, of one sector.
  Result<void> ReadSector(std::span<std::byte> out);

  // Calls visit(bytes) with the bytes of the open model's file, a storage::ByteReader, and returns what it does. Ends
  // the session, if there is one: the reader's buffer lies where its tiles were.
  template <class Visit>
  auto ReadFile(Visit&& visit) -> decltype(visit(std::declval<storage::ByteReader&>())) {
    EndSession();
    Arena& arena = ArenaOf(machine_->arenas(), Region::kSramDma);
    const uint64_t mark = arena.used_bytes();
    THIMBLE_ASSIGN(const std::span<std::byte> buffer, arena.Take<std::byte>(kReadBytes));
    storage::ByteReader bytes(opening_->reader(), buffer);
    auto result = visit(bytes);
    arena.Release(mark);
    return result;
  }

  // How many sessions were started: whoever has one knows by it whether that is still the one that there is.
  uint32_t starts() const { return starts_; }

  // After Start().
  bool is_started() const { return session_ != nullptr; }
  const plan::Plan& plan() const { return plan_; }
  Session& session() { return *session_; }

  // One line for people on what 'thimble prepare' would gain this model; null: it has an index that is used.
  const char* hint() const;

 private:
  static constexpr size_t kReadBytes = 8192;

  template <class Visit>
  Result<void> ForEntries(Visit visit) {
    bool goes_on = true;
    THIMBLE_TRY(volume_.volume().ListRoot([&](const storage::DirEntry& entry) {
      if (formats::IsModelName(entry.name.data())) goes_on = visit(entry, false);
      return goes_on;
    }));
    if (!goes_on) return {};
    return volume_.volume().ListRootFolders([&](const storage::DirEntry& entry) {
      if (formats::HoldsModel(volume_.volume(), entry).value_or(false)) goes_on = visit(entry, true);
      return goes_on;
    });
  }

  Result<void> MountVolume();
  Result<void> FindModel(std::string_view name);
  Result<void> MapFolder();
  Result<void> OpenFiles();
  void FindSwapFile();
  Result<void> OpenSwapFile();
  Result<void> OpenIndex();
  Result<void> ReadPlanFile();
  Result<plan::Plan> Plan(const plan::PlanOptions& wanted, const StartOptions& options);
  Result<void> StartPlanned();
  void EndSession() {
    session_ = nullptr;
    opening_->EndSession();
  }
  Arena& roomy() {
    return ArenaOf(machine_->arenas(), board_.capacity(Region::kPsram) != 0 ? Region::kPsram : Region::kSram);
  }

  Machine* machine_;
  Workers* workers_;
  MountedVolume volume_;
  storage::BlockDevice* device_ = nullptr;  // the card, or the partition for a model
  bool is_in_flash_ = false;
  Board board_;
  ModelName name_;
  storage::DirEntry entry_;  // of it
  Ledger ledger_;
  std::array<storage::Extent, storage::kUsualExtents> extents_;
  std::array<storage::Extent, storage::kUsualExtents> index_extents_;
  std::array<storage::Extent, storage::kUsualExtents> swap_extents_;
  formats::ModelFolder folder_;
  storage::DirEntry swap_entry_;
  storage::FileMap map_, index_map_, swap_map_;     // of no bytes: there is none
  std::optional<stream::ObservedDevice> observed_;  // around the device
  std::optional<storage::SwapFile> swap_;
  std::optional<Opening> opening_;
  std::optional<Error> index_note_, plan_note_, swap_note_;
  std::optional<plan::PlanOptions> plan_file_;
  plan::Plan plan_;
  Session* session_ = nullptr;
  uint32_t starts_ = 0;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_CARD_MODEL_H_
