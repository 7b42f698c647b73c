// A regular file, several of them, or a block device of the operating system, in the place of the card.
#ifndef THIMBLE_HOST_DEVICES_FILE_DEVICE_H_
#define THIMBLE_HOST_DEVICES_FILE_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/storage/block_device.h"
#include "host/support/errors.h"
#include "host/support/input_file.h"

namespace thimble::host {

// Blocks of 512 bytes; the size of each file is rounded up to whole blocks and what lies beyond its end reads as zeros.
// The read is done when StartRead() returns, its outcome is told by WaitRead(). A file that has become shorter since it
// was opened fails with kIo.
class FileDevice final : public storage::BlockDevice {
 public:
  // `buffer_align` is the alignment that buffers must have, for the sake of a board that needs it. Fails with one
  // sentence that names the path: it does not exist, cannot be read, or is a folder, a pipe or empty.
  static Expected<std::unique_ptr<FileDevice>> Open(const std::string& path, uint32_t buffer_align = 4);

  // Several files, one after the other, each from a block of its own on. Any of them may be empty.
  static Expected<std::unique_ptr<FileDevice>> OpenAll(std::span<const std::string> paths, uint32_t buffer_align = 4);

  storage::BlockGeometry geometry() const override { return geometry_; }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override;
  Result<void> WaitRead() override;
  Result<void> Reinitialise() override;

  // Bytes of a file itself, not rounded, by its place in the list.
  uint64_t file_size_bytes(size_t i = 0) const { return files_[i].file.size_bytes(); }

 private:
  struct File {
    InputFile file;
    uint64_t begin_bytes;  // on the device
  };

  explicit FileDevice(uint32_t buffer_align);
  // Fills the start of `dst` as far as one read or the zeros behind one file go; returns how far, 0 after a failure.
  size_t ReadPiece(uint64_t offset_bytes, std::span<std::byte> dst);

  std::vector<File> files_;
  storage::BlockGeometry geometry_;
  bool in_flight_ = false;
  Result<void> outcome_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_DEVICES_FILE_DEVICE_H_
