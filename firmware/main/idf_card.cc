#include "idf_card.h"

#include <algorithm>

#include "driver/gpio.h"
#include "driver/spi_master.h"
#include "esp_err.h"
#include "esp_log.h"
#include "esp_memory_utils.h"
#include "idf_compat.h"
#include "sdmmc_cmd.h"

namespace thimble::firmware::idf {
namespace {

constexpr uint32_t kStackBytes = 2560;  // a run used 980 of it
constexpr UBaseType_t kPriority = 20;   // above all that computes: it only starts what is next

#if SOC_SDMMC_USE_GPIO_MATRIX
constexpr bool kHasFourLines =
    CONFIG_THIMBLE_CARD_D1 >= 0 && CONFIG_THIMBLE_CARD_D2 >= 0 && CONFIG_THIMBLE_CARD_D3 >= 0;
constexpr int kClk = CONFIG_THIMBLE_CARD_CLK;
constexpr int kCmd = CONFIG_THIMBLE_CARD_CMD;
constexpr int kD0 = CONFIG_THIMBLE_CARD_D0;
constexpr int kD3 = CONFIG_THIMBLE_CARD_D3;
#else
// Slot 1 of an ESP32.
constexpr bool kHasFourLines = true;
constexpr int kClk = 14;
constexpr int kCmd = 15;
constexpr int kD0 = 2;
constexpr int kD3 = 13;
#endif

void HoldLevel(int pin, uint32_t level) {
  if (pin < 0) return;
  const auto gpio = static_cast<gpio_num_t>(pin);
  gpio_reset_pin(gpio);
  gpio_set_level(gpio, level);
  gpio_set_direction(gpio, GPIO_MODE_OUTPUT);
}

std::unexpected<Error> FailureOf(esp_err_t error) {
  switch (error) {
    case ESP_ERR_TIMEOUT:
    case ESP_ERR_NOT_FOUND:
      return Fail({.code = Code::kTimeout, .what = "the card does not answer"});
    case ESP_ERR_INVALID_CRC:
      return Fail({.code = Code::kIo, .what = "the card's bits come wrong: its contacts, its wires or its supply"});
    case ESP_ERR_NO_MEM:
      return Fail({.code = Code::kOutOfMemory, .what = "there is no memory left for the card's driver"});
    case ESP_ERR_NOT_SUPPORTED:
      return Fail({.code = Code::kUnsupported, .what = "the slot or the card cannot be read in this way"});
    default:
      return Fail({.code = Code::kIo,
                   .what = "the card's driver failed with ESP-IDF's error {have}",
                   .have = static_cast<uint32_t>(error)});
  }
}

}  // namespace

bool CardSlot::Start() {
  // What failed is said in our own words.
  for (const char* tag : {"sdmmc_cmd", "sdmmc_common", "sdmmc_init", "sdmmc_io", "sdmmc_sd", "sdmmc_req",
                          "sdmmc_periph", "sdspi_host", "sdspi_transaction", "diskio_sdmmc"}) {
    esp_log_level_set(tag, ESP_LOG_NONE);
  }
  const auto read = [](void* self) {
    CardSlot& card = *static_cast<CardSlot*>(self);
    card.outcome_ = card.src_ == nullptr
                        ? sdmmc_read_sectors(&card.card_, card.dst_, card.first_sector_, card.sectors_)
                        : sdmmc_write_sectors(&card.card_, card.src_, card.first_sector_, card.sectors_);
  };
  return task_.Start("card", kStackBytes, kPriority, 0, read, this);
}

esp_err_t CardSlot::ConnectBySdmmc(const CardRung& rung) {
  const bool has_four = rung.bus == CardBus::k4Bit;
  if (has_four && !kHasFourLines) return ESP_ERR_NOT_SUPPORTED;
  if (!has_four) {
    HoldLevel(CONFIG_THIMBLE_LAMP_GPIO, 0);
    // A card that sees this line low when it is reset answers by SPI.
    HoldLevel(kD3, 1);
  }
  sdmmc_host_t host = SDMMC_HOST_DEFAULT();
  host.slot = SDMMC_HOST_SLOT_1;
  host.max_freq_khz = static_cast<int>(rung.khz);
  host.flags &= ~static_cast<uint32_t>(SDMMC_HOST_FLAG_8BIT | SDMMC_HOST_FLAG_DDR);
  if (!has_four) host.flags &= ~static_cast<uint32_t>(SDMMC_HOST_FLAG_4BIT);
  sdmmc_slot_config_t slot = SDMMC_SLOT_CONFIG_DEFAULT();
  SetSlotPins(slot);
  slot.width = has_four ? 4 : 1;
  slot.flags |= SDMMC_SLOT_FLAG_INTERNAL_PULLUP;
  esp_err_t error = SupplySlot(host);
  if (error == ESP_OK) error = sdmmc_host_init();
  has_sdmmc_ = error == ESP_OK;
  if (error == ESP_OK) error = sdmmc_host_init_slot(host.slot, &slot);
  if (error == ESP_OK) error = sdmmc_card_init(&host, &card_);
  return error;
}

esp_err_t CardSlot::ConnectBySpi(const CardRung& rung) {
  if (kD3 < 0) return ESP_ERR_NOT_SUPPORTED;
  HoldLevel(CONFIG_THIMBLE_LAMP_GPIO, 0);
  sdmmc_host_t host = SDSPI_HOST_DEFAULT();
  host.max_freq_khz = static_cast<int>(rung.khz);
  const spi_host_device_t spi = SPI2_HOST;
  spi_bus_config_t bus = {};
  bus.mosi_io_num = kCmd;
  bus.miso_io_num = kD0;
  bus.sclk_io_num = kClk;
  bus.quadwp_io_num = -1;
  bus.quadhd_io_num = -1;
  esp_err_t error = SupplySlot(host);
  if (error == ESP_OK) error = spi_bus_initialize(spi, &bus, SPI_DMA_CH_AUTO);
  has_spi_bus_ = error == ESP_OK;
  if (error == ESP_OK) error = sdspi_host_init();
  sdspi_device_config_t device = SDSPI_DEVICE_CONFIG_DEFAULT();
  device.host_id = spi;
  device.gpio_cs = static_cast<gpio_num_t>(kD3);
  if (error == ESP_OK) {
    error = sdspi_host_init_device(&device, &spi_device_);
    has_spi_device_ = error == ESP_OK;
  }
  host.slot = spi_device_;
  if (error == ESP_OK) error = sdmmc_card_init(&host, &card_);
  return error;
}

Result<CardIdentity> CardSlot::Connect(const CardRung& rung) {
  Disconnect();
  const esp_err_t error = rung.bus == CardBus::kSpi ? ConnectBySpi(rung) : ConnectBySdmmc(rung);
  if (error != ESP_OK) {
    Disconnect();
    return FailureOf(error);
  }
  CardIdentity identity;
  if (card_.csd.sector_size == static_cast<int>(kSectorBytes)) {
    identity.size_bytes = kSectorBytes * static_cast<uint32_t>(card_.csd.capacity);
  }
  const sdmmc_cid_t& cid = card_.cid;
  identity.serial = static_cast<uint32_t>(cid.serial) ^ static_cast<uint32_t>(cid.mfg_id) << 24 ^
                    static_cast<uint32_t>(cid.oem_id) << 8 ^ static_cast<uint32_t>(cid.date);
  std::transform(cid.name, cid.name + std::min(sizeof(cid.name), identity.name.size()) - 1, identity.name.begin(),
                 [](char c) { return c == '\0' || (c >= ' ' && c <= '~') ? c : '?'; });
  return identity;
}

void CardSlot::Disconnect() {
  if (has_spi_device_) sdspi_host_remove_device(spi_device_);
  if (has_spi_bus_) {
    sdspi_host_deinit();
    spi_bus_free(SPI2_HOST);
  }
  if (has_sdmmc_) sdmmc_host_deinit();
  has_spi_device_ = has_spi_bus_ = has_sdmmc_ = false;
}

bool CardSlot::CanReach(std::span<const std::byte> memory) const {
  return !memory.empty() && esp_ptr_internal(memory.data()) && esp_ptr_dma_capable(memory.data()) &&
         esp_ptr_dma_capable(&memory.back()) && reinterpret_cast<uintptr_t>(memory.data()) % 4 == 0;
}

Result<void> CardSlot::StartRead(uint64_t first_sector, std::span<std::byte> dst) {
  if (!has_sdmmc_ && !has_spi_device_) return FailureOf(ESP_ERR_TIMEOUT);
  src_ = nullptr;
  dst_ = dst.data();
  first_sector_ = static_cast<size_t>(first_sector);
  sectors_ = static_cast<size_t>(dst.size() / kSectorBytes);
  task_.Begin();
  return {};
}

Result<void> CardSlot::WaitRead() {
  // The driver gives up by itself; a card cannot hold this task.
  task_.Wait();
  if (outcome_ != ESP_OK) return FailureOf(outcome_);
  return {};
}

Result<void> CardSlot::Write(uint64_t first_sector, std::span<const std::byte> src) {
  if (!has_sdmmc_ && !has_spi_device_) return FailureOf(ESP_ERR_TIMEOUT);
  src_ = src.data();
  first_sector_ = static_cast<size_t>(first_sector);
  sectors_ = static_cast<size_t>(src.size() / kSectorBytes);
  task_.Begin();
  // The driver waits some seconds for a card that is busy with what it was given.
  return WaitRead();
}

}  // namespace thimble::firmware::idf
