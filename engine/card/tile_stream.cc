#include "engine/card/tile_stream.h"

#include <algorithm>
#include <numeric>

namespace thimble::card {
namespace {

std::unexpected<Error> FailAt(const RowsRef& tensor, Error error) {
  error.tensor = tensor.id;
  return Fail(error);
}

}  // namespace

Result<void> TileStream::Begin(const RowsRef& tensor, uint32_t first_row, uint32_t num_rows, uint32_t tile_rows,
                               const TileBuffers& buffers) {
  tensor_ = tensor;
  buffers_ = buffers;
  tile_rows_ = tile_rows;
  next_row_ = read_row_ = end_row_ = first_row;
  if (first_row > tensor.rows || num_rows > tensor.rows - first_row || tile_rows == 0) {
    return FailAt(tensor, {.code = Code::kInvalidArgument,
                           .what = "{tensor} has {have} rows; rows up to {need} or tiles of no rows were asked for",
                           .have = tensor.rows,
                           .need = uint64_t{first_row} + num_rows});
  }
  end_row_ = first_row + num_rows;
  filling_second_ = false;
  blocks_ = {};
  if (first_row == 0 && num_rows == tensor.rows) blocks_ = checks_.BlocksOf(tensor.id);
  checked_bytes_ = crc_ = 0;
  return StartRead();
}

Result<Tile> TileStream::Next() {
  if (done()) return FailAt(tensor_, {.code = Code::kInvalidArgument, .what = "{tensor} has no tile left"});
  if (read_row_ == next_row_) THIMBLE_TRY(StartRead());
  Result<std::span<const std::byte>> rows = reader_->Wait();
  if (!rows) return FailAt(tensor_, rows.error());
  const Tile tile = {.rows = *rows, .first_row = next_row_, .num_rows = read_row_ - next_row_};
  next_row_ = read_row_;
  if (!buffers_.second.empty()) {
    filling_second_ = !filling_second_;
    THIMBLE_TRY(StartRead());
  }
  if (!blocks_.empty()) {
    if (const Result<void> checked = Check(tile.rows); !checked) {
      Abandon();
      return std::unexpected(checked.error());
    }
  }
  return tile;
}

void TileStream::Abandon() {
  if (read_row_ != next_row_) (void)reader_->Wait();
  next_row_ = read_row_ = end_row_;
}

Result<void> TileStream::Check(std::span<const std::byte> bytes) {
  reader_->ledger().Count({.kernel = Kernel::kCrc32c,
                           .units = bytes.size(),
                           .parts = bytes.size(),
                           .region = buffers_.region,
                           .bytes = bytes.size()});
  while (!bytes.empty()) {
    const uint64_t left_in_block = kCheckBlockBytes - checked_bytes_ % kCheckBlockBytes;
    const std::span<const std::byte> part =
        bytes.first(static_cast<size_t>(std::min<uint64_t>(left_in_block, bytes.size())));
    crc_ = checks_.crc32c()(crc_, part.data(), part.size());
    bytes = bytes.subspan(part.size());
    checked_bytes_ += part.size();
    if (checked_bytes_ % kCheckBlockBytes != 0 && checked_bytes_ != tensor_.size_bytes()) continue;
    if (crc_ != blocks_.front()) {
      return DamagedWeights(tensor_.id, tensor_.offset + (checked_bytes_ - 1) / kCheckBlockBytes * kCheckBlockBytes);
    }
    blocks_ = blocks_.subspan(1);
    crc_ = 0;
  }
  return {};
}

// Starts the read of the tile at read_row_, if there is one.
Result<void> TileStream::StartRead() {
  const uint32_t rows = std::min(tile_rows_, end_row_ - read_row_);
  if (rows == 0) return {};
  const uint64_t offset = tensor_.offset + read_row_ * tensor_.row_bytes;
  const std::span<std::byte> buffer = filling_second_ ? buffers_.second : buffers_.first;
  if (Result<void> started = reader_->Start(offset, rows * tensor_.row_bytes, buffer); !started) {
    return FailAt(tensor_, started.error());
  }
  read_row_ += rows;
  return {};
}

uint32_t TileRows(const RowsRef& tensor, uint32_t tile_buffer_bytes, uint32_t block_bytes, uint32_t chunks) {
  const uint64_t row_bytes = tensor.row_bytes;
  const uint64_t blocks = tile_buffer_bytes / block_bytes;
  // n blocks hold (n - 1) * block_bytes + 1 bytes wherever these start.
  const uint64_t rows_anywhere = blocks == 0 ? 0 : ((blocks - 1) * block_bytes + 1) / row_bytes;
  // Tiles of whole blocks, the first of which starts on a block, waste nothing.
  const uint64_t unit = block_bytes / std::gcd(row_bytes, uint64_t{block_bytes});
  const uint64_t rows_in_blocks = tensor.offset % block_bytes == 0 ? tile_buffer_bytes / row_bytes / unit * unit : 0;
  uint64_t rows = rows_in_blocks != 0 ? rows_in_blocks : rows_anywhere;
  if (chunks != 0) {
    const uint64_t rows_of_chunk = (tensor.rows + uint64_t{chunks} - 1) / chunks;
    const bool in_blocks = rows_of_chunk % unit == 0 && rows_of_chunk <= rows_in_blocks;
    rows = in_blocks || rows_of_chunk <= rows_anywhere ? rows_of_chunk : 0;
  }
  return static_cast<uint32_t>(std::min<uint64_t>(rows, tensor.rows));
}

}  // namespace thimble::card
