#include "tests/support/screened_head.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>

#include "engine/storage/volume.h"
#include "host/formats/weights.h"
#include "host/models/screen_builder.h"

namespace thimble::tests {
namespace {

constexpr uint32_t kBlockBytes = 512;
constexpr size_t kTileBlocks = 48;  // of each tile buffer: 24 KiB

template <class T>
std::span<const std::byte> BytesOf(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

}  // namespace

std::vector<float> Normal(size_t n, uint32_t seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

std::vector<float> HardHead(uint32_t rows, uint32_t hidden_size, uint32_t seed) {
  std::vector<float> head = Normal(size_t{rows} * hidden_size, seed);
  std::mt19937 random(seed);
  for (uint32_t r = 1; r < rows; ++r) {
    float* const row = &head[size_t{r} * hidden_size];
    const float* const other = &head[size_t{random() % r} * hidden_size];
    switch (random() % 8) {
      case 0:
        std::copy_n(other, hidden_size, row);
        break;
      case 1: {
        std::copy_n(other, hidden_size, row);
        float& one = row[random() % hidden_size];
        one = std::nextafter(one, 100.0f);
        break;
      }
      case 2:
        std::copy_n(other, hidden_size, row);
        for (uint32_t i = 0; i < hidden_size; ++i) row[i] = std::nextafter(row[i], i % 2 == 0 ? 9.0f : -9.0f);
        break;
      case 3:
        std::fill_n(row, hidden_size, 0.0f);
        break;
      case 4:
        for (uint32_t i = 0; i < hidden_size; ++i) row[i] *= 1e-39f;
        break;
      case 5:
        for (uint32_t i = 0; i < hidden_size; ++i) row[i] *= 1.5f;
        break;
      default:
        break;
    }
  }
  return head;
}

ScreenedHead::ScreenedHead(std::span<const float> weights, uint32_t hidden_size, std::span<const float> states,
                           const Options& options)
    : blocks_(2 * kTileBlocks) {
  const auto rows = static_cast<uint32_t>(weights.size() / hidden_size);
  tensor_ = {.offset = 0,
             .rows = rows,
             .cols = hidden_size,
             .id = {TensorKind::kLmHead, 0},
             .type = options.as_blocks                             ? DType::kQ8_0
                     : std::ranges::all_of(weights, host::FitsF16) ? DType::kF16
                                                                   : DType::kF32};
  const std::vector<std::byte> model = StoreWeights(weights);
  std::vector<float> expanded(weights.size());
  host::ExpandElements(model, tensor_.type, expanded);
  weights = expanded;
  host::BuiltScreen screen = host::BuildScreen(weights, hidden_size, states, options.bits);
  host::MeasureScreen(screen, hidden_size, states);
  if (!options.room_as_measured) screen.info.num_candidates = rows;
  const auto crc32c = options.kernels->crc32c;

  const auto row_bytes = static_cast<size_t>(tensor_.row_bytes());
  std::vector<uint32_t> row_crcs;
  for (uint32_t r = 0; r < rows; ++r) row_crcs.push_back(crc32c(0, &model[r * row_bytes], row_bytes));
  host::SealRecords(screen, row_crcs);
  index_.screen = screen.info;

  std::vector<std::byte> file;
  const auto put = [&](formats::Section id, std::span<const std::byte> bytes) {
    index_.sections[static_cast<size_t>(id)] = {
        .offset = file.size(), .bytes = bytes.size(), .crc = crc32c(0, bytes.data(), bytes.size())};
    file.insert(file.end(), bytes.begin(), bytes.end());
    file.resize((file.size() + formats::kSectionAlign - 1) / formats::kSectionAlign * formats::kSectionAlign);
  };
  put(formats::Section::kVectors, BytesOf(screen.vectors));
  const std::vector<std::byte>& first = screen.records[0];
  const size_t group_bytes =
      size_t{formats::GroupRows(screen.info.stages[0].record_bytes)} * screen.info.stages[0].record_bytes;
  for (size_t at = 0; at < first.size(); at += group_bytes) {
    groups_.push_back(crc32c(0, &first[at], std::min(group_bytes, first.size() - at)));
  }
  put(formats::Section::kGroupChecks, BytesOf(groups_));
  for (uint32_t s = 0; s < screen.info.num_stages; ++s) {
    put(static_cast<formats::Section>(static_cast<uint32_t>(formats::Section::kStage0) + s), screen.records[s]);
  }

  model_device_ = std::make_unique<host::RamDevice>(model, kBlockBytes);
  index_device_ = std::make_unique<host::RamDevice>(file, kBlockBytes);
  model_extent_ = storage::WholeDevice(*model_device_);
  index_extent_ = storage::WholeDevice(*index_device_);
  const storage::FileMap model_map = {{&model_extent_, 1}, model_extent_.size_bytes};
  reader_ = std::make_unique<storage::FileReader>(*model_device_, model_map, ledger_);
  scan_reader_ = std::make_unique<storage::FileReader>(*model_device_, model_map, scan_ledger_);
  index_reader_ = std::make_unique<storage::FileReader>(
      *index_device_, storage::FileMap{{&index_extent_, 1}, index_extent_.size_bytes}, ledger_);
  stream_ = std::make_unique<stream::TileStream>(*reader_);
  scan_stream_ = std::make_unique<stream::TileStream>(*scan_reader_);

  const head::HeadMemory memory = TakeMemory(options);
  head::HeadParts parts = {.tensor = &tensor_,
                           .kernels = options.kernels,
                           .workers = options.workers,
                           .reader = scan_reader_.get(),
                           .stream = scan_stream_.get(),
                           .block_bytes = kBlockBytes,
                           .ledger = &scan_ledger_};
  scan_ = std::make_unique<head::Head>(parts, memory);
  parts.reader = reader_.get();
  parts.stream = stream_.get();
  parts.ledger = &ledger_;
  parts.index = &index_;
  parts.index_reader = index_reader_.get();
  screen_ = std::make_unique<head::Head>(parts, memory);
  storage::FlashWriter in_memory;
  if (!screen_->Load(in_memory)) std::abort();  // made a moment ago
}

std::vector<std::byte> ScreenedHead::StoreWeights(std::span<const float> weights) const {
  std::vector<std::byte> bytes;
  if (tensor_.type == DType::kQ8_0) {
    bytes.resize(static_cast<size_t>(tensor_.size_bytes()));
    if (!host::QuantizeQ8_0(weights, bytes)) std::abort();
    return bytes;
  }
  const auto append = [&](auto value) {
    const auto* const data = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), data, data + sizeof(value));
  };
  for (float value : weights) {
    if (tensor_.type == DType::kF16) {
      append(host::ToF16(value));
    } else {
      append(value);
    }
  }
  return bytes;
}

head::HeadMemory ScreenedHead::TakeMemory(const Options& options) {
  head::HeadMemory memory;
  uint64_t psram_bytes = 0;
  uint64_t flash_bytes = 0;
  const uint32_t unit = formats::GroupRows(index_.screen.stages[0].record_bytes);
  for (uint32_t s = 0; s < index_.screen.num_stages; ++s) {
    const uint64_t record_bytes = index_.screen.stages[s].record_bytes;
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
  psram_.resize(static_cast<size_t>(psram_bytes));
  flash_.resize(static_cast<size_t>(flash_bytes));
  rows_.resize(2 * head::kBlockRows);
  vectors_.resize((1 + index_.screen.num_directions) * size_t{tensor_.cols});
  quantized_.resize(tensor_.cols / math::Q8Block::kElements);
  quantized_state_.resize(tensor_.cols);
  codes_.resize(static_cast<size_t>(head::QueryCodeBytes(tensor_.cols)));
  candidates_.resize(index_.screen.num_candidates);
  const std::span<std::byte> tiles = std::as_writable_bytes(std::span(blocks_));
  memory.tiles = {tiles.first(tiles.size() / 2), tiles.subspan(tiles.size() / 2)};
  memory.rows = rows_;
  memory.vectors = vectors_;
  memory.group_checks = groups_;
  memory.codes = codes_;
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

}  // namespace thimble::tests
