// A regular file, or a block device of the operating system, in the place of the card.
#ifndef THIMBLE_HOST_DEVICES_FILE_DEVICE_H_
#define THIMBLE_HOST_DEVICES_FILE_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>

#include "engine/card/block_device.h"

namespace thimble::host {

// Blocks of 512 bytes; the size is rounded up to whole blocks and what lies beyond the file's end reads as zeros. The
// read is done when StartRead() returns, its outcome is told by WaitRead(). A file that has become shorter since it was
// opened fails with kIo. Owns the file descriptor.
class FileDevice final : public card::BlockDevice {
 public:
  // `buffer_align` is the alignment that buffers must have, for the sake of a board that needs it. Fails with one
  // sentence that names the path: it does not exist, cannot be read, or is a folder, a pipe or empty.
  static std::expected<std::unique_ptr<FileDevice>, std::string> Open(const std::string& path,
                                                                      uint32_t buffer_align = 4);

  FileDevice(const FileDevice&) = delete;
  FileDevice& operator=(const FileDevice&) = delete;
  ~FileDevice();

  card::BlockGeometry geometry() const override { return geometry_; }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override;
  Result<void> WaitRead() override;
  Result<void> Reinitialise() override;

  // Bytes of the file itself, not rounded.
  uint64_t file_size_bytes() const { return file_size_bytes_; }

 private:
  FileDevice(int descriptor, uint64_t file_size_bytes, uint32_t buffer_align);

  int descriptor_;
  uint64_t file_size_bytes_;
  card::BlockGeometry geometry_;
  bool in_flight_ = false;
  Result<void> outcome_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_DEVICES_FILE_DEVICE_H_
