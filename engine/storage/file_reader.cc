#include "engine/storage/file_reader.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace thimble::storage {
namespace {

// Only these say that trying again can help; anything else is a mistake of the caller.
bool IsDeviceFailure(Code code) { return code == Code::kIo || code == Code::kTimeout; }

}  // namespace

const Extent* FindExtent(std::span<const Extent> extents, uint64_t file_offset_bytes) {
  const auto after =
      std::upper_bound(extents.begin(), extents.end(), file_offset_bytes,
                       [](uint64_t offset, const Extent& extent) { return offset < extent.file_offset_bytes; });
  if (after == extents.begin()) return nullptr;
  const Extent& extent = *(after - 1);
  return file_offset_bytes - extent.file_offset_bytes < extent.size_bytes ? &extent : nullptr;
}

FileReader::FileReader(BlockDevice& device, const FileMap& file, Ledger& ledger, const std::atomic<bool>* cancel)
    : device_(&device), file_(file), ledger_(&ledger), cancel_(cancel), geometry_(device.geometry()) {}

uint64_t FileReader::BufferBytes(uint64_t size_bytes) const {
  if (size_bytes == 0) return 0;
  const uint64_t block = geometry_.block_bytes;
  if (size_bytes > std::numeric_limits<uint64_t>::max() - 2 * block) return std::numeric_limits<uint64_t>::max();
  return ((size_bytes + block - 2) / block + 1) * block;
}

Result<void> FileReader::Start(uint64_t offset_bytes, uint64_t size_bytes, std::span<std::byte> buffer) {
  if (in_flight_) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a read at byte {offset} was started while another is in flight",
                 .offset = offset_bytes});
  }
  if (offset_bytes > file_.size_bytes || size_bytes > file_.size_bytes - offset_bytes) {
    return Fail({.code = Code::kCorrupt,
                 .what = "the file ends at byte {have}, but {need} bytes are needed at byte {offset}",
                 .offset = offset_bytes,
                 .have = file_.size_bytes,
                 .need = size_bytes});
  }
  const uint64_t block = geometry_.block_bytes;
  const uint64_t begin = offset_bytes / block * block;
  const uint64_t end = size_bytes == 0 ? begin : (offset_bytes + size_bytes + block - 1) / block * block;
  if (end - begin > buffer.size()) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a read buffer has {have} bytes and {need} are needed at byte {offset}",
                 .offset = offset_bytes,
                 .have = buffer.size(),
                 .need = end - begin});
  }

  zone_ = ledger_->zone;
  next_file_offset_ = begin;
  end_file_offset_ = end;
  rest_ = buffer.first(static_cast<size_t>(end - begin));
  result_ = size_bytes == 0 ? std::span<const std::byte>()
                            : std::span<const std::byte>(buffer).subspan(static_cast<size_t>(offset_bytes - begin),
                                                                         static_cast<size_t>(size_bytes));
  THIMBLE_TRY(StartPiece());
  counts().payload_bytes += size_bytes;
  in_flight_ = true;
  return {};
}

Result<std::span<const std::byte>> FileReader::Wait() {
  if (!in_flight_) return Fail({.code = Code::kInvalidArgument, .what = "there is no read to wait for"});
  in_flight_ = false;
  while (!piece_.dst.empty()) {
    THIMBLE_TRY(FinishPiece());
    THIMBLE_TRY(StartPiece());
  }
  return result_;
}

Result<void> FileReader::CheckCancel() const {
  if (cancel_ != nullptr && cancel_->load(std::memory_order_relaxed)) {
    return Fail({.code = Code::kCancelled, .what = "cancelled"});
  }
  return {};
}

// Starts the device read of what is left of the range, as far as the extent goes; piece_.dst is empty if nothing is.
Result<void> FileReader::StartPiece() {
  piece_ = {};
  if (next_file_offset_ == end_file_offset_) return {};
  THIMBLE_TRY(CheckCancel());

  const uint64_t block = geometry_.block_bytes;
  const Extent* extent = FindExtent(file_.extents, next_file_offset_);
  if (extent == nullptr) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "no extent of the file holds its byte {offset}",
                 .offset = next_file_offset_});
  }
  const uint64_t into = next_file_offset_ - extent->file_offset_bytes;
  const uint64_t extent_left = (extent->size_bytes - into + block - 1) / block * block;
  const uint64_t bytes = std::min(end_file_offset_ - next_file_offset_, extent_left);
  piece_.device_offset_bytes = extent->device_offset_bytes + into;
  piece_.dst = rest_.first(static_cast<size_t>(bytes));
  piece_.started = device_->StartRead(piece_.device_offset_bytes, piece_.dst);
  if (!piece_.started && !IsDeviceFailure(piece_.started.error().code)) {
    const Error error = piece_.started.error();
    piece_ = {};
    return Fail(error);
  }
  counts().card_bytes += bytes;
  counts().reads += 1;
  next_file_offset_ += bytes;
  rest_ = rest_.subspan(static_cast<size_t>(bytes));
  return {};
}

Result<void> FileReader::FinishPiece() {
  Result<void> outcome = piece_.started ? device_->WaitRead() : piece_.started;
  for (int retries = 0; !outcome; ++retries) {
    Error error = outcome.error();
    error.offset = piece_.device_offset_bytes;
    if (!IsDeviceFailure(error.code) || retries > kReadRetries) return Fail(error);
    THIMBLE_TRY(CheckCancel());
    if (retries == kReadRetries) {
      ++ledger_->reinitialised;
      if (Result<void> ready = device_->Reinitialise(); !ready) {
        error = ready.error();
        error.offset = piece_.device_offset_bytes;
        return Fail(error);
      }
    }
    ++ledger_->retries;
    outcome = device_->StartRead(piece_.device_offset_bytes, piece_.dst);
    if (outcome) outcome = device_->WaitRead();
  }
  return {};
}

Result<void> ByteReader::Seek(uint64_t offset_bytes) {
  if (offset_bytes > file_->file_size_bytes()) {
    return Fail({.code = Code::kCorrupt,
                 .what = "the file ends at byte {have}, but refers to its byte {offset}",
                 .offset = offset_bytes,
                 .have = file_->file_size_bytes(),
                 .need = offset_bytes});
  }
  offset_ = offset_bytes;
  return {};
}

Result<void> ByteReader::Skip(uint64_t bytes) {
  THIMBLE_TRY(CheckLeft(bytes));
  offset_ += bytes;
  return {};
}

Result<void> ByteReader::Read(std::span<std::byte> dst) {
  THIMBLE_TRY(CheckLeft(dst.size()));
  while (!dst.empty()) {
    if (offset_ < window_offset_ || offset_ - window_offset_ >= window_.size()) THIMBLE_TRY(Fill());
    const size_t at = static_cast<size_t>(offset_ - window_offset_);
    const size_t n = std::min(dst.size(), window_.size() - at);
    std::memcpy(dst.data(), window_.data() + at, n);
    dst = dst.subspan(n);
    offset_ += n;
  }
  return {};
}

Result<void> ByteReader::CheckLeft(uint64_t bytes) const {
  if (bytes <= left_bytes()) return {};
  return Fail({.code = Code::kCorrupt,
               .what = "the file ends too early: {need} bytes are needed at byte {offset}, {have} are left",
               .offset = offset_,
               .have = left_bytes(),
               .need = bytes});
}

// Reads as much of the file from offset_ on as the buffer holds.
Result<void> ByteReader::Fill() {
  window_ = {};
  const uint64_t block = file_->block_bytes();
  const uint64_t whole_blocks = buffer_.size() / block * block;
  const uint64_t into = offset_ % block;
  if (whole_blocks <= into) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a read buffer has {have} bytes and {need} are needed at byte {offset}",
                 .offset = offset_,
                 .have = buffer_.size(),
                 .need = 2 * block});
  }
  THIMBLE_TRY(file_->Start(offset_, std::min(left_bytes(), whole_blocks - into), buffer_));
  THIMBLE_ASSIGN(window_, file_->Wait());
  window_offset_ = offset_;
  return {};
}

Result<void> ReadBytes(FileReader& reader, uint64_t offset, std::span<std::byte> out, std::span<std::byte> buffer) {
  return ForBytes(reader, offset, out.size(), buffer,
                  [&](uint64_t at, std::span<const std::byte> bytes) -> Result<void> {
                    std::memcpy(out.data() + at, bytes.data(), bytes.size());
                    return {};
                  });
}

size_t MostAnywhere(const FileReader& reader, std::span<const std::byte> buffer) {
  const size_t block = reader.block_bytes();
  return buffer.size() / block * block - (block - 1);
}

}  // namespace thimble::storage
