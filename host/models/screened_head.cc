#include "host/models/screened_head.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "engine/storage/volume.h"

namespace thimble::host {
namespace {

constexpr uint32_t kBlockBytes = 512;
constexpr size_t kTileBlocks = 48;  // of each tile buffer: 24 KiB, and a row with the blocks around it at least

template <class T>
std::span<const std::byte> AsBytes(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

}  // namespace

std::vector<uint32_t> GroupChecksums(const BuiltScreen& screen) {
  const formats::ScreenInfo& info = screen.info;
  const size_t rows = screen.records[0].size() / info.record_bytes[0];
  std::vector<uint32_t> checksums;
  size_t part_at = 0;
  for (uint32_t p = 0; p < info.num_parts; ++p) {
    const size_t record_bytes = info.part(p).record_bytes();
    const std::span<const std::byte> part = std::span(screen.records[0]).subspan(part_at, rows * record_bytes);
    const size_t group_bytes = info.group_rows() * record_bytes;
    for (size_t at = 0; at < part.size(); at += group_bytes) {
      checksums.push_back(math::BestKernels().xxh32(0, &part[at], std::min(group_bytes, part.size() - at)));
    }
    part_at += part.size();
  }
  return checksums;
}

ScreenedHead::ScreenedHead(TensorRef tensor, std::span<const std::byte> rows, BuiltScreen screen,
                           const Options& options)
    : tensor_(tensor),
      blocks_(2 * std::max<size_t>(kTileBlocks, static_cast<size_t>(tensor.row_bytes()) / kBlockBytes + 3)) {
  tensor_.offset = 0;
  const auto xxh32 = options.kernels->xxh32_stripes;
  const auto row_bytes = static_cast<size_t>(tensor_.row_bytes());
  std::vector<uint32_t> row_checksums;
  for (uint32_t r = 0; r < tensor_.rows; ++r)
    row_checksums.push_back(Xxh32::Of(xxh32, rows.subspan(r * row_bytes, row_bytes)));
  SealRecords(screen, row_checksums);
  index_.screen = screen.info;
  if (index_.screen.num_candidates == 0) index_.screen.num_candidates = tensor_.rows;

  std::vector<std::byte> file;
  const auto put = [&](formats::Section id, std::span<const std::byte> bytes) {
    index_.sections[static_cast<size_t>(id)] = {
        .offset = file.size(), .bytes = bytes.size(), .checksum = Xxh32::Of(xxh32, bytes)};
    file.insert(file.end(), bytes.begin(), bytes.end());
    file.resize((file.size() + formats::kSectionAlign - 1) / formats::kSectionAlign * formats::kSectionAlign);
  };
  groups_ = GroupChecksums(screen);
  put(formats::Section::kMean, AsBytes(screen.mean));
  put(formats::Section::kTransform, screen.transform);
  put(formats::Section::kGroupChecks, AsBytes(groups_));
  put(formats::Section::kFirstStage, screen.records[0]);
  put(formats::Section::kSecondStage, screen.records[1]);

  model_device_ = std::make_unique<RamDevice>(std::vector<std::byte>(rows.begin(), rows.end()), kBlockBytes);
  index_device_ = std::make_unique<RamDevice>(std::move(file), kBlockBytes);
  model_extent_ = storage::WholeDevice(*model_device_);
  index_extent_ = storage::WholeDevice(*index_device_);
  const storage::FileMap model_map = {{&model_extent_, 1}, model_extent_.size_bytes};
  reader_ = std::make_unique<storage::FileReader>(*model_device_, model_map, ledger_);
  scan_reader_ = std::make_unique<storage::FileReader>(*model_device_, model_map, scan_ledger_);
  index_reader_ = std::make_unique<storage::FileReader>(
      *index_device_, storage::FileMap{{&index_extent_, 1}, index_extent_.size_bytes}, ledger_);
  stream_ = std::make_unique<stream::TileStream>(*reader_);
  scan_stream_ = std::make_unique<stream::TileStream>(*scan_reader_);

  memory_ = TakeMemory(options);
  head::HeadParts parts = {.tensor = &tensor_,
                           .kernels = options.kernels,
                           .workers = options.workers,
                           .reader = scan_reader_.get(),
                           .stream = scan_stream_.get(),
                           .block_bytes = kBlockBytes,
                           .ledger = &scan_ledger_};
  scan_ = std::make_unique<head::Head>(parts, memory_);
  parts.reader = reader_.get();
  parts.stream = stream_.get();
  parts.ledger = &ledger_;
  ledger_.events = options.events;
  parts.index = &index_;
  parts.index_reader = index_reader_.get();
  screen_ = std::make_unique<head::Head>(parts, memory_);
  storage::FlashWriter in_memory;
  if (!screen_->Load(in_memory)) std::abort();  // made a moment ago
}

head::HeadMemory ScreenedHead::TakeMemory(const Options& options) {
  head::HeadMemory memory;
  const formats::ScreenInfo& screen = index_.screen;
  uint64_t psram_bytes = 0;
  uint64_t flash_bytes = 0;
  const uint32_t unit = screen.group_rows();
  for (uint32_t s = 0; s < formats::kNumStages; ++s) {
    const uint64_t record_bytes = screen.record_bytes[s];
    const auto take = [&](uint32_t wanted, uint32_t there, uint64_t& taken_bytes) {
      const uint64_t room = options.memory_bytes - psram_bytes - flash_bytes;
      const auto most = static_cast<uint32_t>(std::min<uint64_t>({wanted, there, room / record_bytes}));
      const uint32_t taken = most == there ? most : most / unit * unit;
      taken_bytes += taken * record_bytes;
      return taken;
    };
    memory.places[s].psram_rows = take(options.psram_rows, tensor_.rows, psram_bytes);
    memory.places[s].flash_rows = take(options.flash_rows, tensor_.rows - memory.places[s].psram_rows, flash_bytes);
  }
  const uint32_t hidden_size = tensor_.cols;
  psram_.resize(static_cast<size_t>(psram_bytes));
  flash_.resize(static_cast<size_t>(flash_bytes));
  rows_.resize(2 * head::kBlockRows);
  mean_.resize(hidden_size);
  const formats::TransformLayout layout = {hidden_size};
  transform_.resize(static_cast<size_t>(layout.bytes() - (options.keeps_matrix ? 0 : layout.matrix_bytes())));
  tables_.resize(size_t{screen.most_part_bytes()} * formats::kNumCentroids);
  sums_.resize(screen.num_parts > 1 ? tensor_.rows : 0);
  radii_.resize(formats::kNumCentroids);
  z_.resize(hidden_size);
  steps_.resize(hidden_size);
  codes_.resize(static_cast<size_t>(head::QueryCodeBytes(hidden_size)));
  quantized_.resize(hidden_size / math::Q8Block::kElements);
  quantized_state_.resize(hidden_size);
  candidates_.resize(sizeof(head::Bounded) * (options.candidates == 0 ? tensor_.rows : options.candidates));
  const std::span<std::byte> tiles = std::as_writable_bytes(std::span(blocks_));
  memory.tiles = {tiles.first(tiles.size() / 2), tiles.subspan(tiles.size() / 2)};
  memory.rows = rows_;
  memory.mean = mean_;
  memory.transform = transform_;
  memory.query = {.mean = mean_,
                  .transform = transform_,
                  .tables = tables_,
                  .radii = radii_,
                  .z = z_,
                  .steps = steps_,
                  .codes = codes_};
  memory.group_checks = groups_;
  memory.sums = sums_;
  memory.quantized = quantized_;
  memory.quantized_state = quantized_state_;
  memory.candidates = candidates_;
  memory.psram = psram_;
  memory.flash = flash_;
  return memory;
}

Result<TokenId> ScreenedHead::Choose(head::Head& head, const float* x, const head::SamplerOptions& sampler,
                                     uint32_t position, std::span<const TokenId> recent) {
  model_device_->ClearReads();
  index_device_->ClearReads();
  std::vector<head::Candidate> kept(static_cast<size_t>(head::CandidatesNeeded(sampler, tensor_.rows)));
  std::vector<TokenId> penalised(static_cast<size_t>(head::PenalisedNeeded(sampler, recent.size())));
  head::TokenChoice choice(sampler, tensor_.rows, position, recent, kept, penalised);
  return head.Choose(x, choice);
}

}  // namespace thimble::host
