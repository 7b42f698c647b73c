#include "idf_flash.h"

#include "esp_err.h"
#include "esp_memory_utils.h"

namespace thimble::firmware::idf {
namespace {

constexpr char kLabel[] = "weights";
// Of address space that is asked for less when all of it is not to be had: a page of the ESP32's flash cache.
constexpr size_t kPageBytes = 64 * 1024;

Result<void> Check(esp_err_t result, uint32_t offset_bytes) {
  if (result == ESP_OK) return {};
  return Fail({.code = Code::kIo,
               .what = "the flash could not be written at byte {offset} of the partition for weights (error {have})",
               .tensor = {},
               .offset = offset_bytes,
               .have = static_cast<uint64_t>(result)});
}

const esp_partition_t* Find(const char* label) {
  return esp_partition_find_first(ESP_PARTITION_TYPE_DATA, ESP_PARTITION_SUBTYPE_ANY, label);
}

}  // namespace

bool PartitionFlash::Open() {
  partition_ = Find(kLabel);
  if (partition_ == nullptr) return false;
  for (size_t bytes = partition_->size; bytes > kPageBytes; bytes -= kPageBytes) {
    const void* begin = nullptr;
    esp_partition_mmap_handle_t handle = 0;
    if (esp_partition_mmap(partition_, 0, bytes, ESP_PARTITION_MMAP_DATA, &begin, &handle) != ESP_OK) continue;
    memory_ = {static_cast<const std::byte*>(begin), bytes / storage::kFlashSectorBytes * storage::kFlashSectorBytes};
    return true;
  }
  return false;
}

Result<void> PartitionFlash::EraseSector(uint32_t offset_bytes) {
  return Check(esp_partition_erase_range(partition_, offset_bytes, storage::kFlashSectorBytes), offset_bytes);
}

Result<void> PartitionFlash::Program(uint32_t offset_bytes, std::span<const std::byte> bytes) {
  if (!bytes.empty() && !(esp_ptr_internal(bytes.data()) && esp_ptr_internal(&bytes.back()))) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "what is written to flash must lie in internal memory",
                 .offset = offset_bytes});
  }
  return Check(esp_partition_write(partition_, offset_bytes, bytes.data(), bytes.size()), offset_bytes);
}

void PartitionFlash::OnProgress(uint64_t done_bytes, uint64_t all_bytes) {
  progress_.Show(*machine_, done_bytes, all_bytes);
}

std::span<const std::byte> MapModelPartition() {
  const esp_partition_t* const partition = Find("model");
  if (partition == nullptr) return {};
  const void* begin = nullptr;
  esp_partition_mmap_handle_t handle = 0;
  if (esp_partition_mmap(partition, 0, partition->size, ESP_PARTITION_MMAP_DATA, &begin, &handle) != ESP_OK) return {};
  return {static_cast<const std::byte*>(begin), partition->size};
}

}  // namespace thimble::firmware::idf
