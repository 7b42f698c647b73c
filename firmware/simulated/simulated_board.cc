#include "firmware/simulated/simulated_board.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "engine/math/kernels.h"
#include "engine/storage/flash_writer.h"
#include "firmware/app/board_card.h"

// Of the linker: the program's code and constants lie between. On a board they are in flash.
extern "C" const std::byte __executable_start[], __data_start[];

namespace thimble::firmware {
namespace {

size_t WholePages(size_t bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

bool Overlaps(std::span<const std::byte> bytes, const std::byte* begin, const std::byte* end) {
  return bytes.data() + bytes.size() > begin && bytes.data() < end;
}
bool Overlaps(std::span<const std::byte> bytes, const Pages& pages) {
  return Overlaps(bytes, pages.memory().data(), pages.memory().data() + pages.memory().size());
}

}  // namespace

// They end where a page ends, and the one behind it stays out of reach.
Pages::Pages(size_t bytes) : bytes_(WholePages(bytes)) {
  void* const pages = mmap(nullptr, bytes_ + WholePages(1), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) std::abort();
  pages_ = static_cast<std::byte*>(pages);
  memory_ = {pages_ + (bytes_ - bytes), bytes};
  Allow(Access::kWrite);
}

Pages::~Pages() { munmap(pages_, bytes_ + WholePages(1)); }

void Pages::Allow(Access access) {
  constexpr std::array kProtections = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
  if (bytes_ == 0) return;
  if (mprotect(pages_, bytes_, kProtections[static_cast<size_t>(access)]) != 0) std::abort();
}

bool SimulatedSlot::IsTooFast() const {
  if (rung_.bus == CardBus::kSpi) return false;
  return rung_.khz > (rung_.bus == CardBus::k4Bit ? good_4bit_khz : good_1bit_khz);
}

Result<CardIdentity> SimulatedSlot::Connect(const CardRung& rung) {
  ++connections_;
  is_connected_ = false;
  if (rung.bus == CardBus::k1Bit && !has_1bit) {
    return Fail({.code = Code::kUnsupported, .what = "this slot has four lines only"});
  }
  if (contents_ == nullptr) return Fail({.code = Code::kTimeout, .what = "nothing answers"});
  rung_ = rung;
  is_connected_ = true;
  return CardIdentity{.name = {"SIM"}, .size_bytes = contents_->geometry().size_bytes, .serial = serial_};
}

bool SimulatedSlot::CanReach(std::span<const std::byte> memory) const {
  const std::byte* const end = unreachable.data() + unreachable.size();
  return memory.data() + memory.size() <= unreachable.data() || memory.data() >= end;
}

void SimulatedSlot::Spend(uint64_t first_sector, uint64_t sectors) {
  const uint64_t slowness = kCardRungs[0].khz * (rung_.bus == CardBus::k4Bit ? 1u : 4u);
  busy_us_ += command_us + sectors * sector_us * slowness / std::max<uint32_t>(rung_.khz, 1);
  if (first_sector != next_sector_) busy_us_ += random_us;
  if (slow_every != 0 && reads_ % slow_every == 0) busy_us_ += slow_us;
  next_sector_ = first_sector + sectors;
}

Result<void> SimulatedSlot::StartRead(uint64_t first_sector, std::span<std::byte> dst) {
  if (!dst_.empty()) return Fail({.code = Code::kInvalidArgument, .what = "two reads at once"});
  if (reads_++ == pulled_after) contents_ = nullptr;
  Spend(first_sector, dst.size() / kSectorBytes);
  dst_ = dst;
  if (!is_connected_ || contents_ == nullptr || time_outs > 0) {
    if (time_outs > 0) --time_outs;
    outcome_ = Fail({.code = Code::kTimeout, .what = "the card does not answer"});
    return {};
  }
  outcome_ = contents_->StartRead(first_sector * kSectorBytes, dst);
  if (outcome_) outcome_ = contents_->WaitRead();
  if (io_failures > 0 || (IsTooFast() && !is_silent)) {
    if (io_failures > 0) --io_failures;
    std::fill(dst.begin() + static_cast<ptrdiff_t>(dst.size() / 2), dst.end(), std::byte{0xff});
    outcome_ = Fail({.code = Code::kIo, .what = "the card's data came with a wrong checksum"});
  } else if (IsTooFast()) {
    dst[(reads_ * 7919) % dst.size()] ^= std::byte{0x10};
  }
  return {};
}

Result<void> SimulatedSlot::WaitRead() {
  dst_ = {};
  return outcome_;
}

Result<void> SimulatedSlot::Write(uint64_t first_sector, std::span<const std::byte> src) {
  ++writes_;
  Spend(first_sector, src.size() / kSectorBytes);
  if (!is_connected_ || contents_ == nullptr) {
    return Fail({.code = Code::kTimeout, .what = "the card does not answer"});
  }
  if (writable == nullptr) return Fail({.code = Code::kUnsupported, .what = "the card is locked"});
  if (write_failures == 0) return writable->Write(first_sector * kSectorBytes, src);
  --write_failures;
  return Fail({.code = Code::kIo, .what = "the card did not take what was written to it"});
}

SimulatedBoard::SimulatedBoard(const Board& board, SimulatedSlot& slot, bool shows, host::NorFlash* flash)
    : slot_(slot),
      board_(board),
      psram_(static_cast<size_t>(board.capacity(Region::kPsram) / sizeof(Block) * sizeof(Block))),
      card_(slot, kCardRungs, std::as_writable_bytes(std::span(probe_)), board.dma_align, math::BestKernels().crc32c),
      shows_(shows) {
  uint64_t& flash_bytes = board_.capacity_bytes[static_cast<size_t>(Region::kFlash)];
  const uint64_t wanted_flash = std::exchange(flash_bytes, 0);
  arenas_[static_cast<size_t>(Region::kPsram)] = Arena(Region::kPsram, psram_.memory());
  for (size_t i = 0; i < kNumRegions; ++i) {
    if (i == static_cast<size_t>(Region::kPsram)) continue;
    memory_[i].resize(static_cast<size_t>(board_.capacity_bytes[i] / sizeof(Block)));
    arenas_[i] = Arena(static_cast<Region>(i), std::as_writable_bytes(std::span(memory_[i])));
  }
  if (flash != nullptr) {
    flash_.emplace(*flash, *this);
    const std::span<std::byte> memory = storage::FlashArenaMemory(*flash_);
    flash_bytes = std::min<uint64_t>(memory.size(), wanted_flash);
    arenas_[static_cast<size_t>(Region::kFlash)] =
        Arena(Region::kFlash, memory.first(static_cast<size_t>(flash_bytes)));
  }
  machine_info.psram_bytes = board_.capacity(Region::kPsram);
  slot.unreachable = psram_.memory();
}

SimulatedBoard::MappedFlash::MappedFlash(host::NorFlash& flash, SimulatedBoard& board)
    : flash_(&flash), board_(&board), mapped_(flash.memory().size()) {
  std::ranges::copy(flash.memory(), mapped_.memory().begin());
  mapped_.Allow(Pages::Access::kRead);
}

template <class Change>
Result<void> SimulatedBoard::MappedFlash::WithoutCache(uint32_t offset_bytes, Change change) {
  if (board_->cores != nullptr && board_->cores->is_busy()) {
    return Fail({.code = Code::kInvalidArgument, .what = "flash is written while cores compute"});
  }
  mapped_.Allow(Pages::Access::kNone);
  board_->psram_.Allow(Pages::Access::kNone);
  const Result<void> written = change();
  if (board_->on_flash_writing) board_->on_flash_writing();
  board_->psram_.Allow(Pages::Access::kWrite);
  mapped_.Allow(Pages::Access::kWrite);
  const size_t sector = offset_bytes / storage::kFlashSectorBytes * storage::kFlashSectorBytes;
  if (sector < mapped_.memory().size()) {
    std::ranges::copy(flash_->memory().subspan(sector, storage::kFlashSectorBytes), &mapped_.memory()[sector]);
  }
  mapped_.Allow(Pages::Access::kRead);
  return written;
}

Result<void> SimulatedBoard::MappedFlash::EraseSector(uint32_t offset_bytes) {
  return WithoutCache(offset_bytes, [&] { return flash_->EraseSector(offset_bytes); });
}

Result<void> SimulatedBoard::MappedFlash::Program(uint32_t offset_bytes, std::span<const std::byte> bytes) {
  if (Overlaps(bytes, board_->psram_) || Overlaps(bytes, mapped_) ||
      Overlaps(bytes, __executable_start, __data_start)) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "what is written to flash must lie in internal memory",
                 .offset = offset_bytes});
  }
  return WithoutCache(offset_bytes, [&] { return flash_->Program(offset_bytes, bytes); });
}

const math::Kernels& SimulatedBoard::kernels() const { return math::BestKernels(); }

uint64_t SimulatedBoard::NowUs() const {
  if (looks_++ == interrupt_after_looks) interrupted_ = true;
  if (!shows_) return (now_us_ += us_per_look) + slot_.busy_us();
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

void SimulatedBoard::Write(std::string_view text) {
  if (writes_++ == interrupt_after_writes) interrupted_ = true;
  output_ += text;
  if (shows_) std::fwrite(text.data(), 1, text.size(), stdout);
}

Result<void> SimulatedBoard::MountCard() {
  THIMBLE_TRY(card_.Mount());
  was_mounted_ = true;
  return {};
}

CardInfo SimulatedBoard::card_info() const { return InfoOf(card_); }

bool SimulatedBoard::TryCard(uint32_t rung, CardTrial& trial) { return TryRung(card_, rung, *this, trial); }

Result<size_t> SimulatedBoard::LoadSetting(const char* key, std::span<char> out) {
  const auto found = settings.find(key);
  if (found == settings.end()) {
    return Fail(Error{.code = Code::kNotFound, .what = "there is no setting '{name}'"}.Named(key));
  }
  if (found->second.size() > out.size()) {
    return Fail({.code = Code::kOutOfMemory, .what = "the setting is too long"});
  }
  std::ranges::copy(found->second, out.begin());
  return found->second.size();
}

Result<void> SimulatedBoard::SaveSetting(const char* key, std::string_view text) {
  if (!keeps_settings) return Fail({.code = Code::kUnsupported, .what = "this board keeps no settings"});
  settings[key] = text;
  return {};
}

}  // namespace thimble::firmware
