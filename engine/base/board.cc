#include "engine/base/board.h"

namespace thimble {
namespace {

// The partition "model" of firmware/partitions.csv, partitions_8mb.csv and partitions_16mb.csv.
constexpr uint64_t kModelPartitionBytes = 0x87000;

}  // namespace

// What the firmware took when it was booted in an emulator of this chip and board (docs/firmware.md, "Memory"), so that
// a plan made on a computer is the board's. Nobody has booted it on a real one.
// sram_dma: two 64 KiB buffers. 64 KiB is the read size that ESP-IDF's own benchmark uses for its best figure
//   (espressif/esp-idf, examples/storage/perf_benchmark/README.md).
// sram: 91 136 bytes of internal memory were left when drivers, tasks and the firmware's objects had theirs; 32 KiB
//   stay the system's.
// psram: of 4 MiB, which is all that the ESP32 can map (ESP32 Technical Reference Manual, "System and Memory"), the
//   largest block that ESP-IDF's heap gives in one piece: it rounds requests up to a 32nd of a power of two.
// flash: 4 MB less bootloader, partition table, settings, an application of 672 KiB and a model of 540 KiB
//   (firmware/partitions.csv).
const Board kEsp32Cam = {
    .name = "esp32-cam",
    .description = "AI-Thinker ESP32-CAM, 520 KB SRAM, 4 MiB PSRAM, microSD",
    .capacity_bytes = {128 * 1024, 57 * 1024, 4031 * 1024, 2816 * 1024},
    .tile_buffer_bytes = 64 * 1024,
    .dma_align = 16,
    .model_partition_bytes = kModelPartitionBytes,
};

// Derived; Wi-Fi was never linked nor booted here. 96 KiB of internal memory at most, until a board has told better.
// sram_dma, sram: of the 131 072 and 91 136 bytes that the firmware without a network found when it was booted (above),
//   less 75 KiB for Wi-Fi and lwIP (estimate), 18 KiB for esp_http_server, JSON and DNS (estimate: stacks of 4096 and
//   3072 bytes, seven sockets, requests and answers on their way) and the system's 32 KiB, of which packets are made,
//   too: 94 208 bytes. The same another way: ESP-IDF's Programming Guide ("Wi-Fi Performance and Power Save") has 144.5
//   KB of the heap left beside Wi-Fi by default; less 30 KB of objects and 20 KB of stacks (docs/firmware.md), 94.5 KB.
//   Two tiles of 16 KiB, in one piece that is small enough for a heap which Wi-Fi has cut.
// psram: as above, less 128 KiB that stay the heap's, for lwIP and bodies of requests: the next smaller piece which the
//   heap gives.
// flash: 4 MB less bootloader, partition table, settings and an application of 1.75 MiB (firmware/partitions_wifi.csv).
const Board kEsp32CamWifi = {
    .name = "esp32-cam-wifi",
    .description = "AI-Thinker ESP32-CAM with Wi-Fi on, 4 MiB PSRAM, microSD; memory derived",
    .capacity_bytes = {32 * 1024, 60 * 1024, 3967 * 1024, 2236 * 1024},
    .tile_buffer_bytes = 16 * 1024,
    .dma_align = 16,
};

// 93 KiB: Wi-Fi, lwIP and a service, as above. 176 KiB: what the same firmware finds without PSRAM, as below.
const char* const kNoWifiWithoutPsram =
    "there is no room for Wi-Fi on an ESP32 without PSRAM: it and a service take some 93 KiB of the 176 KiB of "
    "internal memory that hold the whole model there; take a board with PSRAM, or go without Wi-Fi";

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
    .model_partition_bytes = kModelPartitionBytes,
};

// Linked, never booted: estimates.
// sram_dma: as the ESP32-CAM's; the S3's card DMA reaches internal memory only, too (ESP-IDF,
//   SOC_SDMMC_PSRAM_DMA_CAPABLE is not defined for esp32s3).
// sram: 270 621 bytes are left by the linker, and start-up gives back 53 KiB (two regions that ESP-IDF's heap_init
// names
//   on this chip, of 21 and 32 KiB). Less 128 KiB for the card, 91 384 for what the ESP32's drivers, tasks and objects
//   took, and 32 KiB.
// psram: 8 MiB (ESP32-S3-WROOM-1 datasheet, N8R8), less what the heap's rounding loses, as above.
// flash: 8 MB less bootloader, partition table, settings, an application of 672 KiB and a model of 540 KiB
//   (firmware/partitions_8mb.csv).
const Board kEsp32S3 = {
    .name = "esp32-s3",
    .description = "ESP32-S3 N8R8, 512 KB SRAM, 8 MiB PSRAM, microSD; memory estimated",
    .capacity_bytes = {128 * 1024, 64 * 1024, 8063 * 1024, 6912 * 1024},
    .tile_buffer_bytes = 64 * 1024,
    .dma_align = 16,
    .model_partition_bytes = kModelPartitionBytes,
};

// Derived of an estimate: never linked with Wi-Fi nor booted.
// sram_dma, sram: as the ESP32-CAM with Wi-Fi: of the 192 KiB above, 93 KiB are Wi-Fi's and the service's; of what is
//   left, 96 KiB, two tiles of 16 KiB among them.
// psram: as above; of 8 MiB that leaves the heap 129 KiB.
// flash: 8 MB less bootloader, partition table, settings and an application of 1.75 MiB
// (firmware/partitions_wifi_8mb.csv).
const Board kEsp32S3Wifi = {
    .name = "esp32-s3-wifi",
    .description = "ESP32-S3 N8R8 with Wi-Fi on, 8 MiB PSRAM, microSD; memory derived",
    .capacity_bytes = {32 * 1024, 64 * 1024, 8063 * 1024, 6336 * 1024},
    .tile_buffer_bytes = 16 * 1024,
    .dma_align = 16,
};

// Derived and estimated: nobody linked or booted it.
// sram_dma: as the ESP32-CAM's.
// sram: of 768 KB (ESP32-P4 datasheet) 128 KB are the second-level cache's (ESP-IDF's default); 602 004 bytes were a
//   heap under another system with 8 KB of it in use (github.com/apache/nuttx pull request 18754). Less 128 KiB for the
//   card, 86 618 bytes of code that the ESP32 runs in internal memory, 91 384 for what its drivers, tasks and objects
//   took, 32 KiB for the system, and a tenth of all for what nobody counted.
// psram: 32 MiB in the chip's package (ESP32-P4NRW32), less what the heap's rounding loses, as above.
// flash: 16 MB less bootloader, partition table, settings, an application of 672 KiB and a model of 540 KiB
//   (firmware/partitions_16mb.csv).
const Board kEsp32P4 = {
    .name = "esp32-p4",
    .description = "ESP32-P4NRW32, 768 KB SRAM, 32 MiB PSRAM, microSD; memory estimated",
    .capacity_bytes = {128 * 1024, 192 * 1024, 32255 * 1024, 15104 * 1024},
    .tile_buffer_bytes = 64 * 1024,
    .dma_align = 64,
    .model_partition_bytes = kModelPartitionBytes,
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
