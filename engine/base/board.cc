#include "engine/base/board.h"

namespace thimble {

// sram_dma: two 64 KiB buffers. 64 KiB is the read size that ESP-IDF's own benchmark uses for its best figure
//   (espressif/esp-idf, examples/storage/perf_benchmark/README.md); the two fit as internal DMA-capable memory when
//   they are taken first, before the heap is in pieces.
// sram: about 300 KB of internal heap at boot without Wi-Fi (ESP-IDF Programming Guide, "Heap Memory Allocation", and
//   boot logs), less the 128 KiB above and 32 KiB for the other tasks' stacks, FATFS and the card driver; an estimate
//   until it is measured on a board.
// psram: the 4 MiB that the ESP32 can map (ESP32 Technical Reference Manual, "System and Memory").
// flash: 4 MB less bootloader, partition table, settings and an application of 1.1 MiB.
const Board kEsp32Cam = {
    .name = "esp32-cam",
    .description = "AI-Thinker ESP32-CAM, 520 KB SRAM, 4 MiB PSRAM, microSD",
    .capacity_bytes = {128 * 1024, 128 * 1024, 4096 * 1024, 2816 * 1024},
    .tile_buffer_bytes = 64 * 1024,
    .dma_align = 16,
};

// sram_dma and sram together: 200 000 bytes at most of the 320 KB of data memory that the ESP32 has (ESP-IDF
// Programming
//   Guide for ESP32, "Heap Memory Allocation"), so that more than 100 KB are left for the application: the card's
//   driver, other tasks' stacks, a file system. Estimates until they are measured on a board.
// sram_dma: two tile buffers of 16 KiB, and what a tokenizer on the card is read through. From the heap.
// sram: in one piece, within the 180 736 bytes that static data may have where Bluetooth is off (ESP-IDF,
//   components/esp_system/ld/esp32/memory.ld.in, dram0_0_seg).
// flash: as above.
const Board kEsp32 = {
    .name = "esp32",
    .description = "ESP32, 520 KB SRAM, no PSRAM, microSD",
    .capacity_bytes = {37 * 1024, 158 * 1024, 0, 2816 * 1024},
    .tile_buffer_bytes = 16 * 1024,
    .dma_align = 16,
};

// sram_dma: as above; the S3's card DMA reaches internal memory only, too (ESP-IDF, SOC_SDMMC_PSRAM_DMA_CAPABLE is not
//   defined for esp32s3).
// sram: 320 KiB of the 512 KB are data memory for an application (platform-espressif32, esp32-s3-devkitc-1.json,
//   maximum_ram_size), less the 128 KiB and 32 KiB for other tasks as above; an estimate until it is measured.
// psram: ESP32-S3-WROOM-1 datasheet, N8R8.
// flash: 8 MB less bootloader, partition table, settings and an application of 1.1 MiB.
const Board kEsp32S3 = {
    .name = "esp32-s3",
    .description = "ESP32-S3 N8R8, 512 KB SRAM, 8 MiB PSRAM, microSD",
    .capacity_bytes = {128 * 1024, 160 * 1024, 8192 * 1024, 6912 * 1024},
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
