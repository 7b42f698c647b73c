// The card's slot by ESP-IDF's SDMMC and SDSPI drivers.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_CARD_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_CARD_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "driver/sdmmc_types.h"
#include "driver/sdspi_host.h"
#include "firmware/app/card_port.h"
#include "idf_helper_task.h"

namespace thimble::firmware::idf {

// Reads and writes are made by a task of its own, which sleeps while the DMA works: the caller computes meanwhile.
// Static.
class CardSlot final : public CardPort {
 public:
  // Starts that task, on core 0 above whatever computes there. False if there is no memory for it.
  bool Start();

  // After Connect(): for FATFS.
  sdmmc_card_t* sdmmc_card() { return &card_; }

  // CardPort.
  Result<CardIdentity> Connect(const CardRung& rung) override;
  void Disconnect() override;
  bool CanReach(std::span<const std::byte> memory) const override;
  Result<void> StartRead(uint64_t first_sector, std::span<std::byte> dst) override;
  Result<void> WaitRead() override;
  Result<void> Write(uint64_t first_sector, std::span<const std::byte> src) override;

 private:
  esp_err_t ConnectBySdmmc(const CardRung& rung);
  esp_err_t ConnectBySpi(const CardRung& rung);

  sdmmc_card_t card_ = {};
  bool has_sdmmc_ = false;
  bool has_spi_bus_ = false;
  bool has_spi_device_ = false;
  sdspi_dev_handle_t spi_device_ = 0;

  // The read in flight, or the write.
  void* dst_ = nullptr;
  const void* src_ = nullptr;  // null: a read
  size_t first_sector_ = 0;
  size_t sectors_ = 0;
  esp_err_t outcome_ = ESP_OK;

  HelperTask task_;
};

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_CARD_H_
