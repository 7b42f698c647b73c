#include "host/models/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <span>

#include "engine/session.h"
#include "host/formats/tensor_name.h"
#include "host/formats/tokenizer_image_writer.h"
#include "host/formats/weights.h"
#include "host/models/loaded_model.h"
#include "host/models/loaded_tokenizer.h"
#include "host/models/screen_builder.h"
#include "host/support/aligned_buffer.h"
#include "host/support/atomic_file.h"
#include "host/support/hugging_face.h"
#include "host/support/progress.h"

namespace thimble::host {
namespace {

// Texts of the model's own that are looked at: half of their states shape the screen, half measure it.
constexpr uint32_t kTexts = 8;
constexpr uint32_t kTokensOfText = 32;

// What a read of the card costs beside its bytes, in bytes: about 0.5 ms at 17 MB/s.
constexpr double kBytesOfRead = 8192;

// What a byte of the first stage costs beside itself when it comes from the card, which everything else of a token
// waits for, too.
constexpr double kStreamedCodes = 2;

constexpr size_t kReadBytes = 1 << 20;

// Checksums of blocks and rows, and the LM head itself.
struct Weights {
  std::vector<uint32_t> blocks;
  std::vector<uint32_t> embedding_rows;
  std::vector<uint32_t> head_rows;
  std::vector<float> head;  // [vocab_size, hidden_size]
};

std::vector<uint32_t> RowCrcs(std::span<const std::byte> bytes, size_t row_bytes) {
  std::vector<uint32_t> crcs;
  for (size_t at = 0; at < bytes.size(); at += row_bytes) {
    crcs.push_back(math::BestKernels().crc32c(0, bytes.data() + at, row_bytes));
  }
  return crcs;
}

Expected<Weights> ReadWeights(LoadedModel& loaded, const std::string& path) {
  const formats::ModelFile& model = loaded.model();
  uint64_t total = 0;
  for (const TensorRef& tensor : model.tensors) total += tensor.size_bytes();
  Progress progress("read", total);
  Weights weights;
  AlignedBuffer buffer(loaded.reader().BufferBytes(kReadBytes));
  for (const TensorRef& tensor : model.tensors) {
    if (model.tied && tensor.id.kind == TensorKind::kLmHead) continue;
    const bool keep = tensor.id.kind == TensorKind::kLmHead || tensor.id.kind == TensorKind::kTokenEmbd;
    std::vector<std::byte> kept;
    static_assert(kReadBytes % formats::kCheckBlockBytes == 0);
    for (uint64_t at = 0; at < tensor.size_bytes(); at += kReadBytes) {
      const uint64_t size = std::min<uint64_t>(kReadBytes, tensor.size_bytes() - at);
      if (const auto started = loaded.reader().Start(tensor.offset + at, size, buffer.bytes()); !started) {
        return loaded.Failure(started.error());
      }
      const auto bytes = loaded.reader().Wait();
      if (!bytes) return loaded.Failure(bytes.error());
      for (size_t block = 0; block < bytes->size(); block += formats::kCheckBlockBytes) {
        const size_t n = std::min<size_t>(formats::kCheckBlockBytes, bytes->size() - block);
        weights.blocks.push_back(math::BestKernels().crc32c(0, bytes->data() + block, n));
      }
      if (keep) kept.insert(kept.end(), bytes->begin(), bytes->end());
      progress.Advance(size);
    }
    if (!keep) continue;
    const auto row_bytes = static_cast<size_t>(tensor.row_bytes());
    if (tensor.id.kind == TensorKind::kTokenEmbd) weights.embedding_rows = RowCrcs(kept, row_bytes);
    if (tensor.id.kind == TensorKind::kLmHead || model.tied) {
      weights.head_rows = RowCrcs(kept, row_bytes);
      weights.head.resize(size_t{tensor.rows} * tensor.cols);
      ExpandElements(kept, tensor.type, weights.head);
      THIMBLE_TRY(CheckFinite(weights.head, path, TensorName(tensor.id), 0));
    }
  }
  return weights;
}

// Empty if the model has no tokenizer, or one that cannot be used.
Expected<std::vector<std::byte>> TokenizerImage(LoadedModel& loaded) {
  if (!loaded.no_texts().empty()) return std::vector<std::byte>();
  const Progress progress("tokenizer", text::Tokenizer::TableBytes(loaded.model().tokenizer));
  const auto tokenizer = LoadedTokenizer::Load(loaded.reader(), loaded.model().tokenizer);
  if (!tokenizer) return loaded.Failure(tokenizer.error());
  std::vector<std::byte> image(TokenizerImageBytes(tokenizer->get()));
  WriteTokenizerImage(tokenizer->get(), image, math::BestKernels().crc32c);
  return image;
}

uint32_t PositionsOfText(const formats::ModelFile& model) {
  return std::min(kTokensOfText, model.shape.max_position_embeddings);
}

// Hidden states of texts that the model writes, [n, hidden_size]; none of a model of one position.
Expected<std::vector<float>> OwnStates(LoadedModel& loaded) {
  const formats::ModelFile& model = loaded.model();
  const uint32_t hidden_size = model.shape.hidden_size;
  const head::SamplerOptions plain = {.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 1};
  const uint32_t length = PositionsOfText(model);
  const auto plan = PlanSession(model, loaded.board(), loaded.reader().block_bytes(),
                                {.n_ctx = length, .head = plan::HeadMode::kFull}, plain);
  if (!plan) return loaded.Failure(plan.error());
  std::vector<float> states;
  Progress progress("listen", uint64_t{kTexts} * length * model.tensor({TensorKind::kLmHead, 0}).size_bytes());
  THIMBLE_ASSIGN(Session* const session, loaded.OpenSession(*plan));
  for (uint32_t text = 0; text < kTexts; ++text) {
    session->Clear();
    const TokenId first = model.tokenizer.bos != kNoToken ? model.tokenizer.bos : 0;
    if (const auto begun = session->Prefill({&first, 1}); !begun) return loaded.Failure(begun.error());
    head::SamplerOptions sampler = plain;
    sampler.seed = text + 1;
    for (uint32_t i = 0; i + 1 < length; ++i) {
      if (const auto next = session->Next(sampler); !next) return loaded.Failure(next.error());
      const float* const hidden = session->hidden();
      states.insert(states.end(), hidden, hidden + hidden_size);
      progress.Advance(model.tensor({TensorKind::kLmHead, 0}).size_bytes());
    }
  }
  return states;
}

// Writes a section, filled up to kSectionAlign.
Status WriteSection(FileSink& sink, std::span<const std::byte> bytes) {
  static constexpr std::array<std::byte, formats::kSectionAlign> kZeros = {};
  THIMBLE_TRY(sink.Write(bytes));
  const uint64_t over = sink.written_bytes() % formats::kSectionAlign;
  return over == 0 ? Status() : sink.Write(std::span(kZeros).first(formats::kSectionAlign - over));
}

template <class T>
std::span<const std::byte> BytesOf(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

using Sections = std::array<std::span<const std::byte>, formats::kNumSections>;

// Where the sections will be is known before they are written, so that the header can come first.
void Layout(const Sections& sections, formats::Index& index, uint64_t& index_bytes) {
  uint64_t at = formats::kSectionAlign;
  for (size_t i = 0; i < sections.size(); ++i) {
    index.sections[i] = {.offset = at,
                         .bytes = sections[i].size(),
                         .crc = math::BestKernels().crc32c(0, sections[i].data(), sections[i].size())};
    at += (sections[i].size() + formats::kSectionAlign - 1) / formats::kSectionAlign * formats::kSectionAlign;
  }
  index_bytes = at;
}

// Checksums of the first stage's groups of rows.
std::vector<uint32_t> GroupCrcs(const BuiltScreen& screen) {
  const std::vector<std::byte>& records = screen.records[0];
  const size_t record_bytes = screen.info.stages[0].record_bytes;
  const size_t group_bytes = formats::GroupRows(screen.info.stages[0].record_bytes) * record_bytes;
  std::vector<uint32_t> crcs;
  for (size_t at = 0; at < records.size(); at += group_bytes) {
    crcs.push_back(math::BestKernels().crc32c(0, &records[at], std::min(group_bytes, records.size() - at)));
  }
  return crcs;
}

// Refers to all four.
Sections SectionsOf(const Weights& weights, const BuiltScreen& screen, const std::vector<uint32_t>& groups,
                    const std::vector<std::byte>& tokenizer) {
  const auto stage = [&](size_t s) {
    return s < screen.records.size() ? BytesOf(screen.records[s]) : std::span<const std::byte>();
  };
  return {BytesOf(weights.blocks),
          BytesOf(weights.embedding_rows),
          BytesOf(screen.vectors),
          BytesOf(groups),
          stage(0),
          stage(1),
          stage(2),
          tokenizer};
}

// What a token costs on the board with this screen, of the whole model and from all memories, in bytes; half of the
// tokens chosen as the likeliest and half from the 40 likeliest. Infinite if the model does not fit.
double BytesOfToken(const formats::ModelFile& model, const Weights& weights, const BuiltScreen& screen,
                    const std::vector<std::byte>& tokenizer, const RowsLeft& top_k, uint32_t block_bytes,
                    const PrepareOptions& options) {
  formats::Index index = {.sections = {}, .screen = screen.info};
  const std::vector<uint32_t> groups = GroupCrcs(screen);
  const Sections sections = SectionsOf(weights, screen, groups, tokenizer);
  for (size_t i = 0; i < sections.size(); ++i) index.sections[i].bytes = sections[i].size();
  plan::PlanOptions plan_options = {.n_ctx = options.n_ctx, .head = plan::HeadMode::kScreen};
  if (plan_options.n_ctx == 0) {
    plan_options.n_ctx = LargestContext(model, options.board, block_bytes, plan_options, {}, &index);
  }
  double bytes = 0;
  for (const bool is_top_k : {false, true}) {
    for (uint32_t s = 0; is_top_k && s < screen.info.num_stages; ++s) {
      index.screen.stages[s].rows_left_mean = top_k[s];
    }
    const auto plan = PlanSession(model, options.board, block_bytes, plan_options, {}, &index);
    if (!plan) return std::numeric_limits<double>::infinity();
    const plan::TokenCost& cost = plan->token_cost;
    const uint64_t in_memory = uint64_t{plan->places[0].psram_rows} + plan->places[0].flash_rows;
    bytes += kStreamedCodes *
             static_cast<double>((weights.head_rows.size() - in_memory) * index.screen.stages[0].record_bytes) / 2;
    bytes +=
        (static_cast<double>(cost.card_bytes + cost.screen_bytes) + static_cast<double>(cost.reads) * kBytesOfRead) / 2;
  }
  return bytes;
}

}  // namespace

Expected<Prepared> Prepare(const PrepareOptions& options) {
  THIMBLE_TRY(RefuseRepository(options.model));  // before its folder is written to
  const std::string path = options.out.empty() ? IndexName(options.model) : options.out;
  const std::array<std::string, 1> inputs = {options.model};
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(path, inputs));
  THIMBLE_ASSIGN(Prepared prepared, WriteIndex(options, file.sink()));
  THIMBLE_TRY(file.Commit());
  prepared.path = path;
  return prepared;
}

Expected<Prepared> WriteIndex(const PrepareOptions& options, FileSink& sink) {
  const ModelRequest request = {.model = options.model, .board = "host", .index = IndexUse::kIgnore};
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(request));
  if (loaded->is_converted() || !loaded->opened().name_on_card.empty()) {
    return Sentence(fmt::format("{} is no GGUF file and no tensor folder: an index is made for one of these ({})",
                                options.model,
                                loaded->is_converted() ? "'thimble convert' makes it"
                                                       : "prepare it before it goes on a "
                                                         "card"));
  }
  loaded->NoteTexts();
  const formats::ModelFile& model = loaded->model();
  const uint32_t hidden_size = model.shape.hidden_size;
  THIMBLE_ASSIGN(Weights weights, ReadWeights(*loaded, options.model));
  THIMBLE_ASSIGN(const std::vector<std::byte> tokenizer, TokenizerImage(*loaded));
  THIMBLE_ASSIGN(const std::vector<float> states, OwnStates(*loaded));
  const size_t half = states.size() / hidden_size / 2 * hidden_size;
  const std::span<const float> shaping = std::span(states).first(half);
  const std::span<const float> measuring = std::span(states).subspan(half);

  Prepared prepared;
  prepared.positions = PositionsOfText(model);
  std::vector<std::vector<uint32_t>> tries = {options.screen_bits};
  if (options.screen_bits.empty()) tries = {{4, 3}, {4, 2}, {3, 3}, {3, 4}, {2, 3}, {2, 4}};
  std::optional<BuiltScreen> best;
  double best_bytes = 0;
  {
    Progress progress("screen", tries.size() * weights.head.size());
    for (const std::vector<uint32_t>& bits : tries) {
      BuiltScreen screen = BuildScreen(weights.head, hidden_size, shaping, bits);
      const RowsLeft top_k = MeasureScreen(screen, hidden_size, measuring);
      const double bytes =
          BytesOfToken(model, weights, screen, tokenizer, top_k, loaded->reader().block_bytes(), options);
      Prepared::Tried& tried =
          prepared.tried.emplace_back(Prepared::Tried{.bits = bits, .bytes_a_token = bytes, .top_k = top_k});
      for (uint32_t s = 0; s < screen.info.num_stages; ++s) tried.likeliest[s] = screen.info.stages[s].rows_left_mean;
      if (!best || bytes < best_bytes) {
        best = std::move(screen);
        best_bytes = bytes;
      }
      progress.Advance(weights.head.size());
      if (best->info.num_measured == 0) break;
    }
  }
  SealRecords(*best, weights.head_rows);
  const std::vector<uint32_t> groups = GroupCrcs(*best);

  AlignedBuffer buffer(loaded->reader().BufferBytes(kReadBytes));
  const auto metadata_crc = formats::MetadataCrc(loaded->reader(), model, buffer.bytes(), math::BestKernels().crc32c);
  if (!metadata_crc) return loaded->Failure(metadata_crc.error());
  const Sections sections = SectionsOf(weights, *best, groups, tokenizer);
  prepared.index.screen = best->info;
  Layout(sections, prepared.index, prepared.index_bytes);
  std::vector<std::byte> header(formats::kIndexHeaderBytes);
  formats::FormatIndexHeader(prepared.index, model, *metadata_crc, prepared.index_bytes, header,
                             math::BestKernels().crc32c);

  THIMBLE_TRY(WriteSection(sink, header));
  for (const std::span<const std::byte>& section : sections) THIMBLE_TRY(WriteSection(sink, section));
  return prepared;
}

}  // namespace thimble::host
