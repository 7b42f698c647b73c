#include "engine/head/head.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>

#include "engine/base/exact.h"
#include "engine/head/contest.h"
#include "engine/head/sweep.h"

namespace thimble::head {
namespace {

constexpr uint64_t kLooksOfScan = 4;  // at a row, which take as long as an element of a scan
constexpr uint32_t kAsksOfPrune = 8;  // after so many answers, rows that cannot matter any more are dropped
constexpr size_t kMinPruned = 32;     // of so many rows at least
constexpr size_t kMinNarrowed = 128;  // survivors, of which it pays to ask more of the likeliest

// After a selection, which leaves each C++ library's own order: what is asked next, and how often, depends on it.
void ToOrderOfFile(std::span<Bounded> rows) {
  std::sort(rows.begin(), rows.end(), [](const Bounded& a, const Bounded& b) { return a.id < b.id; });
}

// What stands at the end of a later stage's record.
formats::RecordTail TailOf(std::span<const std::byte> record) {
  formats::RecordTail tail;
  std::memcpy(&tail, record.data() + record.size() - sizeof(tail), sizeof(tail));
  return tail;
}

}  // namespace

Head::Head(const HeadParts& parts, const HeadMemory& memory) : parts_(parts), memory_(memory) {
  if (!has_screen()) return;
  query_ = Query(parts_.index->screen, parts_.tensor->cols, *parts_.kernels, memory_.query);
  room_ = {reinterpret_cast<Survivor*>(memory_.candidates.data()), memory_.candidates.size() / sizeof(Survivor)};
}

stream::RowsRef Head::RowsOfPart(uint32_t p) const {
  const TensorRef& tensor = *parts_.tensor;
  return {parts_.index->part_offset(p, tensor.rows), part(p).record_bytes(), tensor.rows, tensor.id};
}

stream::RowsRef Head::RowsOfSecond() const {
  return {parts_.index->stage(1).offset, record_bytes(1), parts_.tensor->rows, parts_.tensor->id};
}

// Of `record_bytes` of each row's record in this stage, from `first_byte` on.
Head::Places Head::PlacesOf(uint32_t stage, uint64_t first_byte, uint32_t record_bytes) const {
  const auto [psram_rows, flash_rows] = memory_.places[stage];
  const formats::StagePlace before = stage == 0 ? formats::StagePlace{} : memory_.places[0];
  const auto records = [&](std::span<std::byte> region, uint32_t rows, uint32_t rows_before) {
    const uint64_t at = uint64_t{rows_before} * this->record_bytes(0) + rows * first_byte;
    return region.subspan(static_cast<size_t>(at), size_t{rows} * record_bytes);
  };
  const uint32_t in_memory = psram_rows + flash_rows;
  return {{{0, psram_rows, records(memory_.psram, psram_rows, before.psram_rows), Region::kPsram},
           {psram_rows, in_memory, records(memory_.flash, flash_rows, before.flash_rows), Region::kFlash},
           {in_memory, parts_.tensor->rows, {}, Region::kPsram}}};
}

Result<void> Head::Load(storage::FlashWriter& flash) {
  if (!has_screen()) return {};
  const auto load = [&](formats::Section id, std::span<std::byte> out) {
    return formats::LoadSection(*parts_.index_reader, parts_.index->section(id), out, memory_.tiles.first,
                                parts_.kernels->xxh32_stripes);
  };
  THIMBLE_TRY(load(formats::Section::kMean, std::as_writable_bytes(memory_.mean)));
  THIMBLE_TRY(LoadTransform(flash));
  THIMBLE_TRY(load(formats::Section::kGroupChecks, std::as_writable_bytes(memory_.group_checks)));
  for (uint32_t p = 0; p < parts_.index->screen.num_parts; ++p) {
    for (const Place& place : PlacesOfPart(p)) {
      THIMBLE_TRY(LoadPlace(RowsOfPart(p), place, flash));
      THIMBLE_TRY(CheckGroups(p, place.first_row, place.records));
    }
  }
  const stream::RowsRef rows = RowsOfSecond();
  for (const Place& place : PlacesOfSecond()) {
    THIMBLE_TRY(LoadPlace(rows, place, flash));
    const auto bytes = static_cast<size_t>(rows.row_bytes);
    for (size_t at = 0; at < place.records.size(); at += bytes) {
      THIMBLE_TRY(CheckRecord(place.records.subspan(at, bytes), rows.offset + place.first_row * rows.row_bytes + at));
    }
  }
  return {};
}

// What is kept of it, and checks all of it.
Result<void> Head::LoadTransform(storage::FlashWriter& flash) {
  const formats::SectionRef& section = parts_.index->section(formats::Section::kTransform);
  const formats::TransformLayout layout = {parts_.tensor->cols};
  const std::span<std::byte> buffer = memory_.tiles.first;
  const auto load = [&](uint64_t offset, std::span<std::byte> out) {
    return memory_.transform_region == Region::kFlash
               ? flash.Copy(*parts_.index_reader, section.offset + offset, out, buffer)
               : storage::ReadBytes(*parts_.index_reader, section.offset + offset, out, buffer);
  };
  const auto xxh32 = parts_.kernels->xxh32_stripes;
  if (query_.keeps_matrix()) {
    THIMBLE_TRY(load(0, memory_.transform));
    return formats::CheckSectionBytes(section, memory_.transform, xxh32);
  }
  const auto before = memory_.transform.first(static_cast<size_t>(layout.matrix_at()));
  const auto behind = memory_.transform.subspan(before.size());
  THIMBLE_TRY(load(0, before));
  THIMBLE_TRY(load(layout.centroids_at(), behind));
  Xxh32 all(xxh32);
  Xxh32 matrix(xxh32);
  all.Update(before);
  THIMBLE_TRY(storage::ForBytes(*parts_.index_reader, section.offset + layout.matrix_at(), layout.matrix_bytes(),
                                buffer, [&](uint64_t, std::span<const std::byte> bytes) -> Result<void> {
                                  all.Update(bytes);
                                  matrix.Update(bytes);
                                  return {};
                                }));
  all.Update(behind);
  if (all.Digest() != section.checksum) return formats::DamagedIndex(section.offset);
  matrix_checksum_ = matrix.Digest();
  return {};
}

Result<void> Head::LoadPlace(const stream::RowsRef& rows, const Place& place, storage::FlashWriter& flash) {
  if (place.records.empty()) return {};
  const uint64_t offset = rows.offset + place.first_row * rows.row_bytes;
  const std::span<std::byte> buffer = memory_.tiles.first;
  if (place.region == Region::kFlash) return flash.Copy(*parts_.index_reader, offset, place.records, buffer);
  return storage::ReadBytes(*parts_.index_reader, offset, place.records, buffer);
}

// `offset`: of the record in the index.
Result<void> Head::CheckRecord(std::span<const std::byte> record, uint64_t offset) const {
  const uint32_t checksum =
      parts_.kernels->xxh32(0, record.data(), record.size() - sizeof(formats::RecordTail::record_checksum));
  parts_.ledger->Count({.kernel = Kernel::kXxh32, .units = record.size()});
  if (checksum != TailOf(record).record_checksum) return formats::DamagedIndex(offset);
  return {};
}

// Whole groups of a part of the first stage, which begin at `first_row`.
Result<void> Head::CheckGroups(uint32_t p, uint32_t first_row, std::span<const std::byte> records) {
  if (records.empty()) return {};
  const formats::ScreenInfo& screen = parts_.index->screen;
  const size_t row_bytes = part(p).record_bytes();
  const uint32_t group_rows = screen.group_rows();
  const uint32_t first_group = first_row / group_rows;
  const std::span<const uint32_t> checksums =
      memory_.group_checks.subspan(size_t{p} * screen.num_groups(parts_.tensor->rows) + first_group);
  const size_t group_bytes = group_rows * row_bytes;
  const auto groups = static_cast<uint32_t>((records.size() + group_bytes - 1) / group_bytes);
  parts_.ledger->Count({.kernel = Kernel::kXxh32, .units = records.size(), .parts = records.size()});
  std::atomic<uint32_t> damaged = groups;  // the first one
  ShareRows(parts_.workers, groups, records.size(), [&](uint32_t begin, uint32_t end) {
    for (uint32_t g = begin; g < end; ++g) {
      const std::span<const std::byte> rest = records.subspan(g * group_bytes);
      const uint32_t checksum = parts_.kernels->xxh32(0, rest.data(), std::min(group_bytes, rest.size()));
      if (checksum == checksums[g]) continue;
      uint32_t earliest = damaged.load();
      while (g < earliest && !damaged.compare_exchange_weak(earliest, g)) {
      }
      return;
    }
  });
  if (damaged == groups) return {};
  return formats::DamagedIndex(RowsOfPart(p).offset + (first_group + damaged) * group_bytes);
}

// The record of the second stage; from the card it is valid until the next read.
Result<std::span<const std::byte>> Head::SecondRecord(uint32_t row) {
  const size_t bytes = record_bytes(1);
  if (row < first_on_card()) {
    const auto& [first, second] = memory_.places;
    const bool in_psram = row < second.psram_rows;
    const size_t before = in_psram ? first.psram_rows : first.flash_rows;  // rows of the first stage
    const size_t at = before * record_bytes(0) + (in_psram ? row : row - second.psram_rows) * bytes;
    parts_.ledger->Count(
        {.kernel = Kernel::kScreen, .region = in_psram ? Region::kPsram : Region::kFlash, .bytes = bytes});
    return (in_psram ? memory_.psram : memory_.flash).subspan(at, bytes);
  }
  const uint64_t offset = RowsOfSecond().offset + row * uint64_t{bytes};
  THIMBLE_TRY(parts_.index_reader->Start(offset, bytes, memory_.tiles.first));
  THIMBLE_ASSIGN(const std::span<const std::byte> record, parts_.index_reader->Wait());
  THIMBLE_TRY(CheckRecord(record, offset));
  return record;
}

// x [hidden_size] as the head's rows want it.
math::Activation Head::InputOf(const float* x) {
  if (parts_.tensor->type != DType::kQ8_0) return {.floats = x};
  parts_.kernels->quantize_q8(memory_.quantized.data(), x, parts_.tensor->cols);
  parts_.ledger->Count({.kernel = Kernel::kQuantize, .units = parts_.tensor->cols});
  return {.blocks = memory_.quantized.data()};
}

// The state [hidden_size] that the rows are multiplied with: of Q8_0 that of the blocks, which float32 holds exactly.
const float* Head::StateOf(const math::Activation& x) {
  if (x.blocks == nullptr) return x.floats;
  float* out = memory_.quantized_state.data();
  for (const math::Q8Block& block : memory_.quantized) {
    for (const int8_t value : block.values) *out++ = block.scale * static_cast<float>(value);
  }
  parts_.ledger->Count({.kernel = Kernel::kExpand, .units = parts_.tensor->cols});
  return memory_.quantized_state.data();
}

Result<TokenId> Head::Choose(const float* hidden, TokenChoice& choice) {
  parts_.ledger->zone = Zone::kHead;
  const math::Activation x = InputOf(hidden);
  if (!has_screen() || !memory_.logits.empty()) return Scan(x, choice);
  ScreenCounts& counts = parts_.ledger->screen;
  ++counts.tokens;
  summed_parts_ = 0;
  tables_of_ = kNoPart;
  THIMBLE_ASSIGN(const bool can_ask, SetQuery(StateOf(x)));
  if (can_ask) {
    THIMBLE_ASSIGN(const TokenId token, Screen(x, choice));
    if (token != kNoToken) return token;
  }
  ++counts.fallbacks;
  choice.ForgetBounds();
  return Scan(x, choice);
}

// False where nothing may be asked.
Result<bool> Head::SetQuery(const float* x) {
  const uint64_t cols = parts_.tensor->cols;
  parts_.ledger->Count({.kernel = Kernel::kMatvecF32, .units = cols});
  if (!query_.keeps_matrix()) {
    if (!query_.Begin(x)) return false;
    THIMBLE_TRY(StreamMatrix());
    return query_.Finish();
  }
  parts_.ledger->Count({.kernel = Kernel::kMatvecF16,
                        .units = cols * cols,
                        .parts = cols,
                        .region = memory_.transform_region,
                        .bytes = formats::TransformLayout{cols}.matrix_bytes()});
  return query_.Set(x, parts_.workers);
}

Result<void> Head::StreamMatrix() {
  const formats::TransformLayout layout = {parts_.tensor->cols};
  const uint64_t offset = parts_.index->section(formats::Section::kTransform).offset + layout.matrix_at();
  const stream::RowsRef rows = {offset, 2 * layout.hidden_size, parts_.tensor->cols, parts_.tensor->id};
  const uint32_t tile_rows =
      stream::TileRows(rows, static_cast<uint32_t>(memory_.tiles.first.size()), parts_.block_bytes);
  stream::TileStream stream(*parts_.index_reader);
  THIMBLE_TRY(stream.Begin(rows, 0, rows.rows, tile_rows, memory_.tiles));
  Xxh32 checksum(parts_.kernels->xxh32_stripes);
  while (!stream.done()) {
    THIMBLE_ASSIGN(const stream::Tile tile, stream.Next());
    query_.SetRows(tile.first_row, tile.num_rows, tile.rows.data(), parts_.workers);
    checksum.Update(tile.rows);
    parts_.ledger->Count({.kernel = Kernel::kMatvecF16,
                          .units = tile.num_rows * layout.hidden_size,
                          .parts = tile.num_rows,
                          .region = tile.region,
                          .bytes = tile.rows.size()});
    parts_.ledger->Count({.kernel = Kernel::kXxh32, .units = tile.rows.size()});
  }
  if (checksum.Digest() != matrix_checksum_) return formats::DamagedIndex(offset);
  return {};
}

Result<void> Head::ComputeLogits(const float* x) {
  parts_.ledger->zone = Zone::kHead;
  return ForRows(InputOf(x), [](uint32_t, std::span<const float>) -> Result<void> { return {}; });
}

Result<void> Head::Offer(uint32_t first_row, std::span<const float> logits, TokenChoice& choice) {
  THIMBLE_TRY(CheckFinite(first_row, logits));
  choice.OfferAll(first_row, logits);
  parts_.ledger->Count({.kernel = Kernel::kChoose, .units = logits.size()});
  return {};
}

Result<TokenId> Head::Scan(const math::Activation& x, TokenChoice& choice) {
  const auto offer = [&](uint32_t first_row, std::span<const float> logits) {
    return Offer(first_row, logits, choice);
  };
  do {
    if (memory_.logits.empty()) {
      THIMBLE_TRY(ForRows(x, offer));
    } else {
      THIMBLE_TRY(offer(0, memory_.logits));
    }
  } while (choice.NeedsAnotherPass());
  return choice.Chosen();
}

Result<void> Head::ScanEach(std::span<const float* const> states, std::span<TokenChoice* const> choices,
                            std::span<TokenId> tokens) {
  parts_.ledger->zone = Zone::kHead;
  std::array<bool, kMostAtOnce> is_offered;
  is_offered.fill(true);
  const auto offer_all = [&](uint32_t first_row, uint32_t num_rows, const std::byte* rows) -> Result<void> {
    const std::span<float> logits = memory_.rows.first(num_rows);
    for (size_t i = 0; i < states.size(); ++i) {
      if (!is_offered[i]) continue;
      Multiply(InputOf(states[i]), rows, logits);
      THIMBLE_TRY(Offer(first_row, logits, *choices[i]));
    }
    return {};
  };
  for (bool again = true; again;) {
    THIMBLE_TRY(ForBlocks(offer_all));
    again = false;
    for (size_t i = 0; i < states.size(); ++i) {
      is_offered[i] = is_offered[i] && choices[i]->NeedsAnotherPass();
      again |= is_offered[i];
    }
  }
  for (size_t i = 0; i < states.size(); ++i) tokens[i] = choices[i]->Chosen();
  return {};
}

// Calls use(first_row, num_rows, rows) for blocks of rows, as stored, in order.
template <class Use>
Result<void> Head::ForBlocks(Use use) {
  const TensorRef& tensor = *parts_.tensor;
  const auto buffer_bytes = static_cast<uint32_t>(memory_.tiles.first.size());
  const uint32_t tile_rows = stream::TileRows(tensor, buffer_bytes, parts_.block_bytes, memory_.chunks);
  THIMBLE_TRY(parts_.stream->Begin(tensor, 0, tensor.rows, tile_rows, memory_.tiles));
  while (!parts_.stream->done()) {
    THIMBLE_ASSIGN(const stream::Tile tile, parts_.stream->Next());
    for (uint32_t done = 0; done < tile.num_rows;) {
      const uint32_t rows = std::min(tile.num_rows - done, kBlockRows);
      if (const Result<void> used = use(tile.first_row + done, rows, tile.rows.data() + done * tensor.row_bytes());
          !used) {
        parts_.stream->Abandon();
        return used;
      }
      done += rows;
    }
  }
  return {};
}

// Calls use(first_row, logits) for blocks of rows, in order.
template <class Use>
Result<void> Head::ForRows(const math::Activation& x, Use use) {
  return ForBlocks([&](uint32_t first_row, uint32_t num_rows, const std::byte* rows) {
    const std::span<float> logits =
        memory_.logits.empty() ? memory_.rows.first(num_rows) : memory_.logits.subspan(first_row, num_rows);
    Multiply(x, rows, logits);
    return use(first_row, logits);
  });
}

// A block's rows with x.
void Head::Multiply(const math::Activation& x, const std::byte* rows, std::span<float> logits) {
  const TensorRef& tensor = *parts_.tensor;
  const uint64_t macs = logits.size() * uint64_t{tensor.cols};
  ShareRows(parts_.workers, static_cast<uint32_t>(logits.size()), macs, [&](uint32_t begin, uint32_t end) {
    math::Matvec(*parts_.kernels, tensor.type, &logits[begin], rows + begin * tensor.row_bytes(), x, end - begin,
                 tensor.cols);
  });
  parts_.ledger->Count({.kernel = math::MatvecKernel(tensor.type),
                        .units = macs,
                        .parts = logits.size(),
                        .region = memory_.tiles.region,
                        .bytes = logits.size() * tensor.row_bytes()});
}

Result<void> Head::CheckFinite(uint32_t first_row, std::span<const float> logits) const {
  float zero = 0.0f;
  for (float logit : logits) zero += logit - logit;
  if (zero == 0.0f) return {};
  uint32_t row = first_row;
  for (float logit : logits) {
    if (!(logit - logit == 0.0f)) break;
    ++row;
  }
  return Fail({.code = Code::kCorrupt,
               .what = "the logit of token {have} is not a finite number: the model's weights are damaged, convert it "
                       "again",
               .tensor = parts_.tensor->id,
               .have = row});
}

Result<TokenId> Head::Screen(const math::Activation& x, TokenChoice& choice) {
  if (choice.draws_from_all()) {
    const auto temperature = static_cast<double>(choice.options().temperature);
    for (uint32_t ones = 0; ones < noise_steps_.size(); ++ones) {
      noise_steps_[ones] = query_.StepsOf(temperature * (0.6931472 * (ones + 1) + 0.001));
    }
  }
  ScreenCounts& counts = parts_.ledger->screen;
  uint64_t spent = 0;  // bytes of the card beside the first stage, commands included
  THIMBLE_ASSIGN(bool has_room, Sweep(choice, /*again=*/false));
  if (!has_room) {  // once more, now that it is known what cannot matter
    ++counts.swept_again;
    THIMBLE_TRY(NarrowSurvivors(choice, /*may_read=*/true));
    THIMBLE_TRY(AskLikeliestTopK(choice, spent));
    THIMBLE_ASSIGN(has_room, Sweep(choice, /*again=*/true));
  }
  if (!has_room) return kNoToken;
  THIMBLE_ASSIGN(const bool fits, ExpandSurvivors(choice, spent));
  if (!fits) return kNoToken;
  counts.survivors += candidates_.size();
  counts.survivors_most = std::max<uint64_t>(counts.survivors_most, candidates_.size());
  // What has been read for this token; and how often a row may be looked at, so that no head, however many of its rows
  // are equal, takes longer than a scan.
  const uint64_t all = ScanCost();
  const uint64_t looks_most = kLooksOfScan * parts_.tensor->rows * parts_.tensor->cols;
  uint64_t looks = 0;
  uint64_t counted = 0;
  const TokenId on_card = first_on_card();
  // Of the top k, the likeliest are asked more before anything is weighed: that excludes most others.
  if (const size_t k = choice.rules().top_k; candidates_.size() > 2 * k && k > 0) {
    std::nth_element(
        candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k), candidates_.end(),
        [](const Bounded& a, const Bounded& b) { return a.center != b.center ? a.center > b.center : a.id < b.id; });
    for (Bounded& c : candidates_.first(k)) {
      if (c.id < on_card && c.asked == 1) THIMBLE_TRY(AskRecord(c, choice));
    }
    ToOrderOfFile(candidates_);
    looks += 4 * candidates_.size();
    candidates_ = candidates_.first(choice.Prune(candidates_, true));
    if (candidates_.empty()) return kNoToken;  // bounds that lie exclude each other
  }
  const auto floor = [&] { return std::max(choice.floor(), dropped_below_); };
  Contest contest(choice, candidates_, floor(), choice.room(), {.asks = formats::kNumStages, .below = on_card});
  uint32_t asked = 0;  // since rows were dropped last
  while (true) {
    if (asked >= kAsksOfPrune && candidates_.size() > kMinPruned) {
      asked = 0;
      looks += candidates_.size();
      candidates_ = candidates_.first(choice.Prune(candidates_, true));
      if (candidates_.empty()) return kNoToken;  // bounds that lie exclude each other
      contest.Continue(candidates_, floor());
    }
    choice.ForgetBounds();
    const Contest::Step step = contest.Next();
    parts_.ledger->Count({.kernel = Kernel::kChoose, .units = contest.looks() + looks - counted});
    counted = contest.looks() + looks;
    switch (step.verdict) {
      case Contest::Verdict::kWinner:
        return candidates_[step.row].id;
      case Contest::Verdict::kUndecided:
        if (!choice.leaves_tail()) return ChooseFromLogits(x, spent, choice);
        choice.KeepTail();
        ++counts.swept_again;
        return Screen(x, choice);
      case Contest::Verdict::kTighten:
        if (counted > looks_most) return kNoToken;
        break;
    }
    for (const uint32_t row : step.asks) {
      Bounded& c = candidates_[row];
      if (c.asked < formats::kNumStages) {
        if (c.id >= on_card) spent += stream::kCommandBytes + record_bytes(c.asked);
        if (spent >= all) return kNoToken;
        THIMBLE_TRY(AskRecord(c, choice));
      } else {
        spent += FetchCost({.first = row, .end = row + 1, .bytes = parts_.tensor->row_bytes()});
        if (spent >= all) return kNoToken;
        THIMBLE_TRY(FetchRun(x, candidates_.subspan(row, 1), choice));
      }
      ++asked;
    }
  }
}

// The sums of all parts but the last are kept: to sweep again is to go through the last part again.
Result<bool> Head::Sweep(TokenChoice& choice, bool again) {
  num_survivors_ = 0;
  num_squeezed_ = 0;
  overflowed_ = false;
  narrow_at_ = std::min(kMinNarrowed, room_.size() / 2);
  asked_likeliest_ = kNoToken;
  const uint32_t last = parts_.index->screen.num_parts - 1;
  stream::TileStream stream(*parts_.index_reader);
  for (uint32_t p = summed_parts_; p <= last; ++p) {
    THIMBLE_TRY(SweepPart(p, stream, [&](const stream::Tile& tile) -> Result<void> {
      if (p == last) return AskRows(tile.first_row, tile.rows, tile.region, choice, again);
      AddCodes(p, tile);
      return {};
    }));
    if (p != last) summed_parts_ = p + 1;
  }
  return !overflowed_;
}

stream::TileRequest Head::RequestOf(uint32_t p) const {
  stream::RowsRef rows = RowsOfPart(p);
  // While the card is read, what lies in memory is asked.
  const Places places = PlacesOfPart(p);
  rows.psram = places[0].records;
  rows.flash = places[1].records;
  const uint32_t group_rows = parts_.index->screen.group_rows();
  const uint32_t fits = stream::TileRows(rows, static_cast<uint32_t>(memory_.tiles.first.size()), parts_.block_bytes);
  return {.rows = rows, .num_rows = rows.rows, .tile_rows = fits / group_rows * group_rows, .buffers = memory_.tiles};
}

void Head::SetTables(uint32_t p) {
  if (tables_of_ == p) return;
  tables_of_ = p;
  const formats::FirstPart swept = part(p);
  const uint64_t macs = query_.TableMacs(swept);
  parts_.ledger->Count({.kernel = Kernel::kCodeTables,
                        .units = macs,
                        .parts = swept.end_group() - swept.first_group(),
                        .region = memory_.transform_region,
                        .bytes = macs});  // a byte each
  query_.SetTables(swept, parts_.workers);
}

// Calls use(tile) for all rows of a part of the first stage. The next part's first read starts as soon as it can, while
// the last tile is used and the next tables are made.
template <class Use>
Result<void> Head::SweepPart(uint32_t p, stream::TileStream& stream, Use use) {
  SetTables(p);
  THIMBLE_TRY(stream.Begin(RequestOf(p)));
  const bool is_last = p + 1 == parts_.index->screen.num_parts;
  if (!is_last) THIMBLE_TRY(stream.Follow(RequestOf(p + 1)));
  while (!stream.done()) {
    THIMBLE_ASSIGN(const stream::Tile tile, stream.Next());
    Result<void> used;
    if (tile.region == Region::kSramDma) used = CheckGroups(p, tile.first_row, tile.rows);
    if (used) used = use(tile);
    if (!used) {
      stream.Abandon();
      return used;
    }
  }
  return {};
}

// Adds what the codes of a part that is not the last are worth to the rows' sums.
void Head::AddCodes(uint32_t p, const stream::Tile& tile) {
  const size_t row_bytes = part(p).record_bytes();
  const math::CodeTables tables = query_.tables();
  for (uint32_t done = 0; done < tile.num_rows; done += kSweepRows) {
    const uint32_t rows = std::min(tile.num_rows - done, kSweepRows);
    const uint32_t units = (rows + kSweepUnit - 1) / kSweepUnit;
    const std::byte* const block = tile.rows.data() + done * row_bytes;
    int32_t* const sums = &memory_.sums[tile.first_row + done];
    const uint64_t bytes = rows * row_bytes;
    ShareRows(parts_.workers, units, bytes, [&](uint32_t begin, uint32_t end) {
      const uint32_t from = begin * kSweepUnit;
      const uint32_t to = std::min(end * kSweepUnit, rows);
      parts_.kernels->sum_codes(&sums[from], block + from * row_bytes, to - from, tables, /*adds=*/p != 0);
    });
    CountCodes(rows, bytes, tile.region, /*adds=*/p != 0, /*keeps=*/true);
  }
}

// What it takes to sum `bytes` bytes of records that lie in `region`, of so many rows; whether to sums that are kept,
// which are kept again.
void Head::CountCodes(uint32_t rows, uint64_t bytes, Region region, bool adds, bool keeps) {
  const uint32_t units = (rows + kSweepUnit - 1) / kSweepUnit;
  const uint64_t sums_bytes = rows * sizeof(int32_t);
  parts_.ledger->Count({.kernel = Kernel::kSumCodes,
                        .units = bytes,
                        .parts = units,
                        .region = region,
                        .bytes = bytes,
                        .look_ups = bytes,
                        .table_region = memory_.tables_region,
                        .table_bytes = std::as_bytes(memory_.query.tables).size(),
                        .written_region = memory_.sums_region,
                        .written_bytes = keeps ? sums_bytes : 0});
  if (!adds) return;
  parts_.ledger->Count(
      {.kernel = Kernel::kSumCodes, .parts = units, .region = memory_.sums_region, .bytes = sums_bytes});
}

// In the last part. What cannot matter is told by one comparison of integers; what penalties change is bounded row by
// row.
Result<void> Head::AskRows(uint32_t first_row, std::span<const std::byte> records, Region region, TokenChoice& choice,
                           bool again) {
  const uint32_t last = parts_.index->screen.num_parts - 1;
  const size_t row_bytes = part(last).record_bytes();
  const auto num_rows = static_cast<uint32_t>(records.size() / row_bytes);
  static_assert(kSweepRows % kSweepUnit == 0);
  const std::span<int32_t> reach = {reinterpret_cast<int32_t*>(memory_.rows.data()), kSweepRows};
  const math::CodeTables tables = query_.tables();
  const bool draws = choice.draws_from_all();
  for (uint32_t done = 0; done < num_rows; done += kSweepRows) {
    const uint32_t rows = std::min(num_rows - done, kSweepRows);
    const uint32_t units = (rows + kSweepUnit - 1) / kSweepUnit;
    const TokenId first = first_row + done;
    const std::byte* const block = records.data() + done * row_bytes;
    const uint64_t bytes = rows * row_bytes;
    const int32_t needed = query_.ReachOf(draws ? choice.draw_floor() : choice.floor());
    std::array<uint32_t, kSweepRows / kSweepUnit> answers;
    ShareRows(parts_.workers, units, bytes, [&](uint32_t begin, uint32_t end) {
      NoiseBits bits = choice.noise_bits();
      const uint32_t from = begin * kSweepUnit;
      const uint32_t to = std::min(end * kSweepUnit, rows);
      if (last != 0) std::copy_n(&memory_.sums[first + from], to - from, &reach[from]);
      parts_.kernels->sum_codes(&reach[from], block + from * row_bytes, to - from, tables, /*adds=*/last != 0);
      for (uint32_t unit = begin; unit < end; ++unit) {
        const uint32_t at = unit * kSweepUnit;
        const std::span<const int32_t> sums = reach.subspan(at, std::min(kSweepUnit, rows - at));
        answers[unit] =
            draws ? RowsThatReach(sums, needed, noise_steps_, first + at, bits) : RowsThatReach(sums, needed);
      }
    });
    CountCodes(rows, bytes, region, /*adds=*/last != 0, /*keeps=*/false);
    parts_.ledger->Count({.kernel = Kernel::kSweep, .units = rows, .parts = units});
    if (draws) parts_.ledger->Count({.kernel = Kernel::kNoise, .units = rows, .parts = units});
    const std::span<const TokenId> penalised = choice.penalised();
    for (auto next = std::ranges::lower_bound(penalised, first); next != penalised.end() && *next < first + rows;
         ++next) {
      answers[(*next - first) / kSweepUnit] |= uint32_t{1} << (*next - first) % kSweepUnit;
    }
    for (uint32_t unit = 0; unit < units; ++unit) {
      for (uint32_t left = answers[unit]; left != 0; left &= left - 1) {
        const uint32_t r = unit * kSweepUnit + static_cast<uint32_t>(std::countr_zero(left));
        THIMBLE_TRY(AskRow(first + r, reach[r], static_cast<uint8_t>(block[(r + 1) * row_bytes - 1]), choice, again));
      }
    }
    if (num_survivors_ < narrow_at_) continue;
    THIMBLE_TRY(NarrowSurvivors(choice, /*may_read=*/false));
    narrow_at_ = std::max(kMinNarrowed, 2 * num_survivors_);
  }
  return {};
}

Result<void> Head::AskRow(uint32_t row, int32_t reach, uint8_t norm, TokenChoice& choice, bool again) {
  const Survivor survivor = {row | uint32_t{norm} << 24, reach};
  const Bounded b = Expanded(survivor, choice);
  if (!(again ? choice.StillMatters(row, b.low, b.high) : choice.MayMatter(row, b.low, b.high))) return {};
  if (num_survivors_ == room_.size() && !overflowed_) {
    const size_t enough = room_.size() / 4 * 3;
    DropSurvivors(choice);
    uint64_t none = 0;
    if (num_survivors_ > enough) THIMBLE_TRY(SqueezeSurvivors(choice, enough / 2, none, 0));
    overflowed_ = num_survivors_ > enough;
  }
  if (overflowed_) return {};
  room_[num_survivors_++] = survivor;
  return {};
}

// Drops those that cannot matter any more.
void Head::DropSurvivors(TokenChoice& choice) {
  const bool draws = choice.draws_from_all();
  NoiseBits bits = choice.noise_bits();
  const int32_t needed = query_.ReachOf(draws ? choice.draw_floor() : choice.floor());
  parts_.ledger->Count({.kernel = Kernel::kChoose, .units = num_survivors_});
  const auto matters = [&](const Survivor& s) {
    if (s.reach >= needed) return true;
    if (choice.IsPenalised(s.id())) return true;
    return draws && s.reach + noise_steps_[static_cast<size_t>(std::countl_one(bits.Of(s.id())))] >= needed;
  };
  size_t kept = 0;
  size_t kept_squeezed = 0;
  for (size_t i = 0; i < num_survivors_; ++i) {
    if (!matters(room_[i])) continue;
    kept_squeezed += i < num_squeezed_ ? 1 : 0;
    room_[kept++] = room_[i];
  }
  num_survivors_ = kept;
  num_squeezed_ = kept_squeezed;
}

// Asks more of the likeliest, whose answer excludes most others, and drops those. Does nothing more where the likeliest
// was asked, or where its record would have to be read and that must not be.
Result<void> Head::NarrowSurvivors(TokenChoice& choice, bool may_read) {
  const Survivor* likeliest = nullptr;
  float most = 0;
  parts_.ledger->Count({.kernel = Kernel::kChoose, .units = num_survivors_});
  for (const Survivor& s : room_.first(num_survivors_)) {
    const float center = CenterOf(s);
    if (likeliest != nullptr && !(center > most)) continue;
    likeliest = &s;
    most = center;
  }
  if (likeliest == nullptr) return {};
  const TokenId id = likeliest->id();
  if (id != asked_likeliest_ && (id < first_on_card() || may_read)) {
    asked_likeliest_ = id;
    Bounded asked = Expanded(*likeliest, choice);
    THIMBLE_TRY(AskRecord(asked, choice));
    choice.RaiseFloor(id, asked.low);
  }
  DropSurvivors(choice);
  return {};
}

Bounded Head::Expanded(const Survivor& s, TokenChoice& choice) const {
  const TokenId id = s.id();
  const Query::Bounds bounds = query_.First(s.reach, s.norm());
  return {.id = id,
          .asked = 1,
          .center = bounds.center,
          .low = choice.Penalised(id, bounds.center - bounds.radius),
          .high = choice.Penalised(id, bounds.center + bounds.radius)};
}

// The second record's answer. What is read for it from the card is added to `spent`.
Result<Bounded> Head::AskSurvivor(const Survivor& s, TokenChoice& choice, uint64_t& spent) {
  Bounded asked = Expanded(s, choice);
  if (asked.id >= first_on_card()) spent += stream::kCommandBytes + record_bytes(1);
  THIMBLE_TRY(AskRecord(asked, choice));
  return asked;
}

// Asks more of the likeliest top k, which raises the floor, and drops what cannot matter any more.
Result<void> Head::AskLikeliestTopK(TokenChoice& choice, uint64_t& spent) {
  const size_t k = choice.rules().top_k;
  if (k == 0 || num_survivors_ <= k) return {};
  num_squeezed_ = 0;
  const auto first = room_.begin();
  std::nth_element(first, first + static_cast<ptrdiff_t>(k), first + static_cast<ptrdiff_t>(num_survivors_),
                   [&](const Survivor& a, const Survivor& b) {
                     const float of_a = CenterOf(a);
                     const float of_b = CenterOf(b);
                     return of_a != of_b ? of_a > of_b : a.id_and_norm < b.id_and_norm;
                   });
  parts_.ledger->Count({.kernel = Kernel::kChoose, .units = 4 * num_survivors_});
  float least = std::numeric_limits<float>::infinity();
  for (const Survivor& s : room_.first(k)) {
    THIMBLE_ASSIGN(const Bounded asked, AskSurvivor(s, choice, spent));
    least = std::min(least, asked.low);
  }
  choice.RaiseFloorOfTopK(least);
  DropSurvivors(choice);
  std::sort(first, first + static_cast<ptrdiff_t>(num_survivors_),
            [](const Survivor& a, const Survivor& b) { return a.id() < b.id(); });
  return {};
}

// Where survivors have no room: asks more of those that were not asked for it before, and drops those that cannot
// matter any more, until no more than `enough` are left. Of records on the card it reads as long as `spent` is less
// than `most`.
Result<void> Head::SqueezeSurvivors(TokenChoice& choice, size_t enough, uint64_t& spent, uint64_t most) {
  size_t kept = num_squeezed_;
  for (size_t i = num_squeezed_; i < num_survivors_; ++i) {
    const Survivor s = room_[i];
    if (num_survivors_ - i + kept <= enough || (s.id() >= first_on_card() && spent >= most)) {
      room_[kept++] = s;
      continue;
    }
    THIMBLE_ASSIGN(const Bounded asked, AskSurvivor(s, choice, spent));
    choice.RaiseFloor(asked.id, asked.low);
    if (choice.StillMatters(asked.id, asked.low, asked.high)) room_[kept++] = s;
  }
  num_survivors_ = num_squeezed_ = kept;
  return {};
}

// Survivors to candidates, in the same memory. False if they have no room there.
Result<bool> Head::ExpandSurvivors(TokenChoice& choice, uint64_t& spent) {
  THIMBLE_TRY(NarrowSurvivors(choice, /*may_read=*/true));
  const size_t room = memory_.candidates.size() / sizeof(Bounded);
  if (num_survivors_ > room) {
    THIMBLE_TRY(AskLikeliestTopK(choice, spent));
    THIMBLE_TRY(SqueezeSurvivors(choice, room, spent, ScanCost()));
  }
  if (num_survivors_ > room) return false;
  auto* const expanded = reinterpret_cast<Bounded*>(memory_.candidates.data());
  for (size_t i = num_survivors_; i-- > 0;) {
    const Survivor s = room_[i];
    expanded[i] = Expanded(s, choice);
  }
  candidates_ = {expanded, num_survivors_};
  // Pruning begins anew, with the first stage's bounds: what was asked of the likeliest raised the floor further.
  dropped_below_ = choice.floor();
  candidates_ = candidates_.first(choice.Prune(candidates_, true));
  return !candidates_.empty();
}

// Tightens a candidate's bounds by its record of the next stage.
Result<void> Head::AskRecord(Bounded& c, TokenChoice& choice) {
  THIMBLE_ASSIGN(const std::span<const std::byte> record, SecondRecord(c.id));
  float center = 0;
  float radius = 0;
  parts_.kernels->screen_rows(&center, &radius, record.data(), 1, query_.second());
  parts_.ledger->Count(
      {.kernel = Kernel::kScreen, .units = uint64_t{formats::ScreenUnits(parts_.tensor->cols)} * formats::kScreenUnit});
  c.center += center;
  c.low = std::max(c.low, choice.Penalised(c.id, c.center - radius));
  c.high = std::min(c.high, choice.Penalised(c.id, c.center + radius));
  ++c.asked;
  ++parts_.ledger->screen.refined;
  return {};
}

// The next candidates from `from` on, with rows that were not read, that are read together; empty and at the end when
// there are none.
Head::Run Head::NextRun(size_t from) const {
  while (from < candidates_.size() && IsRead(candidates_[from])) ++from;
  if (from == candidates_.size()) return {.first = from, .end = from, .bytes = 0};
  const uint64_t row_bytes = parts_.tensor->row_bytes();
  const auto bytes_to = [&](size_t last) { return (candidates_[last].id - candidates_[from].id + 1) * row_bytes; };
  size_t end = from + 1;
  while (end < candidates_.size() && end - from < kBlockRows && !IsRead(candidates_[end]) &&
         (candidates_[end].id - candidates_[end - 1].id - 1) * row_bytes <= stream::kCommandBytes &&
         parts_.reader->BufferBytes(bytes_to(end)) <= memory_.tiles.first.size()) {
    ++end;
  }
  return {.first = from, .end = end, .bytes = bytes_to(end - 1)};
}

// To compare: bytes, and what a command costs in them.
uint64_t Head::ScanCost() const {
  const uint64_t bytes = parts_.tensor->size_bytes();
  return bytes + bytes / memory_.tiles.first.size() * stream::kCommandBytes;
}

uint64_t Head::FetchCost(const Run& run) const {
  uint64_t cost = stream::kCommandBytes + run.bytes;
  // A row's checksum is in its record.
  for (const Bounded& c : candidates_.subspan(run.first, run.end - run.first)) {
    if (c.id >= first_on_card()) cost += stream::kCommandBytes;
  }
  return cost;
}

// Where bounds do not decide: by the logits of all candidates that can matter, in the order of the file.
Result<TokenId> Head::ChooseFromLogits(const math::Activation& x, uint64_t spent, TokenChoice& choice) {
  if (!IsBoundable(choice.options())) return kNoToken;
  candidates_ = candidates_.first(choice.Prune(candidates_, true));
  if (candidates_.empty()) return kNoToken;  // bounds that lie exclude each other
  ToOrderOfFile(candidates_);
  const uint64_t all = ScanCost();
  for (Run run = NextRun(0); run.first != run.end; run = NextRun(run.end)) spent += FetchCost(run);
  if (spent >= all) return kNoToken;
  for (Run run = NextRun(0); run.first != run.end; run = NextRun(run.end)) {
    THIMBLE_TRY(FetchRun(x, candidates_.subspan(run.first, run.end - run.first), choice));
  }
  choice.ForgetBounds();
  for (const Bounded& c : candidates_) choice.Offer(c.id, c.center);
  return choice.Chosen();
}

// At most kBlockRows candidates, with what lies between them, in one read.
Result<void> Head::FetchRun(const math::Activation& x, std::span<Bounded> run, TokenChoice& choice) {
  const TensorRef& tensor = *parts_.tensor;
  const uint64_t row_bytes = tensor.row_bytes();
  // The checksums come first: they may lie on the card, too, and share the buffer.
  const std::span<float> checksums = memory_.rows.last(kBlockRows);  // bits of uint32
  for (size_t i = 0; i < run.size(); ++i) {
    THIMBLE_ASSIGN(const std::span<const std::byte> record, SecondRecord(run[i].id));
    const uint32_t checksum = TailOf(record).row_checksum;
    std::memcpy(&checksums[i], &checksum, sizeof(checksum));  // a float register could change the bits
  }
  const uint64_t offset = tensor.offset + run.front().id * row_bytes;
  const uint64_t bytes = (run.back().id - run.front().id + 1) * row_bytes;
  THIMBLE_TRY(parts_.reader->Start(offset, bytes, memory_.tiles.first));
  THIMBLE_ASSIGN(const std::span<const std::byte> rows, parts_.reader->Wait());
  for (size_t i = 0; i < run.size(); ++i) {
    const auto at = static_cast<size_t>((run[i].id - run.front().id) * row_bytes);
    const std::byte* const row = rows.data() + at;
    const uint32_t checksum = parts_.kernels->xxh32(0, row, static_cast<size_t>(row_bytes));
    parts_.ledger->Count({.kernel = Kernel::kXxh32, .units = row_bytes});
    if (std::memcmp(&checksum, &checksums[i], sizeof(checksum)) != 0)
      return formats::DamagedWeights(tensor.id, offset + at);
    float logit = 0;
    math::Matvec(*parts_.kernels, tensor.type, &logit, row, x, 1, tensor.cols);
    THIMBLE_TRY(CheckFinite(run[i].id, {&logit, 1}));
    run[i].center = logit;
    run[i].low = run[i].high = choice.Penalised(run[i].id, logit);
    run[i].asked = kAskedAll;
    parts_.ledger->Count({.kernel = math::MatvecKernel(tensor.type), .units = tensor.cols});
    ++parts_.ledger->screen.rows_fetched;
  }
  return {};
}

}  // namespace thimble::head
