// Which rows of a model's matrices are kept in memory, so that the card need not give them for every token.
#ifndef THIMBLE_ENGINE_STREAM_RESIDENT_ROWS_H_
#define THIMBLE_ENGINE_STREAM_RESIDENT_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/tensor.h"
#include "engine/formats/model_file.h"
#include "engine/storage/flash_writer.h"
#include "engine/stream/tile_stream.h"

namespace thimble::stream {

// The shares of the layers' matrices that are kept: of each matrix its first rows in PSRAM, the rows after them in
// flash, both rounded to whole blocks of checksums, or to the whole matrix. Together at most 100.
struct ResidentShares {
  uint32_t psram_percent = 0;
  uint32_t flash_percent = 0;

  bool empty() const { return psram_percent == 0 && flash_percent == 0; }
  friend bool operator==(const ResidentShares&, const ResidentShares&) = default;
};

struct ResidentRows {
  uint32_t psram = 0;
  uint32_t flash = 0;
};

// Of one tensor; none of those that belong to no layer, and of vectors.
ResidentRows ResidentRowsOf(const TensorRef& tensor, const ResidentShares& shares);

// Bytes of all of them, each tensor's rounded up to kArenaAlign.
struct ResidentBytes {
  uint64_t psram = 0;
  uint64_t flash = 0;

  ResidentBytes& operator+=(const ResidentBytes& o) {
    psram += o.psram;
    flash += o.flash;
    return *this;
  }
  ResidentBytes& operator-=(const ResidentBytes& o) {
    psram -= o.psram;
    flash -= o.flash;
    return *this;
  }
};
ResidentBytes ResidentBytesOf(const formats::ModelFile& model, const ResidentShares& shares);

// The memory that holds them: the tensors' rows one after the other, in the order of the model's table. Of one model,
// for one thread.
struct ResidentMemory {
  ResidentShares shares;
  std::span<std::byte> psram;
  std::span<std::byte> flash;
  mutable formats::SumBefore<ResidentBytes> before = {};
};

// The rows of one tensor of the model, with those in memory where they lie.
RowsRef RowsIn(const ResidentMemory& memory, const formats::ModelFile& model, const TensorRef& tensor);

// Fills the memory through `stream` and its buffers, that in flash by `flash`, its places rising. Fails as a TileStream
// does, and as `flash`.
Result<void> LoadResidentRows(const ResidentMemory& memory, const formats::ModelFile& model, uint32_t block_bytes,
                              const TileBuffers& buffers, TileStream& stream, storage::FlashWriter& flash);

}  // namespace thimble::stream

#endif  // THIMBLE_ENGINE_STREAM_RESIDENT_ROWS_H_
