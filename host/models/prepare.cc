#include "host/models/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>

#include "engine/session.h"
#include "host/formats/tensor_name.h"
#include "host/formats/tokenizer_image_writer.h"
#include "host/formats/weights.h"
#include "host/models/draft_table.h"
#include "host/models/loaded_model.h"
#include "host/models/loaded_tokenizer.h"
#include "host/models/screen_builder.h"
#include "host/models/screened_head.h"
#include "host/support/aligned_buffer.h"
#include "host/support/atomic_file.h"
#include "host/support/hugging_face.h"
#include "host/support/progress.h"

namespace thimble::host {
namespace {

// Texts of the model's own that are looked at, as many as take about as long as reading so many bytes of weights. The
// last of their states measure the screen, the others shape it.
constexpr uint32_t kMinTexts = 8;
constexpr uint32_t kMaxTexts = 32;
constexpr uint64_t kListenedBytes = uint64_t{32} << 30;
constexpr uint32_t kTokensOfText = 32;
constexpr size_t kMeasuredStates = 124;

// What a read of the card costs beside its bytes, in bytes: about 0.5 ms at 17 MB/s.
constexpr double kBytesOfRead = 8192;

// The same of one that nothing else goes on beside, in addition.
constexpr double kBytesOfLoneRead = 16384;

// What a look at a row's bounds costs, of one core: some 40 cycles at 240 MHz, in bytes of 40 ns.
constexpr double kBytesOfLook = 4;

// The same of an element of a record of the second stage, beside its bytes: some 13 cycles.
constexpr double kBytesOfElement = 1.4;

// What a byte costs that a scan reads from the card: some three of memory.
constexpr double kBytesOfScanned = 3;

// What a byte of the first stage costs beside itself when it comes from the card, which everything else of a token
// waits for, too.
constexpr double kStreamedCodes = 2;

// What looking up a byte of the first stage costs where its tables lie in PSRAM: most of the time a line of the cache,
// some 1.3 microseconds.
constexpr double kBytesOfFarLookUp = 24;

// Of the first stage, that are tried.
constexpr uint32_t kMostParts = 32;

// Of a text for the table of drafts, at most.
constexpr uint32_t kTokensOfDraftText = 256;
// Seeds that people give are small: what they see is not what the table was made of.
constexpr uint64_t kFirstDraftSeed = uint64_t{1} << 40;

constexpr size_t kReadBytes = 1 << 20;

// Room for survivors of the first stage costs little.
constexpr uint64_t kMinCandidates = 1024;

// Checksums of blocks and rows, and the LM head itself.
struct Weights {
  std::vector<uint32_t> blocks;
  std::vector<uint32_t> embedding_rows;
  std::vector<uint32_t> head_rows;
  std::vector<std::byte> stored_head;  // its rows as the model stores them
  std::vector<float> head;             // [vocab_size, hidden_size]
};

std::vector<uint32_t> RowChecksums(std::span<const std::byte> bytes, size_t row_bytes) {
  std::vector<uint32_t> checksums;
  for (size_t at = 0; at < bytes.size(); at += row_bytes) {
    checksums.push_back(math::BestKernels().xxh32(0, bytes.data() + at, row_bytes));
  }
  return checksums;
}

Expected<Weights> ReadWeights(LoadedModel& loaded, const std::string& path) {
  const formats::ModelFile& model = loaded.model();
  uint64_t total = 0;
  for (const TensorRef& tensor : model.tensors) total += tensor.size_bytes();
  Progress progress("1 of 4: reading the weights", total);
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
        weights.blocks.push_back(math::BestKernels().xxh32(0, bytes->data() + block, n));
      }
      if (keep) kept.insert(kept.end(), bytes->begin(), bytes->end());
      progress.Advance(size);
    }
    if (!keep) continue;
    const auto row_bytes = static_cast<size_t>(tensor.row_bytes());
    if (tensor.id.kind == TensorKind::kTokenEmbd) weights.embedding_rows = RowChecksums(kept, row_bytes);
    if (tensor.id.kind == TensorKind::kLmHead || model.tied) {
      weights.head_rows = RowChecksums(kept, row_bytes);
      weights.head.resize(size_t{tensor.rows} * tensor.cols);
      ExpandElements(kept, tensor.type, weights.head);
      THIMBLE_TRY(CheckFinite(weights.head, path, TensorName(tensor.id), 0));
      weights.stored_head = std::move(kept);
    }
  }
  return weights;
}

// Empty if the model has no tokenizer, or one that cannot be used.
Expected<std::vector<std::byte>> TokenizerImage(LoadedModel& loaded) {
  if (!loaded.no_texts().empty()) return std::vector<std::byte>();
  const Progress progress("2 of 4: reading the tokenizer", text::Tokenizer::TableBytes(loaded.model().tokenizer));
  const auto tokenizer = LoadedTokenizer::Load(loaded.reader(), loaded.model().tokenizer);
  if (!tokenizer) return loaded.Failure(tokenizer.error());
  std::vector<std::byte> image(static_cast<size_t>(TokenizerImageBytes(tokenizer->get())));
  WriteTokenizerImage(tokenizer->get(), image, math::BestKernels().xxh32_stripes);
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
  uint64_t token_bytes = 0;
  for (const TensorRef& tensor : model.tensors) token_bytes += tensor.size_bytes();
  const auto texts =
      static_cast<uint32_t>(std::clamp<uint64_t>(kListenedBytes / (token_bytes * length), kMinTexts, kMaxTexts));
  Progress progress("3 of 4: letting the model write",
                    uint64_t{texts} * length * model.tensor({TensorKind::kLmHead, 0}).size_bytes());
  THIMBLE_ASSIGN(Session* const session, loaded.OpenSession(*plan));
  for (uint32_t text = 0; text < texts; ++text) {
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

// So many tokens that the model writes in texts from their beginning, as the default sampler chooses; none if there is
// no position to write at.
Expected<std::vector<std::vector<TokenId>>> OwnTexts(LoadedModel& loaded, uint32_t tokens) {
  const formats::ModelFile& model = loaded.model();
  const uint32_t length = std::min(kTokensOfDraftText, model.shape.max_position_embeddings);
  std::vector<std::vector<TokenId>> texts;
  if (tokens == 0 || length < 2) return texts;
  head::SamplerOptions sampler;
  const auto plan = PlanSession(model, loaded.board(), loaded.reader().block_bytes(),
                                {.n_ctx = length, .head = plan::HeadMode::kFull}, sampler);
  if (!plan) return loaded.Failure(plan.error());
  Progress progress("write", tokens);
  THIMBLE_ASSIGN(Session* const session, loaded.OpenSession(*plan));
  for (uint32_t left = tokens; left > 0;) {
    session->Clear();
    const TokenId first = model.tokenizer.bos != kNoToken ? model.tokenizer.bos : 0;
    if (const auto begun = session->Prefill({&first, 1}); !begun) return loaded.Failure(begun.error());
    std::vector<TokenId>& text = texts.emplace_back(1, first);
    sampler.seed = kFirstDraftSeed + texts.size();
    while (left > 0 && text.size() < length) {
      const auto next = session->Next(sampler);
      if (!next) return loaded.Failure(next.error());
      text.push_back(*next);
      progress.Advance(1);
      --left;
      if (model.tokenizer.EndsText(*next)) break;
    }
  }
  return texts;
}

// Writes a section, filled up to kSectionAlign.
Status WriteSection(FileSink& sink, std::span<const std::byte> bytes) {
  static constexpr std::array<std::byte, formats::kSectionAlign> kZeros = {};
  THIMBLE_TRY(sink.Write(bytes));
  const auto over = static_cast<size_t>(sink.written_bytes() % formats::kSectionAlign);
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
    if (i == static_cast<size_t>(formats::Section::kDrafts) && sections[i].empty()) continue;
    index.sections[i] = {.offset = at,
                         .bytes = sections[i].size(),
                         .checksum = math::BestKernels().xxh32(0, sections[i].data(), sections[i].size())};
    at += (sections[i].size() + formats::kSectionAlign - 1) / formats::kSectionAlign * formats::kSectionAlign;
  }
  index_bytes = at;
}

// Refers to all five.
Sections SectionsOf(const Weights& weights, const BuiltScreen& screen, const std::vector<uint32_t>& groups,
                    const std::vector<std::byte>& tokenizer, const std::vector<formats::DraftEntry>& drafts) {
  return {BytesOf(weights.blocks), BytesOf(weights.embedding_rows),
          BytesOf(screen.mean),    screen.transform,
          BytesOf(groups),         screen.records[0],
          screen.records[1],       tokenizer,
          BytesOf(drafts)};
}

// What choosing a token took, in the mean, beside what the index says of it.
struct Effort {
  std::array<double, 2> survivors = {};  // of the first stage; by formats::MeasuredSampler, like all here
  std::array<double, 2> looks = {};      // at their bounds
  std::array<double, 2> fallbacks = {};  // to a scan
};

constexpr std::array<head::SamplerOptions, 2> kSamplers = {
    {{.temperature = 0}, {}}};  // by formats::MeasuredSampler: greedy, and the default

// What a token costs on the board, in bytes, with a screen whose first stage is in so many parts.
struct TokenBytes {
  double bytes = std::numeric_limits<double>::infinity();  // if the model does not fit
  uint32_t num_parts = 1;
  bool has_near_tables = false;  // in internal memory
  bool has_whole_tiles = false;  // as large as the board's, beside them
};

// What a token costs on the board with this screen in so many parts, of the whole model and from all memories; half of
// the tokens chosen by each of the samplers that were measured.
TokenBytes BytesOfToken(const formats::ModelFile& model, const Weights& weights, const BuiltScreen& screen,
                        uint32_t num_parts, const Effort& effort, const std::vector<std::byte>& tokenizer,
                        uint32_t block_bytes, const PrepareOptions& options) {
  formats::Index index = {.sections = {}, .screen = screen.info};
  index.screen.num_parts = num_parts;
  const auto num_rows = static_cast<uint32_t>(weights.head_rows.size());
  const std::vector<uint32_t> groups(size_t{num_parts} * index.screen.num_groups(num_rows));
  const Sections sections = SectionsOf(weights, screen, groups, tokenizer, {});
  for (size_t i = 0; i < sections.size(); ++i) index.sections[i].bytes = sections[i].size();
  plan::PlanOptions plan_options = {.n_ctx = options.n_ctx, .head = plan::HeadMode::kScreen};
  if (plan_options.n_ctx == 0) {
    plan_options.n_ctx = LargestContext(model, options.board, block_bytes, plan_options, {}, &index);
  }
  TokenBytes token = {.num_parts = num_parts, .has_near_tables = true, .has_whole_tiles = true};
  double bytes = 0;
  for (size_t which = 0; which < kSamplers.size(); ++which) {
    const auto plan = PlanSession(model, options.board, block_bytes, plan_options, kSamplers[which], &index);
    if (!plan) return {.num_parts = num_parts};
    token.has_whole_tiles &= plan->tile_buffer_bytes == options.board.tile_buffer_bytes;
    if (plan->buffer(BufferId::kScreenTables).region == Region::kPsram) {
      token.has_near_tables = false;
      bytes += kBytesOfFarLookUp * static_cast<double>(screen.records[0].size()) / 2;
    }
    const plan::TokenCost& cost = plan->token_cost;
    const uint64_t in_memory = uint64_t{plan->places[0].psram_rows} + plan->places[0].flash_rows;
    bytes +=
        kStreamedCodes * static_cast<double>((weights.head_rows.size() - in_memory) * index.screen.record_bytes[0]) / 2;
    bytes +=
        (static_cast<double>(cost.card_bytes + cost.screen_bytes) + static_cast<double>(cost.reads) * kBytesOfRead) / 2;
    const uint64_t records_in_memory = uint64_t{plan->places[1].psram_rows} + plan->places[1].flash_rows;
    const double lone_reads =
        static_cast<double>(screen.info.uses[which].second_mean) *
            (1 - static_cast<double>(records_in_memory) / static_cast<double>(weights.head_rows.size())) +
        static_cast<double>(screen.info.uses[which].rows_mean);
    bytes += lone_reads * kBytesOfLoneRead / 2;
    const double elements = static_cast<double>(screen.info.uses[which].second_mean) * model.shape.hidden_size;
    bytes += (effort.looks[which] * kBytesOfLook + elements * kBytesOfElement +
              effort.fallbacks[which] * static_cast<double>(weights.stored_head.size()) * kBytesOfScanned) /
             2;
  }
  token.bytes = bytes;
  return token;
}

// The same with the parts that are asked for, or those that cost least. There is one part wherever its tables are near.
template <class BytesIn>
TokenBytes BytesOfBestParts(uint32_t asked, uint32_t first_bytes, BytesIn bytes_in) {
  const uint32_t most = first_bytes / 4;
  if (asked != 0) return bytes_in(std::min(asked, most));
  TokenBytes best = bytes_in(1);
  if (best.has_near_tables) return best;
  for (uint32_t parts = 2; parts <= std::min(most, kMostParts); ++parts) {
    const TokenBytes tried = bytes_in(parts);
    if (tried.bytes < best.bytes) best = tried;
    if (tried.has_near_tables && tried.has_whole_tiles) break;
  }
  return best;
}

// Counts what a core does alone.
class Looks : public EventSink {
 public:
  void OnReadStarted(Zone, uint64_t, uint64_t) override {}
  void OnReadAwaited(Zone) override {}
  void OnWork(Zone, const Work& work) override {
    if (work.kernel == Kernel::kChoose) looks += work.units;
  }
  uint64_t looks = 0;
};

// Lets the screen choose tokens for `states` [n, hidden_size], as the engine does, and writes into its info what that
// took.
Expected<Effort> MeasureScreen(BuiltScreen& screen, const TensorRef& tensor, const Weights& weights,
                               std::span<const float> states) {
  Looks looks;
  ScreenedHead head(tensor, weights.stored_head, screen, {.events = &looks});
  Effort effort;
  const auto n = static_cast<uint32_t>(states.size() / tensor.cols);
  screen.info.num_measured = n;
  if (n == 0) {  // then a token is taken to need all rows
    const auto all = static_cast<float>(tensor.rows);
    screen.info.uses.fill({.second_mean = all, .rows_mean = all, .survivors_most = tensor.rows});
    screen.info.num_candidates = tensor.rows;
    return effort;
  }
  uint64_t most = 0;
  for (size_t which = 0; which < kSamplers.size(); ++which) {
    formats::ScreenUse& use = screen.info.uses[which];
    const ScreenCounts before = head.ledger().screen;
    looks.looks = 0;
    uint64_t seen = before.survivors;
    for (uint32_t i = 0; i < n; ++i) {
      if (const auto token = head.Screened(&states[size_t{i} * tensor.cols], kSamplers[which], i, {}); !token) {
        return Failed("the screen", token.error());
      }
      const uint64_t now = head.ledger().screen.survivors;
      use.survivors_most = std::max(use.survivors_most, static_cast<uint32_t>(now - seen));
      seen = now;
    }
    const ScreenCounts& after = head.ledger().screen;
    use.second_mean = static_cast<float>(after.refined - before.refined) / static_cast<float>(n);
    use.rows_mean = static_cast<float>(after.rows_fetched - before.rows_fetched) / static_cast<float>(n);
    effort.survivors[which] = static_cast<double>(after.survivors - before.survivors) / n;
    effort.looks[which] = static_cast<double>(looks.looks) / n;
    effort.fallbacks[which] = static_cast<double>(after.fallbacks - before.fallbacks) / n;
    most = std::max<uint64_t>(most, use.survivors_most);
  }
  screen.info.num_candidates =
      static_cast<uint32_t>(std::min<uint64_t>(std::max<uint64_t>(2 * most, kMinCandidates), tensor.rows));
  return effort;
}

// The screen that costs least: first which power, then how many bytes a row, then how many bits.
class ScreenSearch {
 public:
  using Cost = std::function<TokenBytes(const BuiltScreen&, const Effort&)>;

  ScreenSearch(const TensorRef& tensor, const Weights& weights, std::span<const float> shaping,
               std::span<const float> measuring, Cost cost)
      : tensor_(tensor),
        weights_(weights),
        measuring_(measuring),
        cost_(std::move(cost)),
        builder_(weights.head, tensor.cols, shaping) {}

  Expected<BuiltScreen> Find(const PrepareOptions& options, std::vector<Prepared::Tried>& tried) {
    const uint32_t d = tensor_.cols;
    const auto whole_words = [&](uint32_t bytes) {
      return std::clamp(bytes / 4 * 4, 4u, std::min(formats::kMaxFirstBytes, (d + 4) / 4 * 4));
    };
    std::vector<uint32_t> sizes = {options.screen.first_bytes};
    const bool searches_size = sizes[0] == 0;
    if (searches_size)
      sizes = {whole_words(d / 4), whole_words(3 * d / 16), whole_words(3 * d / 8), whole_words(d / 2)};
    std::vector<uint32_t> bits = {options.screen.second_bits};
    if (bits[0] == 0) bits = {3, 2, 4, 1};
    const std::vector<uint32_t> closer = {d / 16, d / 32};  // steps to either side of the best
    Progress progress("4 of 4: trying screens",
                      kStatePowers.size() + sizes.size() + (searches_size ? 2 * closer.size() : 0) + bits.size(),
                      ProgressUnit::kSteps);
    best_shape_.size = {sizes[0], bits[0]};
    const auto try_all = [&](const auto& values, auto set) -> Status {
      const ScreenShape from = best_shape_;
      for (const auto value : values) {
        ScreenShape shape = from;
        set(shape, value);
        const bool is_known = std::ranges::any_of(tried, [&](const Prepared::Tried& t) { return t.shape == shape; });
        if (!is_known && (!best_ || best_->info.num_measured != 0)) THIMBLE_TRY(Try(shape, tried));
        progress.Advance(1);
      }
      return {};
    };
    THIMBLE_TRY(try_all(kStatePowers, [](ScreenShape& shape, StatePower power) { shape.power = power; }));
    const auto set_size = [](ScreenShape& shape, uint32_t bytes) { shape.size.first_bytes = bytes; };
    THIMBLE_TRY(try_all(sizes, set_size));
    for (const uint32_t step : closer) {
      if (!searches_size) break;
      const uint32_t best = best_shape_.size.first_bytes;
      THIMBLE_TRY(try_all(std::array{whole_words(best - std::min(step, best)), whole_words(best + step)}, set_size));
    }
    THIMBLE_TRY(try_all(bits, [](ScreenShape& shape, uint32_t width) { shape.size.second_bits = width; }));
    for (Prepared::Tried& t : tried) t.is_chosen = t.shape == best_shape_;
    SplitFirstStage(*best_, best_token_.num_parts);
    return std::move(*best_);
  }

 private:
  Status Try(const ScreenShape& shape, std::vector<Prepared::Tried>& tried) {
    BuiltScreen screen = builder_.Build(shape);
    THIMBLE_ASSIGN(const Effort effort, MeasureScreen(screen, tensor_, weights_, measuring_));
    const TokenBytes token = cost_(screen, effort);
    tried.push_back({.shape = shape,
                     .num_parts = token.num_parts,
                     .bytes_a_token = token.bytes,
                     .uses = screen.info.uses,
                     .survivors_mean = effort.survivors});
    if (best_ && !(token.bytes < best_token_.bytes)) return {};
    best_ = std::move(screen);
    best_shape_ = shape;
    best_token_ = token;
    return {};
  }

  TensorRef tensor_;
  const Weights& weights_;
  std::span<const float> measuring_;
  Cost cost_;
  ScreenBuilder builder_;
  std::optional<BuiltScreen> best_;
  ScreenShape best_shape_;
  TokenBytes best_token_;
};

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
    return Sentence(fmt::format(
        "{} is neither one GGUF file nor a tensor folder: an index is made for one of these ({})", options.model,
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
  const size_t measured = std::min(kMeasuredStates, states.size() / hidden_size / 2) * hidden_size;
  const std::span<const float> shaping = std::span(states).first(states.size() - measured);
  const std::span<const float> measuring = std::span(states).last(measured);

  Prepared prepared;
  prepared.positions = PositionsOfText(model);
  if (const std::string wrong = CheckScreenSize(options.screen, hidden_size); !wrong.empty()) return Sentence(wrong);
  const TensorRef& tensor = model.tensor({TensorKind::kLmHead, 0});
  ScreenSearch search(tensor, weights, shaping, measuring, [&](const BuiltScreen& screen, const Effort& effort) {
    return BytesOfBestParts(options.num_parts, screen.info.record_bytes[0], [&](uint32_t num_parts) {
      return BytesOfToken(model, weights, screen, num_parts, effort, tokenizer, loaded->reader().block_bytes(),
                          options);
    });
  });
  THIMBLE_ASSIGN(BuiltScreen best, search.Find(options, prepared.tried));
  SealRecords(best, weights.head_rows);
  const std::vector<uint32_t> groups = GroupChecksums(best);

  AlignedBuffer buffer(loaded->reader().BufferBytes(kReadBytes));
  const auto metadata_checksum =
      formats::MetadataChecksum(loaded->reader(), model, buffer.bytes(), math::BestKernels().xxh32_stripes);
  if (!metadata_checksum) return loaded->Failure(metadata_checksum.error());
  THIMBLE_ASSIGN(const std::vector<std::vector<TokenId>> texts, OwnTexts(*loaded, options.draft_tokens));
  const std::vector<formats::DraftEntry> drafts = MakeDraftTable(texts);
  prepared.draft_entries = drafts.size();
  prepared.index.draft_use = MeasureDrafts(texts);
  const Sections sections = SectionsOf(weights, best, groups, tokenizer, drafts);
  prepared.index.screen = best.info;
  Layout(sections, prepared.index, prepared.index_bytes);
  std::vector<std::byte> header(formats::kIndexHeaderBytes);
  formats::FormatIndexHeader(prepared.index, model, *metadata_checksum, prepared.index_bytes, header,
                             math::BestKernels().xxh32_stripes);

  THIMBLE_TRY(WriteSection(sink, header));
  for (const std::span<const std::byte>& section : sections) THIMBLE_TRY(WriteSection(sink, section));
  return prepared;
}

}  // namespace thimble::host
