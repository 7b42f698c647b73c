// The least that a project needs to make a text: a card, memory, and the engine between them. One core computes and
// waits for each read; the firmware beside this shows how to do better.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string_view>

#include "driver/sdmmc_host.h"
#include "engine/storage/callback_device.h"
#include "engine/story.h"
#include "esp_heap_caps.h"
#include "sdmmc_cmd.h"

using namespace thimble;

// The card in slot 1, read sector by sector.
static bool ReadCard(void* card, uint64_t offset_bytes, void* out, size_t bytes) {
  return sdmmc_read_sectors(static_cast<sdmmc_card_t*>(card), out, static_cast<size_t>(offset_bytes / 512),
                            bytes / 512) == ESP_OK;
}

static std::span<std::byte> Take(size_t bytes, uint32_t caps) {
  auto* const memory = static_cast<std::byte*>(heap_caps_aligned_alloc(64, bytes, caps));
  return {memory, memory == nullptr ? 0 : bytes};
}

static void Say(const Error& error) {
  std::array<char, 300> sentence;
  FormatError(error, sentence);
  std::printf("\n%s\n", sentence.data());
}

extern "C" void app_main() {
  static sdmmc_card_t sd;
  sdmmc_host_t host = SDMMC_HOST_DEFAULT();
  sdmmc_slot_config_t slot = SDMMC_SLOT_CONFIG_DEFAULT();
  slot.flags |= SDMMC_SLOT_FLAG_INTERNAL_PULLUP;
  if (sdmmc_host_init() != ESP_OK || sdmmc_host_init_slot(host.slot, &slot) != ESP_OK ||
      sdmmc_card_init(&host, &sd) != ESP_OK) {
    return Say({.code = Code::kNotFound, .what = "no card answers"});
  }
  static storage::CallbackDevice card(
      {.block_bytes = 512, .buffer_align = 16, .size_bytes = uint64_t{512} * sd.csd.capacity}, ReadCard, &sd);
  static Story story(card, {.dma = Take(64 * 1024, MALLOC_CAP_DMA | MALLOC_CAP_INTERNAL),
                            .sram = Take(64 * 1024, MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT),
                            .psram = Take(2 * 1024 * 1024, MALLOC_CAP_SPIRAM)});
  if (const Result<void> opened = story.Open(); !opened) return Say(opened.error());
  if (const Result<void> read = story.Prompt("Once upon a time", 200); !read) return Say(read.error());
  while (true) {
    const Result<std::string_view> piece = story.Next();
    if (!piece) return Say(piece.error());
    if (piece->empty()) return;
    std::fwrite(piece->data(), 1, piece->size(), stdout);
    std::fflush(stdout);
  }
}
