// An LM head in memory with its screen, as a model's file and its index would have them; and heads that a screen finds
// hard.
#ifndef THIMBLE_TESTS_SUPPORT_SCREENED_HEAD_H_
#define THIMBLE_TESTS_SUPPORT_SCREENED_HEAD_H_

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

namespace thimble::tests {

// Independent normal numbers; the same for the same arguments with one standard library.
std::vector<float> Normal(size_t n, uint32_t seed, float deviation = 1.0f);

// Rows [rows, hidden_size], among them equal ones, some that differ by one unit in the last place of one element or of
// all, zeros, subnormal ones and large ones.
std::vector<float> HardHead(uint32_t rows, uint32_t hidden_size, uint32_t seed);

// Stays where it is: its parts point at each other.
class ScreenedHead {
 public:
  struct Options {
    std::vector<uint32_t> bits;
    const math::Kernels* kernels = &math::BestKernels();
    Workers* workers = nullptr;
    // Rows of each stage that are kept in PSRAM, and in flash; whole groups, as the engine wants them. The others are
    // read from the card.
    uint32_t psram_rows = std::numeric_limits<uint32_t>::max();
    uint32_t flash_rows = 0;
    // Of both, which the stages share, the first before the others.
    uint64_t memory_bytes = std::numeric_limits<uint64_t>::max();
    // The rows are rounded to Q8_0, and so are the states that they are multiplied with.
    bool as_blocks = false;
    // Room for as many candidates as `thimble prepare` asks for, rather than for all rows.
    bool room_as_measured = false;
  };

  // `weights` [rows, hidden_size], stored as F16 where every one of them is exact in it, else as float32, or in blocks
  // that must be able to hold them. `states`
  // [n, hidden_size] shape the screen, and it is measured on them.
  ScreenedHead(std::span<const float> weights, uint32_t hidden_size, std::span<const float> states,
               const Options& options);
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
  std::vector<std::byte> StoreWeights(std::span<const float> weights) const;
  head::HeadMemory TakeMemory(const Options& options);

  TensorRef tensor_;
  formats::Index index_;
  Ledger ledger_, scan_ledger_;
  std::unique_ptr<host::RamDevice> model_device_, index_device_;
  storage::Extent model_extent_, index_extent_;
  std::unique_ptr<storage::FileReader> reader_, scan_reader_, index_reader_;
  std::unique_ptr<stream::TileStream> stream_, scan_stream_;
  std::vector<Block> blocks_;
  std::vector<float> rows_, vectors_, quantized_state_;
  std::vector<math::Q8Block> quantized_;
  std::vector<uint32_t> groups_;
  std::vector<int8_t> codes_;
  std::vector<head::Bounded> candidates_;
  std::vector<std::byte> psram_, flash_;
  std::unique_ptr<head::Head> scan_, screen_;
};

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_SCREENED_HEAD_H_
