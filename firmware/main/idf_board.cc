#include "idf_board.h"

#include <algorithm>

#include "engine/base/text_buffer.h"
#include "engine/math/kernels.h"
#include "engine/storage/flash_writer.h"
#include "esp_chip_info.h"
#include "esp_flash.h"
#include "esp_heap_caps.h"
#include "esp_idf_version.h"
#include "esp_system.h"
#include "esp_timer.h"
#include "firmware/app/board_card.h"
#include "firmware/app/board_memory.h"
#include "idf_settings.h"
#include "idf_terminal.h"
#include "sdkconfig.h"
#include "soc/gpio_reg.h"
#include "soc/soc.h"
#if CONFIG_SPIRAM
#include "esp_psram.h"
#endif

namespace thimble::firmware::idf {
namespace {

constexpr uint32_t kDmaCaps = MALLOC_CAP_DMA | MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT;
constexpr uint32_t kSramCaps = MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT;
constexpr uint32_t kPsramCaps = MALLOC_CAP_SPIRAM | MALLOC_CAP_8BIT;
constexpr size_t kAlign = 64;

uint64_t PsramBytes() {
#if CONFIG_SPIRAM
  if (esp_psram_is_initialized()) return esp_psram_get_size();
#endif
  return 0;
}

// With which a computer plans for this board.
const Board& Profile() {
#if CONFIG_IDF_TARGET_ESP32S3 && CONFIG_THIMBLE_NETWORK
  return kEsp32S3Wifi;
#elif CONFIG_IDF_TARGET_ESP32S3
  return kEsp32S3;
#elif CONFIG_IDF_TARGET_ESP32P4
  return kEsp32P4;
#elif CONFIG_THIMBLE_NETWORK
  return PsramBytes() != 0 ? kEsp32CamWifi : kEsp32;
#else
  return PsramBytes() != 0 ? kEsp32Cam : kEsp32;
#endif
}

// As much as there is of what is wanted.
std::span<std::byte> Take(uint32_t caps, uint64_t wanted) {
  for (auto bytes = static_cast<size_t>(wanted / kAlign * kAlign); bytes != 0; bytes -= std::min<size_t>(bytes, 1024)) {
    if (void* const memory = heap_caps_aligned_alloc(kAlign, bytes, caps)) {
      return {static_cast<std::byte*>(memory), bytes};
    }
  }
  return {};
}

const char* ResetReason(esp_reset_reason_t reason) {
  switch (reason) {
    case ESP_RST_POWERON:
      return "power on";
    case ESP_RST_EXT:
      return "reset pin";
    case ESP_RST_SW:
      return "restart";
    case ESP_RST_PANIC:
      return "a fault of the firmware";
    case ESP_RST_INT_WDT:
    case ESP_RST_TASK_WDT:
    case ESP_RST_WDT:
      return "watchdog";
    case ESP_RST_DEEPSLEEP:
      return "deep sleep";
    case ESP_RST_BROWNOUT:
      return "brown-out";
    default:
      return "unknown";
  }
}

HeapInfo HeapOf(const char* name, uint32_t caps) {
  return {.name = name,
          .free_bytes = heap_caps_get_free_size(caps),
          .least_free_bytes = heap_caps_get_minimum_free_size(caps),
          .largest_bytes = heap_caps_get_largest_free_block(caps)};
}

#if CONFIG_THIMBLE_CARD_SPI
constexpr std::span<const CardRung> kRungs = kCardRungs;
#else
constexpr std::span<const CardRung> kRungs = std::span(kCardRungs).first(kCardRungs.size() - 1);
#endif

}  // namespace

EspBoard::EspBoard() : card_(slot_, kRungs, probe_, Profile().dma_align, math::BestKernels().crc32c), flash_(*this) {}

void EspBoard::TakePsram() {
  const std::span<std::byte> psram =
      Take(kPsramCaps, PsramBytesToTake(Profile(), heap_caps_get_largest_free_block(kPsramCaps)));
  arenas_[static_cast<size_t>(Region::kPsram)] = Arena(Region::kPsram, psram);
}

void EspBoard::TakeDma() {
  const std::span<std::byte> dma =
      Take(kDmaCaps, DmaBytesToTake(Profile(), heap_caps_get_largest_free_block(kDmaCaps)));
  arenas_[static_cast<size_t>(Region::kSramDma)] = Arena(Region::kSramDma, dma);
}

bool EspBoard::TakeRest() {
  const Board& profile = Profile();
  if (!slot_.Start()) return false;
  // Before the partition for weights, which makes do with fewer addresses.
  const std::span<const std::byte> model = MapModelPartition();
  has_model_ = !model.empty();
  model_ = MemoryDevice(model);
  has_flash_ = flash_.Open();
  const std::span<std::byte> sram =
      Take(kSramCaps,
           SramBytesToTake(profile, heap_caps_get_largest_free_block(kSramCaps), heap_caps_get_free_size(kSramCaps)));
  const std::span<std::byte> flash = has_flash_ ? storage::FlashArenaMemory(flash_) : std::span<std::byte>();
  arenas_[static_cast<size_t>(Region::kSram)] = Arena(Region::kSram, sram);
  arenas_[static_cast<size_t>(Region::kFlash)] = Arena(Region::kFlash, flash);
  const auto bytes = [&](Region region) { return ArenaOf(arenas_, region).capacity_bytes(); };
  board_ = FitBoard(profile, {.dma = bytes(Region::kSramDma),
                              .sram = bytes(Region::kSram),
                              .psram = bytes(Region::kPsram),
                              .flash = bytes(Region::kFlash)});
  return true;
}

const Board& EspBoard::profile() const { return Profile(); }

const math::Kernels& EspBoard::kernels() const { return math::BestKernels(); }

MachineInfo EspBoard::info() {
  esp_chip_info_t chip = {};
  esp_chip_info(&chip);
  uint32_t flash_bytes = 0;
  if (esp_flash_get_size(nullptr, &flash_bytes) != ESP_OK) flash_bytes = 0;
  heaps_ = {HeapOf("internal", kSramCaps), HeapOf("internal for DMA", kDmaCaps), HeapOf("PSRAM", kPsramCaps)};
  const esp_reset_reason_t reason = esp_reset_reason();
  MachineInfo info;
#if CONFIG_IDF_TARGET_ESP32S3
  info.chip = "ESP32-S3";
#elif CONFIG_IDF_TARGET_ESP32P4
  info.chip = "ESP32-P4";
#else
  info.chip = "ESP32";
#endif
  info.revision = chip.revision;
  info.cores = chip.cores;
  info.mhz = CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ;
  info.flash_bytes = flash_bytes;
  info.psram_bytes = PsramBytes();
  info.reset_reason = ResetReason(reason);
  info.browned_out = reason == ESP_RST_BROWNOUT;
  TextBuffer sdk(sdk_);
  sdk.Append("ESP-IDF ");
  sdk.Append(esp_get_idf_version());
  info.sdk = sdk_.data();
  info.heaps = heaps_;
  return info;
}

std::span<const StrapPin> EspBoard::strap_pins() const {
#if CONFIG_IDF_TARGET_ESP32
  // GPIO_STRAPPING, bits 5 to 0: MTDI, GPIO0, GPIO2, GPIO4, MTDO, GPIO5 (ESP32 Technical Reference Manual).
  static const std::array<StrapPin, 6> pins = [] {
    constexpr std::array<uint32_t, 6> kGpios = {5, 15, 4, 2, 0, 12};
    const uint32_t strapping = REG_READ(GPIO_STRAP_REG);
    std::array<StrapPin, 6> read;
    for (size_t i = 0; i < read.size(); ++i) read[i] = {.gpio = kGpios[i], .level = (strapping >> i & 1) != 0};
    return read;
  }();
  return pins;
#else
  return {};
#endif
}

uint64_t EspBoard::NowUs() const { return static_cast<uint64_t>(esp_timer_get_time()); }

void EspBoard::Write(std::string_view text) { WriteTerminal(text); }

Result<void> EspBoard::MountCard() {
  THIMBLE_TRY(card_.Mount());
  was_mounted_ = true;
  return {};
}

CardInfo EspBoard::card_info() const { return InfoOf(card_); }

bool EspBoard::TryCard(uint32_t rung, CardTrial& trial) { return TryRung(card_, rung, *this, trial); }

Result<size_t> EspBoard::LoadSetting(const char* key, std::span<char> out) { return idf::LoadSetting(key, out); }

Result<void> EspBoard::SaveSetting(const char* key, std::string_view text) { return idf::SaveSetting(key, text); }

Result<void> EspBoard::ClearSettings() { return idf::ClearSettings(); }

}  // namespace thimble::firmware::idf
