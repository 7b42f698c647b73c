#include "engine/base/board.h"

namespace thimble {

// What the firmware took when it was booted in an emulator of this chip and board (docs/firmware.md, "Memory"), so that
// a plan made on a computer is the board's. Nobody has booted it on a real one.
// sram_dma: two 64 KiB buffers. 64 KiB is the read size that ESP-IDF's own benchmark uses for its best figure
//   (espressif/esp-idf, examples/storage/perf_benchmark/README.md).
// sram: 91 136 bytes of internal memory were left when drivers, tasks and the firmware's objects had theirs; 32 KiB
// stay
//   the system's.
// psram: of 4 MiB, which is all that the ESP32 can map (ESP32 Technical Reference Manual, "System and Memory"), the
//   largest block that ESP-IDF's heap gives in one piece: it rounds requests up to a 32nd of a power of two.
// flash: 4 MB less bootloader, partition table, settings and an application of 1.1 MiB.
const Board kEsp32Cam = {
    .name = "esp32-cam",
    .description = "AI-Thinker ESP32-CAM, 520 KB SRAM, 4 MiB PSRAM, microSD",
    .capacity_bytes = {128 * 1024, 57 * 1024, 4031 * 1024, 2816 * 1024},
    .tile_buffer_bytes = 64 * 1024,
    .dma_align = 16,
};

// The same firmware without PSRAM.
// sram: the largest piece that the heap had, 107 KiB, as booted.
// sram_dma: 37 KiB when it was booted, with 78 416 bytes left over in other pieces. 32 KiB of these are taken since
//   then, for larger tiles or for what does not fit sram; derived, not booted again.
// flash: as above.
const Board kEsp32 = {
    .name = "esp32",
    .description = "ESP32, 520 KB SRAM, no PSRAM, microSD",
    .capacity_bytes = {69 * 1024, 107 * 1024, 0, 2816 * 1024},
    .tile_buffer_bytes = 32 * 1024,
    .dma_align = 16,
};

// Linked, never booted: estimates.
// sram_dma: as the ESP32-CAM's; the S3's card DMA reaches internal memory only, too (ESP-IDF,
//   SOC_SDMMC_PSRAM_DMA_CAPABLE is not defined for esp32s3).
// sram: 270 621 bytes are left by the linker, and start-up gives back 53 KiB (two regions that ESP-IDF's heap_init
// names
//   on this chip, of 21 and 32 KiB). Less 128 KiB for the card, 91 384 for what the ESP32's drivers, tasks and objects
//   took, and 32 KiB.
// psram: 8 MiB (ESP32-S3-WROOM-1 datasheet, N8R8), less what the heap's rounding loses, as above.
// flash: 8 MB less bootloader, partition table, settings and an application of 1.1 MiB.
const Board kEsp32S3 = {
    .name = "esp32-s3",
    .description = "ESP32-S3 N8R8, 512 KB SRAM, 8 MiB PSRAM, microSD; memory estimated",
    .capacity_bytes = {128 * 1024, 64 * 1024, 8063 * 1024, 6912 * 1024},
    .tile_buffer_bytes = 64 * 1024,
    .dma_align = 16,
};

Board HostBoard(uint64_t memory_bytes) {
  return Board{
      .name = "host",
      .description = "this computer",
      .capacity_bytes = {2 * 1024 * 1024, 64 * 1024 * 1024, memory_bytes, 0},
      .tile_buffer_bytes = 1024 * 1024,
      .dma_align = 16,
  };
}

}  // namespace thimble
