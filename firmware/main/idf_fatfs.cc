#include "idf_fatfs.h"

#include <array>
#include <cstdint>
#include <memory>
#include <new>

#include "diskio_impl.h"
#include "diskio_sdmmc.h"
#include "engine/base/text_buffer.h"
#include "esp_err.h"
#include "ff.h"

namespace thimble::firmware::idf {
namespace {

Result<void> Failure(FRESULT result) {
  return Fail({.code = Code::kIo, .what = "FATFS failed with its error {have}", .have = static_cast<uint64_t>(result)});
}

Result<void> ReadFile(const char* path, uint64_t offset_bytes, std::span<std::byte> out) {
  const std::unique_ptr<FIL> file(new (std::nothrow) FIL);
  if (file == nullptr) return Failure(FR_NOT_ENOUGH_CORE);
  FRESULT result = f_open(file.get(), path, FA_READ);
  if (result != FR_OK) return Failure(result);
  UINT got = 0;
  result = f_lseek(file.get(), static_cast<FSIZE_t>(offset_bytes));
  if (result == FR_OK) result = f_read(file.get(), out.data(), static_cast<UINT>(out.size()), &got);
  f_close(file.get());
  if (result != FR_OK) return Failure(result);
  if (got != out.size()) return Fail({.code = Code::kIo, .what = "FATFS finds the file shorter than it is"});
  return {};
}

}  // namespace

Result<void> ReadByFatfs(sdmmc_card_t& card, const char* name, uint64_t offset_bytes, std::span<std::byte> out) {
  BYTE drive = FF_DRV_NOT_USED;
  if (ff_diskio_get_drive(&drive) != ESP_OK || drive == FF_DRV_NOT_USED) return Failure(FR_INVALID_DRIVE);
  const std::unique_ptr<FATFS> volume(new (std::nothrow) FATFS);
  if (volume == nullptr) return Failure(FR_NOT_ENOUGH_CORE);
  ff_diskio_register_sdmmc(drive, &card);
  std::array<char, 300> path;
  TextBuffer text(path);
  text.Append(uint64_t{drive});
  text.Append(":");
  const std::array<char, 3> root = {path[0], ':', '\0'};
  text.Append("/");
  text.Append(name);
  const FRESULT mounted = f_mount(volume.get(), root.data(), 1);
  const Result<void> read = mounted == FR_OK ? ReadFile(path.data(), offset_bytes, out) : Failure(mounted);
  f_mount(nullptr, root.data(), 0);
  ff_diskio_unregister(drive);
  return read;
}

}  // namespace thimble::firmware::idf
