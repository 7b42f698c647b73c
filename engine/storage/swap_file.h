// A file on the card that was made to be written: where a session keeps what its memory has no room for.
//
// Format, byte by byte: docs/formats/swap.md of this product. No sector outside the file's extents is ever written, and
// none at all once the card is another one, or another computer has written to it.
#ifndef THIMBLE_ENGINE_STORAGE_SWAP_FILE_H_
#define THIMBLE_ENGINE_STORAGE_SWAP_FILE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/checksum.h"
#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/storage/block_device.h"
#include "engine/storage/file_reader.h"

namespace thimble::storage {

inline constexpr std::string_view kSwapFileName = "thimble.swap";  // in the root folder
inline constexpr uint32_t kSwapHeaderBytes = 4096;                 // what a session writes begins behind it
inline constexpr uint32_t kSwapHeaderUsed = 512;                   // bytes of it that say something
inline constexpr uint32_t kSwapVersion = 1;
inline constexpr uint64_t kMostSwapBytes = uint64_t{4096} * 0xFFFFF;  // less than 4 GiB, which FAT32 allows

// What the header says.
struct SwapHeader {
  uint64_t file_bytes = 0;                    // a multiple of kSwapHeaderBytes
  uint64_t id = 0;                            // of the file, chosen when it was made
  uint64_t generation = 0;                    // how often it was opened to be written
  std::optional<uint32_t> tables_check = {};  // Volume::TablesCheck() when it was opened first; none: it never was
};
std::array<std::byte, kSwapHeaderUsed> EncodeSwapHeader(const SwapHeader& header, Crc32c crc32c);
// kCorrupt: that is no header, or a damaged one; kUnsupported: of another version.
Result<SwapHeader> DecodeSwapHeader(std::span<const std::byte> bytes, Crc32c crc32c);

// The file, opened to be written. Refers to the device, the map's extents, the ledger and the cancel flag; all must
// outlive it. One thread; no read of the device is in flight when it is called.
class SwapFile {
 public:
  // Reads the header through `buffer` (one of the device's blocks at least, aligned as it wants), holds it against the
  // file, and writes it with the next generation. `tables_check`: of the volume that the file lies in; none where there
  // is no volume. Fails as DecodeSwapHeader(), by I/O, and with kInvalidArgument when the volume's tables are not those
  // that the file was opened with first: its extents may belong to another file now.
  static Result<SwapFile> Open(WritableDevice& device, const FileMap& file, Ledger& ledger,
                               const std::atomic<bool>* cancel, std::span<std::byte> buffer, Crc32c crc32c,
                               std::optional<uint32_t> tables_check);

  // Of the whole file.
  FileReader& reader() { return reader_; }
  // Behind the header.
  uint64_t room_bytes() const { return file_.size_bytes - kSwapHeaderBytes; }

  // Holds the header on the card, read through `buffer`, against the one that was written last: another card has
  // another one. kInvalidArgument then.
  Result<void> CheckSameCard(std::span<std::byte> buffer);

  // Writes whole blocks at `offset_bytes` of the file, both multiples of the device's block. kInvalidArgument, and
  // nothing is written, if they do not lie in the file behind its header. A failed write is tried again as a read is
  // (kReadRetries); fails with kIo or kTimeout after that.
  Result<void> Write(uint64_t offset_bytes, std::span<const std::byte> bytes);

 private:
  SwapFile(WritableDevice& device, const FileMap& file, Ledger& ledger, const std::atomic<bool>* cancel, Crc32c crc32c)
      : device_(&device), file_(file), ledger_(&ledger), reader_(device, file, ledger, cancel), crc32c_(crc32c) {}

  Result<void> WriteAnywhere(uint64_t offset_bytes, std::span<const std::byte> bytes);
  Result<void> WritePiece(uint64_t device_offset_bytes, std::span<const std::byte> bytes);

  WritableDevice* device_;
  FileMap file_;
  Ledger* ledger_;
  FileReader reader_;
  Crc32c crc32c_;
  uint32_t header_check_ = 0;  // of the one written last
};

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_SWAP_FILE_H_
