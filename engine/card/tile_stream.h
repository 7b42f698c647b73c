// A tensor as a sequence of tiles of whole rows, read ahead into a ring of DMA buffers.
#ifndef THIMBLE_ENGINE_CARD_TILE_STREAM_H_
#define THIMBLE_ENGINE_CARD_TILE_STREAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/card/file_reader.h"

namespace thimble::card {

struct Tile {
  std::span<const std::byte> rows;  // num_rows whole rows as stored, aligned to 4; valid until the next call of Next()
  uint32_t first_row = 0;
  uint32_t num_rows = 0;
};

// Rows of one tile of this tensor: the most whole rows whose covering blocks fit the buffer, rounded down to a whole
// number of blocks where that wastes nothing. 0 if not even one row fits.
uint32_t TileRows(const TensorRef& tensor, uint32_t tile_buffer_bytes, uint32_t block_bytes);

// Double-buffered: while the caller computes on one tile, the read of the following one is in flight.
//
//   THIMBLE_TRY(stream.Begin(tensor, 0, tensor.rows, tile_rows));
//   while (!stream.done()) {
//     THIMBLE_ASSIGN(const Tile tile, stream.Next());
//     ... compute on tile.rows ...
//   }
class TileStream {
 public:
  // Both buffers have the same size, which bounds a tile together with the blocks that cover it; they are aligned as
  // the device wants them. Reader and buffers must outlive this.
  TileStream(FileReader& reader, std::span<std::byte> buffer0, std::span<std::byte> buffer1)
      : reader_(&reader), buffers_{buffer0, buffer1} {}

  // Starts streaming rows [first_row, first_row + num_rows) in tiles of `tile_rows` rows (the last may be smaller); the
  // first read starts here. Must not be called while tiles of the previous tensor are left, except after a failure,
  // which it clears.
  Result<void> Begin(const TensorRef& tensor, uint32_t first_row, uint32_t num_rows, uint32_t tile_rows);

  // Waits for the tile whose read is in flight, starts the next read into the other buffer, hands the tile out. The
  // previous tile's memory is overwritten from here on. Errors carry the tensor.
  Result<Tile> Next();

  bool done() const { return next_row_ == end_row_; }

 private:
  Result<void> StartRead();

  FileReader* reader_;
  std::array<std::span<std::byte>, 2> buffers_;
  TensorRef tensor_;
  uint32_t tile_rows_ = 0;
  uint32_t next_row_ = 0;  // first row not yet handed out
  uint32_t read_row_ = 0;  // first row not yet asked for
  uint32_t end_row_ = 0;
  uint32_t filling_ = 0;  // index of the buffer the read in flight goes to
};

}  // namespace thimble::card

#endif  // THIMBLE_ENGINE_CARD_TILE_STREAM_H_
