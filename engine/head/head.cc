#include "engine/head/head.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace thimble::head {
namespace {

// The candidate with the largest center.
size_t Likeliest(std::span<const Bounded> candidates) {
  const auto best = std::max_element(candidates.begin(), candidates.end(),
                                     [](const auto& a, const auto& b) { return a.center < b.center; });
  return static_cast<size_t>(best - candidates.begin());
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
  query_ = Query(parts_.index->screen, parts_.tensor->cols, *parts_.kernels, memory_.vectors, memory_.codes);
  std::span<std::byte> psram = memory_.psram;
  std::span<std::byte> flash = memory_.flash;
  for (uint32_t s = 0; s < parts_.index->screen.num_stages; ++s) {
    const formats::StagePlace& place = memory_.places[s];
    const auto take = [&](std::span<std::byte>& from, uint32_t rows) {
      const std::span<std::byte> taken = from.first(size_t{rows} * info(s).record_bytes);
      from = from.subspan(taken.size());
      return taken;
    };
    const uint32_t in_memory = place.psram_rows + place.flash_rows;
    stages_[s].parts = {{{0, place.psram_rows, take(psram, place.psram_rows), Region::kPsram},
                         {place.psram_rows, in_memory, take(flash, place.flash_rows), Region::kFlash},
                         {in_memory, parts_.tensor->rows, {}, Region::kPsram}}};
  }
}

stream::RowsRef Head::RowsOf(uint32_t stage) const {
  return {parts_.index->stage(stage).offset, info(stage).record_bytes, parts_.tensor->rows, parts_.tensor->id};
}

Result<void> Head::Load(storage::FlashWriter& flash) {
  if (!has_screen()) return {};
  const auto load = [&](formats::Section id, std::span<std::byte> out) {
    return formats::LoadSection(*parts_.index_reader, parts_.index->section(id), out, memory_.tiles.first,
                                parts_.kernels->crc32c);
  };
  THIMBLE_TRY(load(formats::Section::kVectors, std::as_writable_bytes(memory_.vectors)));
  THIMBLE_TRY(load(formats::Section::kGroupChecks, std::as_writable_bytes(memory_.group_checks)));
  for (uint32_t s = 0; s < parts_.index->screen.num_stages; ++s) {
    for (const Part& part : stages_[s].parts) {
      if (!part.records.empty()) THIMBLE_TRY(LoadPart(s, part, flash));
    }
  }
  return {};
}

Result<void> Head::LoadPart(uint32_t stage, const Part& part, storage::FlashWriter& flash) {
  const stream::RowsRef rows = RowsOf(stage);
  const uint64_t offset = rows.offset + part.first_row * rows.row_bytes;
  const std::span<std::byte> buffer = memory_.tiles.first;
  THIMBLE_TRY(part.region == Region::kFlash ? flash.Copy(*parts_.index_reader, offset, part.records, buffer)
                                            : storage::ReadBytes(*parts_.index_reader, offset, part.records, buffer));
  if (stage == 0) return CheckGroups(part.first_row, part.records);
  const auto record_bytes = static_cast<size_t>(rows.row_bytes);
  for (size_t at = 0; at < part.records.size(); at += record_bytes) {
    THIMBLE_TRY(CheckRecord(part.records.subspan(at, record_bytes), offset + at));
  }
  return {};
}

// `offset`: of the record in the index.
Result<void> Head::CheckRecord(std::span<const std::byte> record, uint64_t offset) const {
  const uint32_t crc =
      parts_.kernels->crc32c(0, record.data(), record.size() - sizeof(formats::RecordTail::record_crc));
  parts_.ledger->Count({.kernel = Kernel::kCrc32c, .units = record.size()});
  if (crc != TailOf(record).record_crc) return formats::DamagedIndex(offset);
  return {};
}

// Whole groups of the first stage, which begin at `first_row`.
Result<void> Head::CheckGroups(uint32_t first_row, std::span<const std::byte> records) {
  const size_t record_bytes = info(0).record_bytes;
  const uint32_t group_rows = formats::GroupRows(info(0).record_bytes);
  const uint32_t first_group = first_row / group_rows;
  const size_t group_bytes = group_rows * record_bytes;
  const auto groups = static_cast<uint32_t>((records.size() + group_bytes - 1) / group_bytes);
  parts_.ledger->Count({.kernel = Kernel::kCrc32c, .units = records.size(), .parts = records.size()});
  std::atomic<uint32_t> damaged = groups;  // the first one
  ShareRows(parts_.workers, groups, records.size(), [&](uint32_t begin, uint32_t end) {
    for (uint32_t g = begin; g < end; ++g) {
      const std::span<const std::byte> rest = records.subspan(g * group_bytes);
      const uint32_t crc = parts_.kernels->crc32c(0, rest.data(), std::min(group_bytes, rest.size()));
      if (crc == memory_.group_checks[first_group + g]) continue;
      uint32_t earliest = damaged.load();
      while (g < earliest && !damaged.compare_exchange_weak(earliest, g)) {
      }
      return;
    }
  });
  if (damaged == groups) return {};
  return formats::DamagedIndex(parts_.index->stage(0).offset + (first_group + damaged) * group_bytes);
}

// The record of a later stage; from the card it is valid until the next read.
Result<std::span<const std::byte>> Head::Record(uint32_t stage, uint32_t row) {
  const size_t record_bytes = info(stage).record_bytes;
  for (const Part& part : stages_[stage].parts) {
    if (row < part.first_row || row >= part.end_row || part.records.empty()) continue;
    parts_.ledger->Count({.kernel = Kernel::kScreen, .region = part.region, .bytes = record_bytes});
    return part.records.subspan((row - part.first_row) * record_bytes, record_bytes);
  }
  const uint64_t offset = RowsOf(stage).offset + row * uint64_t{record_bytes};
  THIMBLE_TRY(parts_.index_reader->Start(offset, record_bytes, memory_.tiles.first));
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
  bool is_certain = false;
  const uint64_t vectors = 1 + parts_.index->screen.num_directions;
  parts_.ledger->Count({.kernel = Kernel::kMatvecF32, .units = vectors * parts_.tensor->cols, .parts = vectors});
  if (choice.is_boundable() && query_.Set(StateOf(x))) {
    THIMBLE_ASSIGN(is_certain, Screen(x, choice));
  }
  if (!is_certain) {
    ++counts.fallbacks;
    choice.ForgetBounds();
    return Scan(x, choice);
  }
  if (candidates_.size() == 1 && !choice.needs_logits()) return candidates_.front().id;
  choice.ForgetBounds();
  for (const Bounded& c : candidates_) choice.Offer(c.id, c.center);
  return choice.Chosen();
}

Result<void> Head::ComputeLogits(const float* x) {
  parts_.ledger->zone = Zone::kHead;
  return ForRows(InputOf(x), [](uint32_t, std::span<const float>) -> Result<void> { return {}; });
}

Result<TokenId> Head::Scan(const math::Activation& x, TokenChoice& choice) {
  const auto offer = [&](uint32_t first_row, std::span<const float> logits) -> Result<void> {
    THIMBLE_TRY(CheckFinite(first_row, logits));
    choice.OfferAll(first_row, logits);
    parts_.ledger->Count({.kernel = Kernel::kChoose, .units = logits.size()});
    return {};
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

// Calls use(first_row, logits) for blocks of rows, in order.
template <class Use>
Result<void> Head::ForRows(const math::Activation& x, Use use) {
  const TensorRef& tensor = *parts_.tensor;
  const auto buffer_bytes = static_cast<uint32_t>(memory_.tiles.first.size());
  const uint32_t tile_rows = stream::TileRows(tensor, buffer_bytes, parts_.block_bytes, memory_.chunks);
  THIMBLE_TRY(parts_.stream->Begin(tensor, 0, tensor.rows, tile_rows, memory_.tiles));
  while (!parts_.stream->done()) {
    THIMBLE_ASSIGN(const stream::Tile tile, parts_.stream->Next());
    for (uint32_t done = 0; done < tile.num_rows;) {
      const uint32_t first_row = tile.first_row + done;
      const uint32_t rows = std::min(tile.num_rows - done, kBlockRows);
      const std::span<float> logits =
          memory_.logits.empty() ? memory_.rows.first(rows) : memory_.logits.subspan(first_row, rows);
      const uint64_t macs = uint64_t{rows} * tensor.cols;
      ShareRows(parts_.workers, rows, macs, [&](uint32_t begin, uint32_t end) {
        math::Matvec(*parts_.kernels, tensor.type, &logits[begin],
                     tile.rows.data() + (done + begin) * tensor.row_bytes(), x, end - begin, tensor.cols);
      });
      parts_.ledger->Count({.kernel = math::MatvecKernel(tensor.type),
                            .units = macs,
                            .parts = rows,
                            .region = memory_.tiles.region,
                            .bytes = rows * tensor.row_bytes()});
      if (const Result<void> used = use(first_row, logits); !used) {
        parts_.stream->Abandon();
        return used;
      }
      done += rows;
    }
  }
  return {};
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

// True when the choice is certain from the logits of candidates_, or from their only one.
Result<bool> Head::Screen(const math::Activation& x, TokenChoice& choice) {
  THIMBLE_ASSIGN(const bool goes_on, AskFirstStage(choice));
  if (!goes_on) return false;
  for (uint32_t s = 1; s < parts_.index->screen.num_stages; ++s) THIMBLE_TRY(AskStage(s, choice));
  ScreenCounts& counts = parts_.ledger->screen;
  counts.survivors += candidates_.size();
  counts.survivors_most = std::max<uint64_t>(counts.survivors_most, candidates_.size());
  TokenId fetched = kNoToken;
  if (!choice.needs_logits()) {
    if (candidates_.size() > 1) {  // the likeliest's logit often settles it
      const size_t likeliest = Likeliest(candidates_);
      fetched = candidates_[likeliest].id;
      THIMBLE_TRY(FetchRun(x, candidates_.subspan(likeliest, 1), choice));
      candidates_ = candidates_.first(choice.Prune(candidates_, true));
    }
    if (candidates_.size() == 1) return true;
  }
  // None are left of an index that lies: its bounds exclude each other.
  if (candidates_.empty() || IsScanCheaper(fetched)) return false;
  THIMBLE_TRY(FetchRows(x, fetched, choice));
  return true;
}

Result<bool> Head::AskFirstStage(TokenChoice& choice) {
  candidates_ = memory_.candidates.first(0);
  stream::RowsRef rows = RowsOf(0);
  // While the card is read, what lies in memory is asked.
  rows.psram = stages_[0].parts[0].records;
  rows.flash = stages_[0].parts[1].records;
  const uint32_t group_rows = formats::GroupRows(info(0).record_bytes);
  const uint32_t fits = stream::TileRows(rows, static_cast<uint32_t>(memory_.tiles.first.size()), parts_.block_bytes);
  stream::TileStream stream(*parts_.index_reader);
  THIMBLE_TRY(stream.Begin(rows, 0, rows.rows, fits / group_rows * group_rows, memory_.tiles));
  while (!stream.done()) {
    THIMBLE_ASSIGN(const stream::Tile tile, stream.Next());
    if (tile.region == Region::kSramDma) {
      if (const Result<void> checked = CheckGroups(tile.first_row, tile.rows); !checked) {
        stream.Abandon();
        return std::unexpected(checked.error());
      }
    }
    THIMBLE_ASSIGN(const bool goes_on, AskRows(tile.first_row, tile.rows, tile.region, choice));
    if (goes_on) continue;
    stream.Abandon();
    return false;
  }
  candidates_ = candidates_.first(choice.Prune(candidates_, true));
  std::sort(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return true;
}

// False when more rows survive than there is room for.
Result<bool> Head::AskRows(uint32_t first_row, std::span<const std::byte> records, Region region, TokenChoice& choice) {
  const size_t record_bytes = info(0).record_bytes;
  const auto num_rows = static_cast<uint32_t>(records.size() / record_bytes);
  const float* const centers = memory_.rows.data();
  const float* const radii = centers + kBlockRows;
  for (uint32_t done = 0; done < num_rows; done += kBlockRows) {
    const uint32_t rows = std::min(num_rows - done, kBlockRows);
    const uint64_t elements = rows * ScreenedElements();
    ShareRows(parts_.workers, rows, elements, [&](uint32_t begin, uint32_t end) {
      parts_.kernels->screen_rows(memory_.rows.data() + begin, memory_.rows.data() + kBlockRows + begin,
                                  records.data() + (done + begin) * record_bytes, end - begin, query_.stage(0));
    });
    parts_.ledger->Count(
        {.kernel = Kernel::kScreen, .units = elements, .parts = rows, .region = region, .bytes = rows * record_bytes});
    parts_.ledger->Count({.kernel = Kernel::kChoose, .units = rows});
    for (uint32_t r = 0; r < rows; ++r) {
      const TokenId id = first_row + done + r;
      const float high = centers[r] + radii[r];
      if (high < choice.floor() && !choice.IsPenalised(id)) continue;
      Bounded c = {.id = id,
                   .center = centers[r],
                   .low = choice.Penalised(id, centers[r] - radii[r]),
                   .high = choice.Penalised(id, high)};
      if (!choice.MayMatter(id, c.low, c.high)) continue;
      if (candidates_.size() == memory_.candidates.size()) {
        candidates_ = candidates_.first(choice.Prune(candidates_, false));
        if (candidates_.size() > memory_.candidates.size() / 4 * 3) return false;
      }
      candidates_ = memory_.candidates.first(candidates_.size() + 1);
      candidates_.back() = c;
    }
  }
  return true;
}

// Tightens the bounds of all candidates, the likeliest first: what its bounds exclude is not asked. One that is left
// is the token.
Result<void> Head::AskStage(uint32_t stage, TokenChoice& choice) {
  const auto ask = [&](Bounded& c) -> Result<void> {
    THIMBLE_ASSIGN(const std::span<const std::byte> record, Record(stage, c.id));
    float center = 0;
    float radius = 0;
    parts_.kernels->screen_rows(&center, &radius, record.data(), 1, query_.stage(stage));
    parts_.ledger->Count({.kernel = Kernel::kScreen, .units = ScreenedElements()});
    c.center += center;
    c.low = std::max(c.low, choice.Penalised(c.id, c.center - radius));
    c.high = std::min(c.high, choice.Penalised(c.id, c.center + radius));
    ++parts_.ledger->screen.refined;
    return {};
  };
  TokenId asked = kNoToken;
  if (!choice.needs_logits()) {
    if (candidates_.size() <= 1) return {};
    Bounded& best = candidates_[Likeliest(candidates_)];
    asked = best.id;
    THIMBLE_TRY(ask(best));
    candidates_ = candidates_.first(choice.Prune(candidates_, true));
  }
  for (Bounded& c : candidates_) {
    if (c.id != asked) THIMBLE_TRY(ask(c));
  }
  candidates_ = candidates_.first(choice.Prune(candidates_, true));
  return {};
}

// The next candidates from `from` on that are read together; empty and at the end when there are none. `fetched` is not
// read again.
Head::Run Head::NextRun(size_t from, TokenId fetched) const {
  if (from < candidates_.size() && candidates_[from].id == fetched) ++from;
  if (from == candidates_.size()) return {.first = from, .end = from, .bytes = 0};
  const uint64_t row_bytes = parts_.tensor->row_bytes();
  const auto bytes_to = [&](size_t last) { return (candidates_[last].id - candidates_[from].id + 1) * row_bytes; };
  size_t end = from + 1;
  while (end < candidates_.size() && end - from < kBlockRows && candidates_[end].id != fetched &&
         (candidates_[end].id - candidates_[end - 1].id - 1) * row_bytes <= stream::kCommandBytes &&
         parts_.reader->BufferBytes(bytes_to(end)) <= memory_.tiles.first.size()) {
    ++end;
  }
  return {.first = from, .end = end, .bytes = bytes_to(end - 1)};
}

// Whether to read the rows of the candidates takes as long as to read all rows.
bool Head::IsScanCheaper(TokenId fetched) const {
  const uint32_t rows_in_memory = stages_[parts_.index->screen.num_stages - 1].parts.back().first_row;
  const uint64_t all_bytes = parts_.tensor->size_bytes();
  uint64_t bytes = 0;
  for (Run run = NextRun(0, fetched); run.first != run.end; run = NextRun(run.end, fetched)) {
    bytes += stream::kCommandBytes + run.bytes;
    // A row's checksum is in its record.
    for (const Bounded& c : candidates_.subspan(run.first, run.end - run.first)) {
      if (c.id >= rows_in_memory) bytes += stream::kCommandBytes;
    }
  }
  return bytes >= all_bytes + all_bytes / memory_.tiles.first.size() * stream::kCommandBytes;
}

// Reads the weights of all candidates but `fetched`, in the order of the file.
Result<void> Head::FetchRows(const math::Activation& x, TokenId fetched, TokenChoice& choice) {
  for (Run run = NextRun(0, fetched); run.first != run.end; run = NextRun(run.end, fetched)) {
    THIMBLE_TRY(FetchRun(x, candidates_.subspan(run.first, run.end - run.first), choice));
  }
  return {};
}

// At most kBlockRows candidates, with what lies between them, in one read.
Result<void> Head::FetchRun(const math::Activation& x, std::span<Bounded> run, TokenChoice& choice) {
  const TensorRef& tensor = *parts_.tensor;
  const uint64_t row_bytes = tensor.row_bytes();
  // The checksums come first: they may lie on the card, too, and share the buffer.
  const std::span<float> crcs = memory_.rows.last(kBlockRows);  // bits of uint32
  for (size_t i = 0; i < run.size(); ++i) {
    THIMBLE_ASSIGN(const std::span<const std::byte> record, Record(parts_.index->screen.num_stages - 1, run[i].id));
    const uint32_t crc = TailOf(record).row_crc;
    std::memcpy(&crcs[i], &crc, sizeof(crc));  // a float register could change the bits
  }
  const uint64_t offset = tensor.offset + run.front().id * row_bytes;
  const uint64_t bytes = (run.back().id - run.front().id + 1) * row_bytes;
  THIMBLE_TRY(parts_.reader->Start(offset, bytes, memory_.tiles.first));
  THIMBLE_ASSIGN(const std::span<const std::byte> rows, parts_.reader->Wait());
  for (size_t i = 0; i < run.size(); ++i) {
    const auto at = static_cast<size_t>((run[i].id - run.front().id) * row_bytes);
    const std::byte* const row = rows.data() + at;
    const uint32_t crc = parts_.kernels->crc32c(0, row, static_cast<size_t>(row_bytes));
    parts_.ledger->Count({.kernel = Kernel::kCrc32c, .units = row_bytes});
    if (std::memcmp(&crc, &crcs[i], sizeof(crc)) != 0) return formats::DamagedWeights(tensor.id, offset + at);
    float logit = 0;
    math::Matvec(*parts_.kernels, tensor.type, &logit, row, x, 1, tensor.cols);
    THIMBLE_TRY(CheckFinite(run[i].id, {&logit, 1}));
    run[i].center = logit;
    run[i].low = run[i].high = choice.Penalised(run[i].id, logit);
    parts_.ledger->Count({.kernel = math::MatvecKernel(tensor.type), .units = tensor.cols});
    ++parts_.ledger->screen.rows_fetched;
  }
  return {};
}

}  // namespace thimble::head
