// The least that a project needs to make a text: a card, memory, and the engine between them. One core computes and
// waits for each read; the firmware beside this shows how to do better.
#include <array>
#include <cstdio>
#include <optional>
#include <span>
#include <string_view>

#include "driver/sdmmc_host.h"
#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "engine/base/ledger.h"
#include "engine/formats/card_models.h"
#include "engine/generate.h"
#include "engine/math/kernels.h"
#include "engine/opening.h"
#include "engine/session.h"
#include "engine/storage/block_device.h"
#include "engine/storage/fat32.h"
#include "engine/storage/file_reader.h"
#include "esp_heap_caps.h"
#include "esp_memory_utils.h"
#include "sdmmc_cmd.h"

namespace {

using namespace thimble;

// The card in slot 1, read sector by sector.
class Card final : public storage::BlockDevice {
 public:
  Result<void> Open() {
    sdmmc_host_t host = SDMMC_HOST_DEFAULT();
    sdmmc_slot_config_t slot = SDMMC_SLOT_CONFIG_DEFAULT();
    slot.flags |= SDMMC_SLOT_FLAG_INTERNAL_PULLUP;
    if (sdmmc_host_init() != ESP_OK || sdmmc_host_init_slot(host.slot, &slot) != ESP_OK ||
        sdmmc_card_init(&host, &card_) != ESP_OK) {
      return Fail({.code = Code::kNotFound, .what = "no card answers"});
    }
    return {};
  }

  storage::BlockGeometry geometry() const override {
    return {.block_bytes = 512, .buffer_align = 16, .size_bytes = uint64_t{512} * card_.csd.capacity};
  }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override {
    THIMBLE_TRY(storage::CheckRead(geometry(), offset_bytes, dst));
    if (!esp_ptr_dma_capable(dst.data())) {
      return Fail({.code = Code::kInvalidArgument, .what = "the card's DMA cannot write to this memory"});
    }
    outcome_ = sdmmc_read_sectors(&card_, dst.data(), static_cast<size_t>(offset_bytes / 512), dst.size() / 512);
    return {};
  }
  Result<void> WaitRead() override {
    if (outcome_ == ESP_OK) return {};
    return Fail({.code = Code::kIo, .what = "the card cannot be read"});
  }
  Result<void> Reinitialise() override {
    const sdmmc_host_t host = card_.host;
    if (sdmmc_card_init(&host, &card_) != ESP_OK) return Fail({.code = Code::kIo, .what = "the card does not answer"});
    return {};
  }

 private:
  sdmmc_card_t card_ = {};
  esp_err_t outcome_ = ESP_OK;
};

class Terminal final : public TextSink {
 public:
  void OnToken(TokenId) override {}
  void OnText(std::string_view text) override {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
};

// Memory of one kind, as much as `wanted` or as there is.
Arena Take(Region region, uint64_t wanted, uint32_t caps) {
  size_t bytes = heap_caps_get_largest_free_block(caps);
  if (bytes > wanted) bytes = static_cast<size_t>(wanted);
  auto* const memory = static_cast<std::byte*>(heap_caps_aligned_alloc(16, bytes / 16 * 16, caps));
  return Arena(region, {memory, memory == nullptr ? 0 : bytes / 16 * 16});
}

struct Program {
  Board board = kEsp32Cam;
  std::array<Arena, kNumRegions> arenas;
  Card card;
  alignas(64) std::array<std::byte, 512> sector;
  storage::Extent whole;
  formats::CardFile file;
  Ledger ledger;
  std::optional<storage::FileReader> disk;
  std::optional<Opening> opening;
  plan::Plan plan;
  Terminal terminal;

  Result<void> Run() {
    board.tile_buffer_bytes = 32 * 1024;
    arenas[0] = Take(Region::kSramDma, 64 * 1024, MALLOC_CAP_DMA | MALLOC_CAP_INTERNAL);
    arenas[1] = Take(Region::kSram, 64 * 1024, MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT);
    arenas[2] = Take(Region::kPsram, board.capacity(Region::kPsram), MALLOC_CAP_SPIRAM);
    for (size_t i = 0; i < kNumRegions; ++i) board.capacity_bytes[i] = arenas[i].capacity_bytes();

    THIMBLE_TRY(card.Open());
    whole = storage::WholeDevice(card);
    disk.emplace(card, storage::FileMap{.extents = {&whole, 1}, .size_bytes = whole.size_bytes}, ledger);
    THIMBLE_ASSIGN(storage::Fat32 volume, storage::Fat32::Mount(*disk, sector));
    THIMBLE_TRY(formats::FindModelFile(volume, file));

    opening.emplace(arenas, math::BestKernels(), ledger);
    THIMBLE_TRY(opening->OpenFile(card, file.map));
    THIMBLE_ASSIGN(plan, opening->Plan(board, {.n_ctx = 256}));
    THIMBLE_ASSIGN(Session* const session, opening->Start(plan));
    THIMBLE_ASSIGN(const std::span<const TokenId> prompt, session->Tokenize("Once upon a time"));
    THIMBLE_TRY(session->Prefill(prompt));
    GenerateOptions options;
    options.n_predict = 200;
    THIMBLE_TRY(Generate(*session, options, terminal));
    return {};
  }
};

}  // namespace

extern "C" void app_main() {
  static Program program;
  if (const Result<void> done = program.Run(); !done) {
    std::array<char, 300> sentence;
    FormatError(done.error(), sentence);
    std::printf("\n%s\n", sentence.data());
  }
}
