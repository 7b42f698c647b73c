#include "host/models/loaded_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "engine/session.h"
#include "engine/text/chat_template.h"
#include "host/formats/checkpoint.h"
#include "host/support/aligned_buffer.h"
#include "host/support/messages.h"

namespace thimble::host {
namespace {

Expected<ModelSource> SourceOf(const ModelRequest& request) {
  THIMBLE_ASSIGN(ModelSource source,
                 OpenModelSource(request.model, request.tokenizer, /*as_one_file=*/false, request.written));
  if (!request.rewritten || source.is_converted()) return source;
  return RewriteModel(request.model, request.file_on_card, request.written);
}

}  // namespace

std::vector<const TensorRef*> TensorsInOrder(const formats::ModelFile& model) {
  std::vector<const TensorRef*> tensors = {&model.tensor({TensorKind::kTokenEmbd, 0})};
  for (size_t i = kTensorsOutsideLayers; i < model.tensors.size(); ++i) tensors.push_back(&model.tensors[i]);
  tensors.push_back(&model.tensor({TensorKind::kFinalNorm, 0}));
  tensors.push_back(&model.tensor({TensorKind::kLmHead, 0}));
  return tensors;
}

std::vector<const TensorRef*> StoredTensors(const formats::ModelFile& model) {
  std::vector<const TensorRef*> tensors = TensorsInOrder(model);
  if (model.tied) tensors.pop_back();
  return tensors;
}

ModelSize SizeOf(const formats::ModelFile& model) {
  ModelSize size;
  for (const TensorRef* tensor : StoredTensors(model)) {
    ++size.tensors;
    size.parameters += uint64_t{tensor->rows} * tensor->cols;
    size.bytes += tensor->size_bytes();
  }
  return size;
}

Expected<LoadedTokenizer> LoadedModel::LoadTokenizer() {
  if (model().tokenizer.present) {
    Ledger ledger;
    storage::FileReader reader(*opened_.device, opened_.file, ledger);
    auto tokenizer = LoadedTokenizer::Load(reader, model().tokenizer);
    if (!tokenizer) return Failure(tokenizer.error());
    return std::move(*tokenizer);
  }
  const std::string why = no_texts();
  return Sentence(why.empty() ? fmt::format("{} has no tokenizer", name_) : why);
}

template <class... Types>
Expected<chat::SpecialTokens> LoadedModel::ReadTokens(Types... types) {
  Ledger ledger;
  storage::FileReader reader(*opened_.device, opened_.file, ledger);
  AlignedBuffer buffer(1 << 16);
  storage::ByteReader bytes(reader, buffer.bytes());
  auto tokens = chat::SpecialTokens::Read(bytes, model().tokenizer, types...);
  if (!tokens) return Failure(tokens.error());
  return std::move(*tokens);
}

Expected<chat::SpecialTokens> LoadedModel::ReadSpecialTokens() { return ReadTokens(); }

Expected<chat::SpecialTokens> LoadedModel::ReadUserDefinedTokens() {
  return ReadTokens(std::initializer_list{text::TokenType::kUserDefined});
}

Expected<std::string> LoadedModel::ReadChatTemplate() {
  const formats::ByteRange& range = model().tokenizer.chat_template;
  std::string text(static_cast<size_t>(std::min<uint64_t>(range.bytes, text::kMaxChatTemplateBytes + 1)), '\0');
  Ledger ledger;
  storage::FileReader reader(*opened_.device, opened_.file, ledger);
  AlignedBuffer buffer(1 << 16);
  storage::ByteReader bytes(reader, buffer.bytes());
  Result<void> read = bytes.Seek(range.offset);
  if (read) read = bytes.Read(std::as_writable_bytes(std::span(text)));
  if (!read) return Failure(read.error());
  return text;
}

std::string LoadedModel::no_texts() {
  if (!source_.no_texts().empty()) return source_.no_texts();
  if (!no_texts_) {
    Ledger ledger;
    storage::FileReader reader(*opened_.device, opened_.file, ledger);
    const std::optional<Error> fault = TokenizerFault(reader, model());
    no_texts_ = fault && IsOfContents(fault->code) ? Failure(*fault).error() : "";
  }
  return *no_texts_;
}

void LoadedModel::NoteTexts() {
  if (is_converted()) return;
  if (const std::string why = no_texts(); !why.empty()) ReportNote(IdsOnlyNote(why));
}

Expected<Arenas> LoadedModel::ArenasFor(const plan::Plan& plan) {
  opening_->EndSession();
  std::array<uint64_t, kNumRegions> bytes;
  for (size_t i = 0; i < kNumRegions; ++i) bytes[i] = plan.region_bytes(static_cast<Region>(i));
  return memory_.Reserve(bytes);
}

Expected<Session*> LoadedModel::OpenSession(const plan::Plan& plan, draft::Drafter* drafter) {
  THIMBLE_TRY(ArenasFor(plan));
  if (drafter == nullptr && drafts_ != nullptr && plan.options.draft == plan::DraftMode::kGiven) {
    THIMBLE_ASSIGN(drafter, drafts_->Start(ledger_));
  }
  SessionParts parts = opening_->PartsFor(plan);
  parts.drafter = drafter;
  if (const uint64_t bytes = plan.SwapBytes(model().shape); bytes != 0) {
    THIMBLE_TRY(MakeSwap(bytes));
    parts.swap = &*swap_->swap;
  }
  const auto session = opening_->Start(parts);
  if (!session) return Failure(session.error());
  return *session;
}

Status LoadedModel::MakeSwap(uint64_t bytes) {
  auto swap = std::make_unique<Swap>();
  bytes = (bytes + storage::kSwapHeaderBytes - 1) / storage::kSwapHeaderBytes * storage::kSwapHeaderBytes;
  THIMBLE_ASSIGN(swap->file, TemporaryDevice::Create(bytes, board().dma_align));
  swap->device.emplace(*swap->file, ledger_, end_byte_);
  swap->extent = {.size_bytes = bytes};
  const Crc32c crc32c = math::BestKernels().crc32c;
  AlignedBuffer buffer(storage::kSwapHeaderUsed);
  std::ranges::copy(storage::EncodeSwapHeader({.file_bytes = bytes}, crc32c), buffer.bytes().begin());
  Result<void> made = swap->file->Write(0, buffer.bytes());
  if (made) {
    auto opened = storage::SwapFile::Open(*swap->device, {.extents = {&swap->extent, 1}, .size_bytes = bytes}, ledger_,
                                          cancel_, buffer.bytes(), crc32c, std::nullopt);
    if (opened) {
      swap->swap.emplace(std::move(*opened));
      swap_ = std::move(swap);
      return {};
    }
    made = std::unexpected(opened.error());
  }
  return Failure(made.error());
}

std::unexpected<std::string> LoadedModel::Failure(const Error& error) const { return Failed(name_, error); }

Expected<std::unique_ptr<LoadedModel>> LoadedModel::Open(const ModelRequest& request, const std::atomic<bool>* cancel) {
  THIMBLE_ASSIGN(FoundBoard board, FindBoard(request.board_or_default()));
  for (size_t i = 0; i < kNumRegions; ++i) board.board.capacity_bytes[i] += request.more_bytes[i];
  return OpenOn(board, request, cancel, 0);
}

Expected<std::unique_ptr<LoadedModel>> LoadedModel::OpenBeside(const ModelRequest& request) const {
  return OpenOn(board_, request, cancel_, end_byte_);
}

Expected<std::unique_ptr<LoadedModel>> LoadedModel::OpenOn(const FoundBoard& board, const ModelRequest& request,
                                                           const std::atomic<bool>* cancel, uint64_t first_byte) {
  THIMBLE_ASSIGN(ModelSource source, SourceOf(request));
  THIMBLE_ASSIGN(OpenedModel opened, OpenModelFile(source.path(), request.rewritten ? "" : request.file_on_card,
                                                   request.index, request.index_path));
  if (!request.name.empty()) opened.description = request.name;
  if (source.is_converted()) opened.description = request.model + ", converted";
  THIMBLE_ASSIGN(BoardMemory memory, BoardMemory::Create(board.board));
  std::unique_ptr<LoadedModel> loaded(new LoadedModel(request.name.empty() ? request.model : request.name, board,
                                                      std::move(source), std::move(opened), std::move(memory)));
  loaded->cancel_ = cancel;
  loaded->device_.emplace(*loaded->opened_.device, loaded->ledger_, first_byte);
  loaded->end_byte_ = first_byte + loaded->opened_.device->geometry().size_bytes;
  Opening& opening = loaded->opening_.emplace(loaded->memory_.arenas(), math::BestKernels(), loaded->ledger_, cancel);
  const auto model = opening.OpenFile(*loaded->device_, loaded->opened_.file, &loaded->opened_.folder);
  if (!model) return loaded->Failure(model.error());
  if (!loaded->opened_.has_index()) return loaded;
  OpenedModel& o = loaded->opened_;
  if (o.index_device) {
    loaded->index_device_.emplace(*o.index_device, loaded->ledger_, loaded->end_byte_);
    loaded->end_byte_ += o.index_device->geometry().size_bytes;
  }
  const auto index = opening.OpenIndex(loaded->index_device_ ? *loaded->index_device_ : *loaded->device_, o.index_file);
  // Either the model and the index do not belong together, or the index itself is no good.
  if (!index && IsOfContents(index.error().code)) return Failed(o.index_name, index.error());
  if (!index) return loaded->Failure(index.error());
  return loaded;
}

}  // namespace thimble::host
