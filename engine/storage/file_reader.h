// Bytes of a file that lies in extents on a block device. The one place where reads are counted and retried.
#ifndef THIMBLE_ENGINE_STORAGE_FILE_READER_H_
#define THIMBLE_ENGINE_STORAGE_FILE_READER_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/storage/block_device.h"

namespace thimble::storage {

// A run of consecutive blocks of a file. Extents are in file order and cover the file without gaps; all but the last
// start and end on block boundaries, in the file as on the device.
struct Extent {
  uint64_t file_offset_bytes = 0;
  uint64_t device_offset_bytes = 0;
  uint64_t size_bytes = 0;
};

// Where a file lies. `extents` is the caller's memory.
struct FileMap {
  std::span<const Extent> extents;
  uint64_t size_bytes = 0;  // the file's size; its last block may reach beyond
};

// The extent that holds this byte of the file; null: none does.
const Extent* FindExtent(std::span<const Extent> extents, uint64_t file_offset_bytes);

// Attempts of one read: the first, kReadRetries more, then the device is re-initialised and it is tried once again.
inline constexpr int kReadRetries = 3;

// Reads ranges of one file, one read in flight. Refers to the device, the map's extents, the ledger and the cancel
// flag; all must outlive it. One thread.
class FileReader {
 public:
  // `cancel`, if not null, is looked at before every device read; set, the read fails with kCancelled. It may be set
  // from another thread or a signal handler.
  FileReader(BlockDevice& device, const FileMap& file, Ledger& ledger, const std::atomic<bool>* cancel = nullptr);

  // Bytes that a buffer must have to read `size_bytes` from anywhere in the file: the whole blocks that cover them.
  uint64_t BufferBytes(uint64_t size_bytes) const;

  // Starts reading file bytes [offset_bytes, offset_bytes + size_bytes) into `buffer`, which must be aligned to the
  // device's buffer_align and at least as large as the blocks that cover the range. A range that spans extents is
  // read in several device reads, the later ones from Wait(). Fails with kInvalidArgument on a bad buffer or a read in
  // flight, kCorrupt if the range leaves the file.
  Result<void> Start(uint64_t offset_bytes, uint64_t size_bytes, std::span<std::byte> buffer);

  // Waits and returns the range asked for: a part of `buffer`, valid until the caller reuses it. A failed read is
  // retried, then the device is re-initialised; fails with kIo or kTimeout after that (offset: byte of the device), or
  // kCancelled.
  Result<std::span<const std::byte>> Wait();

  // The same file through another device over the same bytes: for an adapter around the device.
  FileReader Through(BlockDevice& device) const { return FileReader(device, file_, *ledger_, cancel_); }

  BlockDevice& device() { return *device_; }
  uint64_t file_size_bytes() const { return file_.size_bytes; }
  uint32_t block_bytes() const { return geometry_.block_bytes; }
  Ledger& ledger() { return *ledger_; }

 private:
  struct Piece {
    uint64_t device_offset_bytes = 0;
    std::span<std::byte> dst;
    Result<void> started = {};  // what StartRead() said; a failure is retried when it is waited for
  };

  Result<void> CheckCancel() const;
  Result<void> StartPiece();
  Result<void> FinishPiece();
  ZoneCounts& counts() { return ledger_->zones[static_cast<size_t>(zone_)]; }

  BlockDevice* device_;
  FileMap file_;
  Ledger* ledger_;
  const std::atomic<bool>* cancel_;
  BlockGeometry geometry_;

  bool in_flight_ = false;
  Zone zone_ = Zone::kOpen;        // of the range: its later device reads count where its first one does
  Piece piece_;                    // the device read in flight
  uint64_t next_file_offset_ = 0;  // where the piece after it begins
  uint64_t end_file_offset_ = 0;   // block-rounded end of the range
  std::span<std::byte> rest_;      // buffer not yet read into
  std::span<const std::byte> result_;
};

// The most bytes that a buffer holds wherever in the file they start.
size_t MostAnywhere(const FileReader& reader, std::span<const std::byte> buffer);

// Calls use(where it begins, bytes) for one piece after the other of the `num_bytes` bytes from `offset` on, each in
// `buffer`.
template <class Use>
Result<void> ForBytes(FileReader& reader, uint64_t offset, uint64_t num_bytes, std::span<std::byte> buffer, Use use) {
  const uint64_t step = MostAnywhere(reader, buffer);
  for (uint64_t done = 0; done < num_bytes; done += step) {
    THIMBLE_TRY(reader.Start(offset + done, std::min(step, num_bytes - done), buffer));
    THIMBLE_ASSIGN(const std::span<const std::byte> bytes, reader.Wait());
    THIMBLE_TRY(use(done, bytes));
  }
  return {};
}

// Reads bytes into memory through `buffer`, as FileReader wants it. Fails by I/O.
Result<void> ReadBytes(FileReader& reader, uint64_t offset, std::span<std::byte> out, std::span<std::byte> buffer);

// Sequential bytes of a file through a small buffer: for headers, metadata and tokenizers. Little-endian.
class ByteReader {
 public:
  // `buffer` is aligned as the device wants it and at least two blocks large. Both must outlive this.
  ByteReader(FileReader& file, std::span<std::byte> buffer) : file_(&file), buffer_(buffer) {}

  uint64_t offset_bytes() const { return offset_; }
  uint64_t left_bytes() const { return file_->file_size_bytes() - offset_; }

  // Fails with kCorrupt, naming the offset, when the target is beyond the end of the file.
  Result<void> Seek(uint64_t offset_bytes);
  Result<void> Skip(uint64_t bytes);

  // Reads exactly dst.size() bytes; kCorrupt ("ends too early") when the file has fewer left.
  Result<void> Read(std::span<std::byte> dst);

  // Reads one little-endian integer or float.
  template <class T>
  Result<T> ReadLittleEndian() {
    static_assert(std::endian::native == std::endian::little && std::is_arithmetic_v<T>);
    T value = 0;
    THIMBLE_TRY(Read(std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }

 private:
  Result<void> CheckLeft(uint64_t bytes) const;
  Result<void> Fill();

  FileReader* file_;
  std::span<std::byte> buffer_;
  std::span<const std::byte> window_;  // file bytes [window_offset_, + size) now in buffer_
  uint64_t window_offset_ = 0;
  uint64_t offset_ = 0;
};

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_FILE_READER_H_
