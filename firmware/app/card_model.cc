#include "firmware/app/card_model.h"

#include <algorithm>

namespace thimble::firmware {
namespace {

// What the card or its driver is to blame for, as opposed to what a file holds.
bool IsCardFailure(Code code) { return code == Code::kIo || code == Code::kTimeout || code == Code::kCancelled; }

}  // namespace

Result<void> CardModel::MountVolume() {
  const Result<void> found = machine_->card() == nullptr ? machine_->MountCard() : Result<void>();
  is_in_flash_ = !found && found.error().code == Code::kNotFound && machine_->model_partition() != nullptr;
  if (!found && !is_in_flash_) return found;
  device_ = is_in_flash_ ? machine_->model_partition() : machine_->card();
  const Result<void> mounted = volume_.Mount(*device_);
  if (mounted || !is_in_flash_) return mounted;
  // Nobody wrote the partition: what is missing is a card.
  is_in_flash_ = false;
  return found;
}

// Leaves the model's name and entry.
Result<void> CardModel::FindModel(std::string_view name) {
  THIMBLE_TRY(MountVolume());
  bool found = false;
  THIMBLE_TRY(ForEntries([&](const storage::DirEntry& entry, bool is_folder) {
    found = name.empty() || storage::SameName(entry.name.data(), name);
    if (found) {
      name_ = {.text = entry.name, .is_folder = is_folder};
      entry_ = entry;
    }
    return !found;
  }));
  if (found) return {};
  if (is_in_flash_) {
    return Fail(Error{.code = Code::kNotFound,
                      .what = "there is no card, and flash has no model '{name}'; 'ls' shows what it has"}
                    .Named(name));
  }
  if (name.empty()) {
    return Fail({.code = Code::kNotFound,
                 .what = "the card has no model in its root folder: copy a .gguf file or a tensor folder there"});
  }
  return Fail(
      Error{.code = Code::kNotFound, .what = "the card has no model {name}; 'ls' shows those it has"}.Named(name));
}

// The files of a tensor folder, which take up to 31 KB of the roomiest memory.
Result<void> CardModel::MapFolder() {
  Arena& arena = roomy();
  const uint64_t before = arena.used_bytes();
  THIMBLE_ASSIGN(const std::span<formats::FolderFile> files,
                 arena.Take<formats::FolderFile>(formats::FolderFileCount(formats::kUsualFolderLayers)));
  THIMBLE_ASSIGN(const std::span<storage::Extent> extents, arena.Take<storage::Extent>(formats::kMaxFolderPieces));
  board_.capacity_bytes[static_cast<size_t>(arena.region())] -= arena.used_bytes() - before;
  folder_ = formats::ModelFolder(files);
  THIMBLE_ASSIGN(map_, formats::MapFolder(volume_.volume(), entry_, folder_, extents));
  return {};
}

Result<void> CardModel::OpenIndex() {
  std::array<char, 256> name;
  const Result<storage::DirEntry> entry =
      volume_.Find(formats::BesideModel(name_.text.data(), formats::kIndexExtension, name));
  if (!entry) return entry.error().code == Code::kNotFound ? Result<void>() : std::unexpected(entry.error());
  THIMBLE_ASSIGN(index_map_, volume_.volume().MapFile(*entry, index_extents_));
  const Result<void> opened = opening_->OpenIndex(*observed_, index_map_);
  if (!opened && IsCardFailure(opened.error().code)) return opened;
  if (!opened) index_note_ = opened.error();
  return {};
}

Result<void> CardModel::ReadPlanFile() {
  std::array<char, 256> name;
  Arena& arena = roomy();
  const uint64_t mark = arena.used_bytes();
  THIMBLE_ASSIGN(const std::span<char> memory, arena.Take<char>(plan::kMaxPlanFileBytes));
  const Result<std::string_view> text =
      volume_.ReadText(formats::BesideModel(name_.text.data(), formats::kPlanExtension, name), memory);
  arena.Release(mark);
  if (!text) {
    if (IsCardFailure(text.error().code)) return std::unexpected(text.error());
    if (text.error().code != Code::kNotFound) plan_note_ = text.error();
    return {};
  }
  const Result<plan::PlanFile> file = plan::ParsePlanFile(*text);
  if (!file) {
    plan_note_ = file.error();
  } else if (file->board != board_.name) {
    plan_note_ = Error{.code = Code::kInvalidArgument,
                       .what = "the plan file beside the model is for the board {name}, and is not used"}
                     .Named(file->board);
  } else {
    plan_file_ = file->options;
  }
  return {};
}

// Of a card; nothing is written yet.
void CardModel::FindSwapFile() {
  if (is_in_flash_) return;
  const Result<storage::DirEntry> entry = volume_.Find(storage::kSwapFileName);
  if (!entry) return;
  swap_entry_ = *entry;
  const Result<storage::FileMap> map = volume_.volume().MapFile(swap_entry_, swap_extents_);
  if (map) {
    swap_map_ = *map;
  } else {
    swap_note_ = map.error();
  }
}

// Through the memory that tiles are in later.
Result<void> CardModel::OpenSwapFile() {
  constexpr uint64_t kScratchBytes = 8192;
  Arena& arena = ArenaOf(machine_->arenas(), Region::kSramDma);
  const uint64_t mark = arena.used_bytes();
  THIMBLE_ASSIGN(const std::span<std::byte> scratch, arena.Take<std::byte>(kScratchBytes));
  arena.Release(mark);
  const Crc32c crc32c = machine_->kernels().crc32c;
  THIMBLE_ASSIGN(const uint32_t check, volume_.volume().TablesCheck(swap_entry_, swap_map_, scratch, crc32c));
  THIMBLE_ASSIGN(
      swap_, storage::SwapFile::Open(*observed_, swap_map_, ledger_, &machine_->interrupted(), scratch, crc32c, check));
  return {};
}

Result<void> CardModel::OpenFiles() {
  if (is_in_flash_) {
    observed_.emplace(*device_, ledger_);
  } else {
    observed_.emplace(*machine_->card(), ledger_);
  }
  if (name_.is_folder) {
    THIMBLE_TRY(MapFolder());
  } else {
    THIMBLE_ASSIGN(map_, volume_.volume().MapFile(entry_, extents_));
  }
  opening_.emplace(machine_->arenas(), machine_->kernels(), ledger_, &machine_->interrupted());
  THIMBLE_TRY(opening_->OpenFile(*observed_, map_, name_.is_folder ? &folder_ : nullptr));
  THIMBLE_TRY(OpenIndex());
  FindSwapFile();
  return ReadPlanFile();
}

Result<void> CardModel::Open(std::string_view name) {
  Close();
  // Perhaps another card is in the slot now.
  Result<void> opened = FindModel(name);
  if (!opened && opened.error().code != Code::kUnsupported && !is_in_flash_) {
    THIMBLE_TRY(machine_->MountCard());
    opened = FindModel(name);
  }
  if (opened) opened = OpenFiles();
  if (!opened) Close();
  return opened;
}

Result<void> CardModel::ReadSector(std::span<std::byte> out) {
  storage::FileReader& reader = opening_->reader();
  THIMBLE_TRY(reader.Start(0, std::min<uint64_t>(out.size(), reader.file_size_bytes()), out));
  THIMBLE_TRY(reader.Wait());
  return {};
}

Result<plan::Plan> CardModel::Plan(const plan::PlanOptions& wanted, const StartOptions& options) {
  plan::PlanOptions chosen = wanted;
  // A plan made for the profile's board, on one with less.
  chosen.tile_buffer_bytes = std::min(chosen.tile_buffer_bytes, board_.tile_buffer_bytes);
  if (options.n_ctx != 0) chosen.n_ctx = options.n_ctx;
  if (options.head != plan::HeadMode::kAuto) chosen.head = options.head;
  chosen.keep_logits = options.keep_logits;
  const auto swap_bytes = static_cast<uint32_t>(swap_map_.size_bytes);
  chosen.swap_bytes = chosen.swap_bytes == 0 ? swap_bytes : std::min(chosen.swap_bytes, swap_bytes);
  if (chosen.tiles == plan::TileMode::kBounced) chosen.swap_bytes = 0;
  const auto plan = [&] { return opening_->Plan(board_, chosen, options.sampler); };
  Result<plan::Plan> made = plan();
  if (made || made.error().code != Code::kOutOfMemory || chosen.n_ctx != 0) return made;
  chosen.n_ctx = opening_->LargestContext(board_, chosen, options.sampler);
  return chosen.n_ctx == 0 ? made : plan();
}

Result<plan::Plan> CardModel::MakePlan(const StartOptions& options) {
  if (plan_file_) {
    Result<plan::Plan> made = Plan(*plan_file_, options);
    if (made) return made;
    plan_note_ = made.error();
  }
  return Plan({}, options);
}

Result<void> CardModel::Start(const StartOptions& options) {
  if (!is_open()) return Fail({.code = Code::kInvalidArgument, .what = "no model is open: choose one with 'use'"});
  EndSession();
  THIMBLE_ASSIGN(plan_, MakePlan(options));
  if (plan_.swaps() && !swap_) {
    if (const Result<void> opened = OpenSwapFile(); !opened) {
      if (opened.error().code == Code::kCancelled) return opened;
      swap_note_ = opened.error();
      swap_map_ = {};
      THIMBLE_ASSIGN(plan_, MakePlan(options));
    }
  }
  return StartPlanned();
}

Result<void> CardModel::StartBy(const plan::Plan& plan) {
  EndSession();
  plan_ = plan;
  if (plan_.swaps() && !swap_) THIMBLE_TRY(OpenSwapFile());
  return StartPlanned();
}

Result<void> CardModel::StartPlanned() {
  SessionParts parts = opening_->PartsFor(plan_);
  parts.workers = workers_;
  parts.flash = machine_->flash();
  if (swap_) parts.swap = &*swap_;
  THIMBLE_ASSIGN(session_, opening_->Start(parts));
  ++starts_;
  return {};
}

void CardModel::Close() {
  session_ = nullptr;
  opening_.reset();
  index_note_.reset();
  plan_note_.reset();
  swap_note_.reset();
  swap_.reset();
  plan_file_.reset();
  folder_ = {};
  map_ = index_map_ = swap_map_ = {};
  ledger_ = {};
  board_ = machine_->board();
  for (Arena& arena : machine_->arenas()) arena.Release(0);
}

const char* CardModel::hint() const {
  if (index() != nullptr) return nullptr;
  return "there is no index beside the model: 'thimble prepare' on a computer makes one, with which most of the LM "
         "head "
         "need not be read and every weight that is read is checked";
}

}  // namespace thimble::firmware
