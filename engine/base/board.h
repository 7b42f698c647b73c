// Boards as plain numbers: what memory a target has for the engine, and how its card wants to be read.
#ifndef THIMBLE_ENGINE_BASE_BOARD_H_
#define THIMBLE_ENGINE_BASE_BOARD_H_

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/arena.h"

namespace thimble {

// What a card reads at least, and counts by.
inline constexpr uint64_t kSectorBytes = 512;

// What the engine may use of a board. Sources of the figures stand at the definitions in board.cc.
struct Board {
  const char* name = "";
  const char* description = "";
  std::array<uint64_t, kNumRegions> capacity_bytes = {};  // indexed by Region; what is left for the engine
  uint32_t tile_buffer_bytes = 0;      // each of the two DMA buffers, unless the plan is told otherwise
  uint32_t dma_align = 0;              // alignment the card's DMA wants of a buffer
  uint64_t model_partition_bytes = 0;  // of flash, for a model that needs no card (docs/formats/flash.md); 0: none

  uint64_t capacity(Region region) const { return capacity_bytes[static_cast<size_t>(region)]; }
};

// AI-Thinker ESP32-CAM: ESP32, 520 KB SRAM, 4 MiB mappable PSRAM, 4 MB flash, microSD on SDMMC slot 1.
extern const Board kEsp32Cam;

// The same chip on a board without PSRAM, with 4 MB flash and a microSD on SDMMC slot 1.
extern const Board kEsp32;

// The ESP32-CAM with its Wi-Fi on, and a service over HTTP.
extern const Board kEsp32CamWifi;

// Why there is no such board without PSRAM: a sentence for those who ask for one.
extern const char* const kNoWifiWithoutPsram;

// ESP32-S3 with 8 MB octal PSRAM and 8 MB flash (ESP32-S3-WROOM-1-N8R8), a microSD wired to its SDMMC host.
extern const Board kEsp32S3;

// The same with its Wi-Fi on, and a service over HTTP.
extern const Board kEsp32S3Wifi;

// ESP32-P4 with 32 MB of PSRAM in its package and 16 MB flash, a microSD on its SDMMC host.
extern const Board kEsp32P4;

// This computer: tiles of 1 MiB, as much memory as it has (given by the caller).
Board HostBoard(uint64_t memory_bytes);

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_BOARD_H_
