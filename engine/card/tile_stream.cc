#include "engine/card/tile_stream.h"

#include <algorithm>
#include <numeric>

namespace thimble::card {
namespace {

std::unexpected<Error> FailAt(const TensorRef& tensor, Error error) {
  error.tensor = tensor.id;
  return Fail(error);
}

}  // namespace

Result<void> TileStream::Begin(const TensorRef& tensor, uint32_t first_row, uint32_t num_rows, uint32_t tile_rows,
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
  return tile;
}

// Starts the read of the tile at read_row_, if there is one.
Result<void> TileStream::StartRead() {
  const uint32_t rows = std::min(tile_rows_, end_row_ - read_row_);
  if (rows == 0) return {};
  const uint64_t offset = tensor_.offset + read_row_ * tensor_.row_bytes();
  const std::span<std::byte> buffer = filling_second_ ? buffers_.second : buffers_.first;
  if (Result<void> started = reader_->Start(offset, rows * tensor_.row_bytes(), buffer); !started) {
    return FailAt(tensor_, started.error());
  }
  read_row_ += rows;
  return {};
}

uint32_t TileRows(const TensorRef& tensor, uint32_t tile_buffer_bytes, uint32_t block_bytes, uint32_t chunks) {
  const uint64_t row_bytes = tensor.row_bytes();
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
