#include "engine/generate.h"

#include <algorithm>
#include <array>
#include <optional>

#include "emulated/commands.h"
#include "emulated/machine.h"
#include "emulated/text.h"
#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "engine/base/ledger.h"
#include "engine/formats/card_models.h"
#include "engine/formats/index_file.h"
#include "engine/opening.h"
#include "engine/session.h"
#include "engine/storage/block_device.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/swap_file.h"
#include "engine/storage/volume.h"

namespace thimble::emulated {
namespace {

// An ESP32-CAM whose PSRAM also holds the program, without the weights' flash: 4 MB in all.
Board MachineBoard() {
  Board board = kEsp32Cam;
  board.capacity_bytes = {128 * 1024, 128 * 1024, 3072 * 1024, 0};
  return board;
}

// So little that keys and values of a few positions have room.
constexpr std::array<uint64_t, kNumRegions> kSwappingBytes = {128 * 1024, 36 * 1024, 56 * 1024, 0};
constexpr uint32_t kSwapBytes = 128 * 1024;

// A card's image. As the card of a board, it can write to the DMA's memory only.
class Card final : public storage::BlockDevice {
 public:
  Card(int file, uint64_t size_bytes, uint32_t dma_align, std::span<const std::byte> dma)
      : file_(file), dma_align_(dma_align), dma_(dma), size_bytes_(size_bytes) {}

  storage::BlockGeometry geometry() const override {
    return {.block_bytes = 512, .buffer_align = dma_align_, .size_bytes = size_bytes_};
  }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override {
    if (is_started_) return Fail({.code = Code::kInvalidArgument, .what = "a read is in flight"});
    THIMBLE_TRY(storage::CheckRead(geometry(), offset_bytes, dst));
    if (dst.data() < dma_.data() || dst.data() + dst.size() > dma_.data() + dma_.size()) {
      return Fail({.code = Code::kInvalidArgument, .what = "the card's DMA cannot write to this memory"});
    }
    is_started_ = true;
    is_read_ = ReadFile(file_, offset_bytes, dst);
    return {};
  }
  Result<void> WaitRead() override {
    if (!is_started_) return Fail({.code = Code::kInvalidArgument, .what = "no read was started"});
    is_started_ = false;
    if (!is_read_) return Fail({.code = Code::kIo, .what = "the card's image cannot be read"});
    return {};
  }
  Result<void> Reinitialise() override {
    is_started_ = false;
    return {};
  }

 private:
  int file_;
  uint32_t dma_align_;
  std::span<const std::byte> dma_;
  uint64_t size_bytes_;
  bool is_started_ = false;
  bool is_read_ = false;
};

// A swap file of the machine's own memory, with the same limits.
class SwapMemory final : public storage::WritableDevice {
 public:
  SwapMemory(std::span<std::byte> memory, uint32_t dma_align, std::span<const std::byte> dma)
      : memory_(memory), dma_align_(dma_align), dma_(dma) {}

  storage::BlockGeometry geometry() const override {
    return {.block_bytes = 512, .buffer_align = dma_align_, .size_bytes = memory_.size()};
  }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override {
    THIMBLE_TRY(Check(offset_bytes, dst));
    std::copy_n(memory_.begin() + static_cast<ptrdiff_t>(offset_bytes), dst.size(), dst.begin());
    is_started_ = true;
    return {};
  }
  Result<void> WaitRead() override {
    if (!is_started_) return Fail({.code = Code::kInvalidArgument, .what = "no read was started"});
    is_started_ = false;
    return {};
  }
  Result<void> Reinitialise() override { return {}; }
  Result<void> Write(uint64_t offset_bytes, std::span<const std::byte> src) override {
    THIMBLE_TRY(Check(offset_bytes, src));
    std::copy(src.begin(), src.end(), memory_.begin() + static_cast<ptrdiff_t>(offset_bytes));
    return {};
  }

 private:
  Result<void> Check(uint64_t offset_bytes, std::span<const std::byte> buffer) const {
    if (is_started_) return Fail({.code = Code::kInvalidArgument, .what = "a read is in flight"});
    THIMBLE_TRY(storage::CheckRead(geometry(), offset_bytes, buffer));
    if (buffer.data() < dma_.data() || buffer.data() + buffer.size() > dma_.data() + dma_.size()) {
      return Fail({.code = Code::kInvalidArgument, .what = "the card's DMA cannot reach this memory"});
    }
    return {};
  }

  std::span<std::byte> memory_;
  uint32_t dma_align_;
  std::span<const std::byte> dma_;
  bool is_started_ = false;
};

// What the command line says.
struct Choices {
  head::SamplerOptions sampler;
  bool screened = false;
  bool drafts = false;
  bool swaps = false;
  DType cache = DType::kF32;
  int64_t n_predict = 0;
  Text prompt;
};

bool ParseChoices(std::span<const char* const> words, Choices& choices) {
  if (words.size() < 3) return false;
  const std::string_view how = words[0], head = words[1], tokens = words[2];
  if ((how != "greedy" && how != "sampled") ||
      (head != "full" && head != "screen" && head != "f16" && head != "q8_0" && head != "lookup" && head != "swap")) {
    return false;
  }
  choices.sampler.seed = 1;
  if (how == "greedy") choices.sampler.temperature = 0;
  choices.screened = head == "screen";
  choices.drafts = head == "lookup";
  choices.swaps = head == "swap";
  if (head == "f16") choices.cache = DType::kF16;
  if (head == "q8_0") choices.cache = DType::kQ8_0;
  for (const char* word : words.subspan(3)) choices.prompt.Add(choices.prompt.text().empty() ? "" : " ").Add(word);
  for (const char c : tokens) {
    if (c < '0' || c > '9' || choices.n_predict > 1000) return false;
    choices.n_predict = 10 * choices.n_predict + (c - '0');
  }
  return true;
}

// Shows ids, checksums and text.
class Output final : public TextSink {
 public:
  Output(const Session& session, const math::Kernels& kernels, Text& text)
      : session_(&session), kernels_(&kernels), text_(&text), last_count_(Instructions()) {}

  void OnToken(TokenId id) override {
    const uint64_t now = Instructions();
    const std::span<const float> logits = session_->logits();
    const std::span<const float> seen =
        logits.empty() ? std::span(session_->hidden(), session_->shape().hidden_size) : logits;
    const auto bytes = std::as_bytes(seen);
    text_->Add("token ").Number(id).Add(" of ").Number(seen.size()).Add(" floats ");
    text_->Hex(kernels_->crc32c(0, bytes.data(), bytes.size())).Add("\n").Print();
    // The prompt's logits came before the first token.
    if (n_++ > 0) text_->Add("count token ").Number(now - last_count_).Add("\n").Print();
    last_count_ = Instructions();
  }
  void OnText(std::string_view text) override { text_->Add("text ").Add(text).Add("\n").Print(); }

 private:
  const Session* session_;
  const math::Kernels* kernels_;
  Text* text_;
  uint64_t n_ = 0;
  uint64_t last_count_;
};

// Everything from the card to the text, too large for a task's stack. Its steps are not inlined into each other: their
// stack is what is measured.
class Program {
 public:
  Result<void> Run(const char* path) {
    if (choices.swaps) board_.capacity_bytes = kSwappingBytes;
    THIMBLE_TRY(TakeArenas());
    THIMBLE_TRY(OpenCard(path));
    THIMBLE_TRY(FindFiles());
    THIMBLE_TRY(OpenFiles());
    THIMBLE_TRY(Plan());
    THIMBLE_TRY(Open());
    THIMBLE_TRY(Read());
    return Continue();
  }

  Choices choices;

 private:
  Arena& dma() { return arenas_[static_cast<size_t>(Region::kSramDma)]; }

  __attribute__((noinline)) Result<void> TakeArenas() {
    Arena all(Region::kPsram, FreeMemory());
    for (size_t i = 0; i < kNumRegions; ++i) {
      THIMBLE_ASSIGN(const std::span<std::byte> memory, all.Take<std::byte>(board_.capacity_bytes[i]));
      arenas_[i] = Arena(static_cast<Region>(i), memory);
    }
    if (!choices.swaps) return {};
    THIMBLE_ASSIGN(swap_memory_, all.Take<std::byte>(kSwapBytes));
    return {};
  }

  __attribute__((noinline)) Result<void> OpenCard(const char* path) {
    const int file = OpenFile(path);
    const int64_t size_bytes = file < 0 ? -1 : FileSizeBytes(file);
    if (size_bytes < 0) return Fail({.code = Code::kNotFound, .what = "the card's image cannot be opened"});
    THIMBLE_ASSIGN(const std::span<std::byte> all_dma, dma().Take<std::byte>(dma().capacity_bytes()));
    dma().Release(0);
    card_.emplace(file, static_cast<uint64_t>(size_bytes), board_.dma_align, all_dma);
    return choices.swaps ? OpenSwap(all_dma) : Result<void>();
  }

  // `memory`: what the card can write.
  __attribute__((noinline)) Result<void> OpenSwap(std::span<std::byte> memory) {
    swap_device_.emplace(swap_memory_, board_.dma_align, memory);
    swap_extent_.size_bytes = kSwapBytes;
    std::ranges::copy(storage::EncodeSwapHeader({.file_bytes = kSwapBytes}, kernels_.crc32c), swap_memory_.begin());
    THIMBLE_ASSIGN(swap_,
                   storage::SwapFile::Open(*swap_device_, {.extents = {&swap_extent_, 1}, .size_bytes = kSwapBytes},
                                           ledger_, nullptr, memory.first(512), kernels_.crc32c, std::nullopt));
    return {};
  }

  __attribute__((noinline)) Result<void> FindFiles() {
    const uint64_t mark = dma().used_bytes();
    THIMBLE_ASSIGN(const std::span<std::byte> sector, dma().Take<std::byte>(512));
    storage::Sectors sectors(*card_, sector, ledger_);
    THIMBLE_ASSIGN(storage::Volume volume, formats::MountModels(sectors));
    THIMBLE_TRY(formats::FindModelFile(volume, model_file_));
    THIMBLE_TRY(formats::FindBeside(volume, model_file_.entry.name.data(), formats::kIndexExtension, index_file_));
    dma().Release(mark);
    return {};
  }

  __attribute__((noinline)) Result<void> OpenFiles() {
    opening_.emplace(arenas_, kernels_, ledger_);
    THIMBLE_TRY(opening_->OpenFile(*card_, model_file_.map));
    return opening_->OpenIndex(*card_, index_file_.map);
  }

  __attribute__((noinline)) Result<void> Plan() {
    const plan::PlanOptions options = {.n_ctx = choices.swaps ? 128u : 0,
                                       .head = choices.screened ? plan::HeadMode::kScreen : plan::HeadMode::kFull,
                                       .draft = choices.drafts ? plan::DraftMode::kLookup : plan::DraftMode::kNone,
                                       .swap_bytes = choices.swaps ? kSwapBytes : 0,
                                       .cache = {choices.cache, choices.cache},
                                       .keep_logits = !choices.screened};
    THIMBLE_ASSIGN(plan_, opening_->Plan(board_, options, choices.sampler));
    return {};
  }

  __attribute__((noinline)) Result<void> Open() {
    SessionParts parts = opening_->PartsFor(plan_);
    if (swap_) parts.swap = &*swap_;
    THIMBLE_ASSIGN(session_, opening_->Start(parts));
    text_.Add("count open ").Number(Instructions()).Add("\n").Print();
    return {};
  }

  __attribute__((noinline)) Result<void> Read() {
    THIMBLE_ASSIGN(const std::span<const TokenId> prompt, session_->Tokenize(choices.prompt.text()));
    for (const TokenId id : prompt) text_.Add("prompt ").Number(id).Add("\n").Print();
    const uint64_t before = Instructions();
    THIMBLE_TRY(session_->Prefill(prompt));
    text_.Add("count prompt ").Number(Instructions() - before).Add("\n").Print();
    return {};
  }

  __attribute__((noinline)) Result<void> Continue() {
    Output output(*session_, kernels_, text_);
    const GenerateOptions options = {.sampler = choices.sampler, .n_predict = choices.n_predict, .stops = {}};
    THIMBLE_ASSIGN(const GenerateResult result, Generate(*session_, options, output));
    text_.Add("stop ").Add(StopReasonName(result.reason)).Add("\n").Print();
    const ZoneCounts total = ledger_.total();
    text_.Add("card ").Number(total.card_bytes).Add(" bytes in ").Number(total.reads).Add(" reads\n").Print();
    const ScreenCounts& screen = ledger_.screen;
    text_.Add("screen ").Number(screen.tokens).Add(" tokens, ").Number(screen.rows_fetched).Add(" rows, ");
    text_.Number(screen.fallbacks).Add(" fallbacks\n").Print();
    const DraftCounts& draft = ledger_.draft;
    text_.Add("draft ").Number(draft.drafted).Add(" guessed, ").Number(draft.accepted).Add(" came\n").Print();
    text_.Add("swap ").Number(ledger_.swap.pages).Add(" pages\n").Print();
    return {};
  }

  Board board_ = MachineBoard();
  const math::Kernels& kernels_ = math::BestKernels();
  Text text_;
  std::array<Arena, kNumRegions> arenas_;
  std::optional<Card> card_;
  std::span<std::byte> swap_memory_;
  std::optional<SwapMemory> swap_device_;
  storage::Extent swap_extent_;
  std::optional<storage::SwapFile> swap_;
  formats::CardFile model_file_, index_file_;
  Ledger ledger_;
  std::optional<Opening> opening_;
  plan::Plan plan_;
  Session* session_ = nullptr;
};

}  // namespace

bool GenerateFromCard(std::span<const char* const> arguments) {
  static Program program;
  if (arguments.empty() || !ParseChoices(arguments.subspan(1), program.choices)) {
    Write("FAIL: generate CARD greedy|sampled full|screen|f16|q8_0|lookup|swap TOKENS WORD...\n");
    return false;
  }
  const Result<void> done = program.Run(arguments[0]);
  if (done) return true;
  std::array<char, 200> sentence;
  Text().Add("FAIL: ").Add({sentence.data(), FormatError(done.error(), sentence)}).Add("\n").Print();
  return false;
}

}  // namespace thimble::emulated
