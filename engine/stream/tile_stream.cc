#include "engine/stream/tile_stream.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

namespace thimble::stream {
namespace {

std::unexpected<Error> FailAt(const RowsRef& tensor, Error error) {
  error.tensor = tensor.id;
  return Fail(error);
}

}  // namespace

Result<void> TileStream::Begin(const RowsRef& tensor, uint32_t first_row, uint32_t num_rows, uint32_t tile_rows,
                               const TileBuffers& buffers) {
  return Begin({tensor, first_row, num_rows, tile_rows, buffers});
}

Result<void> TileStream::Begin(const TileRequest& request) {
  const bool under_way = IsUnderWay(request);
  if (!under_way) Abandon();
  next_ = {};
  next_started_ = false;
  source_ = SourceOf(request);
  tensor_ = request.rows;
  buffers_ = request.buffers;
  tile_rows_ = request.tile_rows;
  memory_row_ = memory_end_ = 0;
  next_row_ = read_row_ = end_row_ = request.first_row;
  if (request.first_row > tensor_.rows || request.num_rows > tensor_.rows - request.first_row || tile_rows_ == 0) {
    return FailAt(tensor_, {.code = Code::kInvalidArgument,
                            .what = "{tensor} has {have} rows; rows up to {need} or tiles of no rows were asked for",
                            .have = tensor_.rows,
                            .need = uint64_t{request.first_row} + request.num_rows});
  }
  memory_end_ = tensor_.rows_in_memory();
  share_given_ = false;
  end_row_ = request.first_row + request.num_rows;
  next_row_ = read_row_ = std::max(request.first_row, memory_end_);
  BeginChecks(request);
  if (under_way) {
    read_row_ += std::min(tile_rows_, end_row_ - read_row_);
    return {};
  }
  filling_second_ = false;
  return StartRead();
}

bool TileStream::IsUnderWay(const TileRequest& request) const {
  return next_started_ && SourceOf(request) == SourceOf(next_) && request.rows.offset == next_.rows.offset &&
         request.rows.rows == next_.rows.rows && request.rows.row_bytes == next_.rows.row_bytes &&
         request.first_row == next_.first_row && request.num_rows == next_.num_rows &&
         request.tile_rows == next_.tile_rows && request.buffers.first.data() == next_.buffers.first.data() &&
         request.rows.rows_in_memory() == next_.rows.rows_in_memory();
}

// Whole blocks are checked.
void TileStream::BeginChecks(const TileRequest& request) {
  blocks_ = {};
  checksum_ = Xxh32(checks_.xxh32());
  checked_bytes_ = read_row_ * tensor_.row_bytes;
  const uint64_t end = end_row_ * tensor_.row_bytes;
  if (request.reader != nullptr) return;
  if (request.num_rows == 0 || checked_bytes_ % formats::kCheckBlockBytes != 0) return;
  if (end % formats::kCheckBlockBytes != 0 && end_row_ != tensor_.rows) return;
  const std::span<const uint32_t> blocks = checks_.BlocksOf(tensor_.id);
  if (!blocks.empty()) blocks_ = blocks.subspan(static_cast<size_t>(checked_bytes_ / formats::kCheckBlockBytes));
}

Result<void> TileStream::Follow(const TileRequest& next) {
  next_ = next;
  return StartFollowing();
}

Result<Tile> TileStream::Next() {
  if (done()) return FailAt(tensor_, {.code = Code::kInvalidArgument, .what = "{tensor} has no tile left"});
  if (memory_row_ != memory_end_ && (!share_given_ || next_row_ == end_row_)) return NextInMemory();
  if (read_row_ == next_row_) THIMBLE_TRY(StartRead());
  share_given_ = false;
  Result<std::span<const std::byte>> rows = reading_->Wait();
  if (!rows) {
    read_row_ = next_row_;
    return FailAt(tensor_, rows.error());
  }
  const Tile tile = {
      .rows = *rows, .region = buffers_.region, .first_row = next_row_, .num_rows = read_row_ - next_row_};
  next_row_ = read_row_;
  if (!buffers_.second.empty()) {
    filling_second_ = !filling_second_;
    THIMBLE_TRY(StartRead());
    THIMBLE_TRY(StartFollowing());
  }
  if (!blocks_.empty()) {
    if (const Result<void> checked = Check(tile.rows); !checked) {
      Abandon();
      return std::unexpected(checked.error());
    }
  }
  return tile;
}

// As many of the rows in memory as fall to the tile that comes next.
Tile TileStream::NextInMemory() {
  const uint32_t tiles_left = next_row_ == end_row_ ? 1 : (end_row_ - next_row_ + tile_rows_ - 1) / tile_rows_;
  const auto psram_rows = static_cast<uint32_t>(tensor_.psram.size() / tensor_.row_bytes);
  const bool in_psram = memory_row_ < psram_rows;
  const std::span<const std::byte> part = in_psram ? tensor_.psram : tensor_.flash;
  const uint32_t first = in_psram ? 0 : psram_rows;
  const uint32_t end = in_psram ? psram_rows : memory_end_;
  const uint32_t share = (memory_end_ - memory_row_ + tiles_left - 1) / tiles_left;
  const uint32_t rows = std::min(share, end - memory_row_);
  const auto row_bytes = static_cast<size_t>(tensor_.row_bytes);
  const Tile tile = {.rows = part.subspan((memory_row_ - first) * row_bytes, rows * row_bytes),
                     .region = in_psram ? Region::kPsram : Region::kFlash,
                     .first_row = memory_row_,
                     .num_rows = rows};
  memory_row_ += rows;
  share_given_ = true;
  return tile;
}

void TileStream::Abandon() {
  if (read_row_ != next_row_ || next_started_) (void)reading_->Wait();
  next_row_ = read_row_ = end_row_;
  memory_row_ = memory_end_;
  next_ = {};
  next_started_ = false;
}

Result<void> TileStream::Check(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    // Of one block each: only the first goes on with one that was begun, only the last may leave one unfinished.
    struct Piece {
      std::span<const std::byte> bytes;
      bool is_first = false;
      bool ends_block = false;
      uint32_t checksum = 0;  // of the block, if it ends
    };
    std::array<Piece, 8> pieces;
    uint32_t num_pieces = 0;
    uint64_t size = 0;
    for (Piece& piece : pieces) {
      if (bytes.empty()) break;
      const uint64_t at = checked_bytes_ + size;
      const uint64_t left_in_block = formats::kCheckBlockBytes - at % formats::kCheckBlockBytes;
      piece.bytes = bytes.first(static_cast<size_t>(std::min<uint64_t>(left_in_block, bytes.size())));
      piece.is_first = num_pieces++ == 0;
      piece.ends_block = piece.bytes.size() == left_in_block || at + piece.bytes.size() == tensor_.size_bytes();
      bytes = bytes.subspan(piece.bytes.size());
      size += piece.bytes.size();
    }
    const Xxh32 begun = checksum_;
    ShareRows(workers_, num_pieces, size, [&](uint32_t begin, uint32_t end) {
      for (Piece& piece : std::span(pieces).subspan(begin, end - begin)) {
        Xxh32 checksum = piece.is_first ? begun : Xxh32(checks_.xxh32());
        checksum.Update(piece.bytes);
        if (piece.ends_block) {
          piece.checksum = checksum.Digest();
        } else {
          checksum_ = checksum;
        }
      }
    });
    reader_->ledger().Count(
        {.kernel = Kernel::kXxh32, .units = size, .parts = num_pieces, .region = buffers_.region, .bytes = size});
    for (const Piece& piece : std::span(pieces).first(num_pieces)) {
      checked_bytes_ += piece.bytes.size();
      if (!piece.ends_block) return {};
      if (piece.checksum != blocks_.front()) {
        return formats::DamagedWeights(
            tensor_.id, tensor_.offset + (checked_bytes_ - 1) / formats::kCheckBlockBytes * formats::kCheckBlockBytes);
      }
      blocks_ = blocks_.subspan(1);
    }
    checksum_ = Xxh32(checks_.xxh32());
  }
  return {};
}

// Starts the read of the tile at read_row_, if there is one.
Result<void> TileStream::StartRead() {
  const uint32_t rows = std::min(tile_rows_, end_row_ - read_row_);
  if (rows == 0) return {};
  const std::span<std::byte> buffer = filling_second_ ? buffers_.second : buffers_.first;
  if (Result<void> started = source_->Start(tensor_.OffsetOf(read_row_), rows * tensor_.row_bytes, buffer); !started) {
    return FailAt(tensor_, started.error());
  }
  reading_ = source_;
  read_row_ += rows;
  return {};
}

// Starts the first read of what comes next, if all of the present rows were handed out or lie in memory.
Result<void> TileStream::StartFollowing() {
  if (next_.tile_rows == 0 || next_started_ || next_row_ != end_row_) return {};
  if (buffers_.second.empty() || next_.buffers.second.empty() || next_.buffers.first.data() != buffers_.first.data() ||
      next_.buffers.second.data() != buffers_.second.data()) {
    return {};
  }
  const uint32_t first = std::max(next_.first_row, next_.rows.rows_in_memory());
  const uint32_t end = next_.first_row + next_.num_rows;
  const uint32_t rows = first < end ? std::min(next_.tile_rows, end - first) : 0;
  if (rows == 0) return {};
  // Bytes count where the tensor belongs, not where its read starts.
  Ledger& ledger = reader_->ledger();
  const Zone zone = ledger.zone;
  if (next_.reader == nullptr) ledger.zone = ZoneOf(next_.rows.id.kind);
  storage::FileReader* const source = SourceOf(next_);
  const Result<void> started = source->Start(next_.rows.OffsetOf(first), rows * next_.rows.row_bytes,
                                             filling_second_ ? buffers_.second : buffers_.first);
  ledger.zone = zone;
  if (!started) return FailAt(next_.rows, started.error());
  reading_ = source;
  next_started_ = true;
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

}  // namespace thimble::stream
