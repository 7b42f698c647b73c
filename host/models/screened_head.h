// An LM head and its screen in this computer's memory, asked as a session asks them.
#ifndef THIMBLE_HOST_MODELS_SCREENED_HEAD_H_
#define THIMBLE_HOST_MODELS_SCREENED_HEAD_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/formats/index_file.h"
#include "engine/head/head.h"
#include "engine/head/sampler.h"
#include "engine/math/kernels.h"
#include "engine/stream/tile_stream.h"
#include "host/devices/ram_device.h"
#include "host/models/screen_builder.h"

namespace thimble::host {

// Stays where it is: its parts point at each other.
class ScreenedHead {
 public:
  struct Options {
    const math::Kernels* kernels = &math::BestKernels();
    Workers* workers = nullptr;
    // Rows of each stage that are kept in PSRAM, and in flash; whole groups, as the engine wants them. The others are
    // read from the card.
    uint32_t psram_rows = std::numeric_limits<uint32_t>::max();
    uint32_t flash_rows = 0;
    // Of both, which the stages share, the first before the second.
    uint64_t memory_bytes = std::numeric_limits<uint64_t>::max();
    bool keeps_matrix = true;     // of the transform, in memory
    EventSink* events = nullptr;  // told of what the screen does
    // Survivors of the first stage to have room for; 0: all rows.
    uint32_t candidates = 0;
  };

  // `rows` [tensor.rows, tensor.row_bytes()] as the model stores them; `screen` is sealed here. What the screen keeps
  // in memory is loaded.
  ScreenedHead(TensorRef tensor, std::span<const std::byte> rows, BuiltScreen screen, const Options& options);
  ScreenedHead(const ScreenedHead&) = delete;
  ScreenedHead& operator=(const ScreenedHead&) = delete;

  // The token by the screen, or by a scan of all rows.
  Result<TokenId> Screened(const float* x, const head::SamplerOptions& sampler, uint32_t position,
                           std::span<const TokenId> recent) {
    return Choose(*screen_, x, sampler, position, recent);
  }
  Result<TokenId> Scanned(const float* x, const head::SamplerOptions& sampler, uint32_t position,
                          std::span<const TokenId> recent) {
    return Choose(*scan_, x, sampler, position, recent);
  }

  const TensorRef& tensor() const { return tensor_; }
  const Ledger& ledger() const { return ledger_; }            // of the screen
  const Ledger& scan_ledger() const { return scan_ledger_; }  // of scans that were asked for

 private:
  struct alignas(512) Block {
    std::byte bytes[512];
  };

  Result<TokenId> Choose(head::Head& head, const float* x, const head::SamplerOptions& sampler, uint32_t position,
                         std::span<const TokenId> recent);
  head::HeadMemory TakeMemory(const Options& options);

  TensorRef tensor_;
  formats::Index index_;
  Ledger ledger_, scan_ledger_;
  std::unique_ptr<RamDevice> model_device_, index_device_;
  storage::Extent model_extent_, index_extent_;
  std::unique_ptr<storage::FileReader> reader_, scan_reader_, index_reader_;
  std::unique_ptr<stream::TileStream> stream_, scan_stream_;
  std::vector<Block> blocks_;
  std::vector<float> rows_, mean_, z_, quantized_state_;
  std::vector<int16_t> tables_, steps_;
  std::vector<int32_t> radii_, sums_;
  std::vector<math::Q8Block> quantized_;
  std::vector<uint32_t> groups_;
  std::vector<int8_t> codes_;
  std::vector<std::byte> candidates_, transform_;
  std::vector<std::byte> psram_, flash_;
  head::HeadMemory memory_;  // of both
  std::unique_ptr<head::Head> scan_, screen_;
};

// Checksums of the first stage's groups of rows, part after part.
std::vector<uint32_t> GroupChecksums(const BuiltScreen& screen);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_SCREENED_HEAD_H_
