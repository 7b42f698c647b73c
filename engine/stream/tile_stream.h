// A tensor as a sequence of tiles of whole rows, read ahead into a ring of DMA buffers, or lying in memory.
#ifndef THIMBLE_ENGINE_STREAM_TILE_STREAM_H_
#define THIMBLE_ENGINE_STREAM_TILE_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/base/workers.h"
#include "engine/formats/index_file.h"
#include "engine/storage/file_reader.h"

namespace thimble::stream {

// A command to a card costs about as much time as this many bytes of a read (about 0.4 ms at 10 to 17 MB/s).
inline constexpr uint32_t kCommandBytes = 4096;

struct Tile {
  std::span<const std::byte> rows;  // num_rows whole rows as stored, aligned to 4; valid until the next call of Next()
  Region region = Region::kSramDma;
  uint32_t first_row = 0;
  uint32_t num_rows = 0;
};

// Rows of equal size at equal distances in a file: a tensor, a table of the index, or pages of a swap file. The first
// of them may lie in PSRAM, and those after them in flash.
struct RowsRef {
  uint64_t offset = 0;
  uint64_t row_bytes = 0;
  uint64_t stride_bytes = 0;  // from a row to the next one; 0: row_bytes
  uint32_t rows = 0;
  TensorId id = {};                       // for errors
  std::span<const std::byte> psram = {};  // whole rows
  std::span<const std::byte> flash = {};  // whole rows

  RowsRef() = default;
  RowsRef(uint64_t offset_bytes, uint64_t bytes_of_row, uint32_t num_rows, TensorId tensor)
      : offset(offset_bytes), row_bytes(bytes_of_row), rows(num_rows), id(tensor) {}
  RowsRef(const TensorRef& t)  // NOLINT(google-explicit-constructor): a tensor is rows
      : offset(t.offset), row_bytes(t.row_bytes()), rows(t.rows), id(t.id) {}

  uint64_t size_bytes() const { return row_bytes * rows; }
  uint64_t OffsetOf(uint32_t row) const { return offset + row * (stride_bytes == 0 ? row_bytes : stride_bytes); }
  // Rows in memory, from the first on.
  uint32_t rows_in_memory() const {
    return row_bytes == 0 ? 0 : static_cast<uint32_t>((psram.size() + flash.size()) / row_bytes);
  }
};

// Rows of one tile of this tensor. `chunks` 0: the most whole rows whose covering blocks fit the buffer, rounded down
// to a whole number of blocks where that wastes nothing. Otherwise the tensor in this many pieces, as equal as whole
// rows allow. 0 if such a tile, or even one row, does not fit.
uint32_t TileRows(const RowsRef& tensor, uint32_t tile_buffer_bytes, uint32_t block_bytes, uint32_t chunks = 0);

// Where tiles go. The two buffers have the same size, which bounds a tile together with the blocks that cover it, and
// are aligned as the device wants them. With two, the read of the following tile is in flight while the caller computes
// on one; with `second` empty a tile is read when it is asked for.
struct TileBuffers {
  std::span<std::byte> first;
  std::span<std::byte> second;
  Region region = Region::kSramDma;  // where they lie
};

// Some rows, how they are to be cut, and where to.
struct TileRequest {
  RowsRef rows;
  uint32_t first_row = 0;  // 0 where rows lie in memory
  uint32_t num_rows = 0;
  uint32_t tile_rows = 0;  // 1 where rows do not follow one another
  TileBuffers buffers = {};
  storage::FileReader* reader = nullptr;  // of another file, of which no checksums are known; null: the stream's own
};

// A tensor's tiles, each row once. Rows from the card come in ascending order; before each of their tiles a share of
// the rows in memory is handed out, so that these are computed on while the card is read.
//
//   THIMBLE_TRY(stream.Begin(tensor, 0, tensor.rows, tile_rows, buffers));
//   while (!stream.done()) {
//     THIMBLE_ASSIGN(const Tile tile, stream.Next());
//     ... compute on tile.rows ...
//   }
class TileStream {
 public:
  // The reader, those of requests and `workers`, if there are any, must outlive this. With `checks`, tensors that are
  // streamed whole are checked.
  explicit TileStream(storage::FileReader& reader, const formats::WeightChecks& checks = {}, Workers* workers = nullptr)
      : reader_(&reader), source_(&reader), reading_(&reader), checks_(checks), workers_(workers) {}

  // Starts streaming rows [first_row, first_row + num_rows) in tiles of `tile_rows` rows (the last may be smaller) into
  // `buffers`, which stay the caller's; the first read starts here. Must not be called while tiles of the previous
  // tensor are left, except after a failure, which it clears.
  Result<void> Begin(const RowsRef& tensor, uint32_t first_row, uint32_t num_rows, uint32_t tile_rows,
                     const TileBuffers& buffers);

  Result<void> Begin(const TileRequest& request);

  // Says what Begin() will be asked for next: its first read starts as soon as a buffer is free, while the caller still
  // computes on the present tensor. Begin() of something else, a failure and Abandon() drop it. Needs two buffers, the
  // same as the present tensor's; with others it does nothing.
  Result<void> Follow(const TileRequest& next);

  // Waits for the tile whose read is in flight, starts the next read into the other buffer if there is one, hands the
  // tile out. The previous tile's memory is overwritten from here on. Errors carry the tensor: kCorrupt when a checksum
  // does not fit, with the last tile that its block has a part in.
  Result<Tile> Next();

  // Waits for a read that is in flight; there are no tiles left then. For a caller that needs no more of them.
  void Abandon();

  bool done() const { return next_row_ == end_row_ && memory_row_ == memory_end_; }

 private:
  bool IsUnderWay(const TileRequest& request) const;
  void BeginChecks(const TileRequest& request);
  Tile NextInMemory();
  storage::FileReader* SourceOf(const TileRequest& request) const {
    return request.reader != nullptr ? request.reader : reader_;
  }
  Result<void> StartRead();
  Result<void> StartFollowing();
  Result<void> Check(std::span<const std::byte> bytes);

  storage::FileReader* reader_;
  storage::FileReader* source_;   // of the rows at hand
  storage::FileReader* reading_;  // of the read in flight
  formats::WeightChecks checks_;
  Workers* workers_;
  std::span<const uint32_t> blocks_;  // checksums of the tensor, from the block now read on; empty: not checked
  uint64_t checked_bytes_ = 0;        // of the tensor so far
  Xxh32 checksum_{nullptr};           // of the block so far
  TileBuffers buffers_;
  RowsRef tensor_;
  uint32_t tile_rows_ = 0;
  uint32_t next_row_ = 0;  // first row not yet handed out
  uint32_t read_row_ = 0;  // first row not yet asked for
  uint32_t end_row_ = 0;
  bool filling_second_ = false;  // the buffer the read in flight goes to
  uint32_t memory_row_ = 0;      // first row in memory not yet handed out
  uint32_t memory_end_ = 0;
  bool share_given_ = false;  // of the rows in memory, before the tile that comes next
  TileRequest next_;          // tile_rows 0: none
  bool next_started_ = false;
};

}  // namespace thimble::stream

#endif  // THIMBLE_ENGINE_STREAM_TILE_STREAM_H_
