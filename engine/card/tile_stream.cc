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

Result<void> TileStream::Begin(const TensorRef& tensor, uint32_t first_row, uint32_t num_rows, uint32_t tile_rows) {
  tensor_ = tensor;
  tile_rows_ = tile_rows;
  next_row_ = read_row_ = end_row_ = first_row;
  if (first_row > tensor.rows || num_rows > tensor.rows - first_row || tile_rows == 0) {
    return FailAt(tensor, {.code = Code::kInvalidArgument,
                           .what = "{tensor} has {have} rows; rows up to {need} or tiles of no rows were asked for",
                           .have = tensor.rows,
                           .need = uint64_t{first_row} + num_rows});
  }
  end_row_ = first_row + num_rows;
  filling_ = 0;
  return StartRead();
}

Result<Tile> TileStream::Next() {
  if (done()) return FailAt(tensor_, {.code = Code::kInvalidArgument, .what = "{tensor} has no tile left"});
  Result<std::span<const std::byte>> rows = reader_->Wait();
  if (!rows) return FailAt(tensor_, rows.error());
  const Tile tile = {.rows = *rows, .first_row = next_row_, .num_rows = read_row_ - next_row_};
  filling_ ^= 1;
  next_row_ = read_row_;
  THIMBLE_TRY(StartRead());
  return tile;
}

// Starts the read of the tile at read_row_, if there is one.
Result<void> TileStream::StartRead() {
  const uint32_t rows = std::min(tile_rows_, end_row_ - read_row_);
  if (rows == 0) return {};
  const uint64_t offset = tensor_.offset + read_row_ * tensor_.row_bytes();
  if (Result<void> started = reader_->Start(offset, rows * tensor_.row_bytes(), buffers_[filling_]); !started) {
    return FailAt(tensor_, started.error());
  }
  read_row_ += rows;
  return {};
}

uint32_t TileRows(const TensorRef& tensor, uint32_t tile_buffer_bytes, uint32_t block_bytes) {
  const uint64_t row_bytes = tensor.row_bytes();
  const uint64_t rows_of_whole_blocks = block_bytes / std::gcd(row_bytes, uint64_t{block_bytes});
  uint64_t rows = tile_buffer_bytes / row_bytes;
  if (tensor.offset % block_bytes == 0 && rows >= rows_of_whole_blocks) {
    rows -= rows % rows_of_whole_blocks;
  } else {
    // n blocks hold (n - 1) * block_bytes + 1 bytes wherever these start.
    const uint64_t blocks = tile_buffer_bytes / block_bytes;
    rows = blocks == 0 ? 0 : ((blocks - 1) * block_bytes + 1) / row_bytes;
  }
  return static_cast<uint32_t>(std::min<uint64_t>(rows, tensor.rows));
}

}  // namespace thimble::card
