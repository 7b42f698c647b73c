#include "host/models/model_file_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "engine/opening.h"
#include "host/boards/board_memory.h"
#include "host/formats/llama2c_tokenizer.h"
#include "host/formats/tokenizer_file.h"
#include "host/formats/weights.h"
#include "host/models/loaded_tokenizer.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

constexpr uint32_t kElementsARead = 1u << 18;

// The opened model, and its numbers. Stays where it is: its parts point at each other.
class ModelFileWeights : public WeightSource {
 public:
  static Expected<std::unique_ptr<ModelFileWeights>> Open(OpenedModel opened, const std::string& path) {
    THIMBLE_ASSIGN(BoardMemory memory, BoardMemory::Create(*FindMemory("host")));
    std::unique_ptr<ModelFileWeights> weights(new ModelFileWeights(std::move(opened), std::move(memory), path));
    const OpenedModel& o = weights->opened_;
    const auto model = weights->opening_.OpenFile(*o.device, o.file, &o.folder);
    if (!model) return weights->Failure(model.error());
    weights->buffer_.resize(static_cast<size_t>(weights->reader().BufferBytes(kElementsARead * sizeof(float))));
    return weights;
  }

  const formats::ModelFile& model() const { return opening_.model(); }

  DType StoredType(TensorId id) const override { return model().tensor(id).type; }

  Status ReadRows(TensorId id, uint32_t first_row, std::span<float> out) override {
    const TensorRef& tensor = model().tensor(id);
    // Only a folder's rows of q and k are in another order than a GGUF file's.
    const bool rotated = id.kind == TensorKind::kAttnQ || id.kind == TensorKind::kAttnK;
    if (!rotated || tensor.order == GgufRowOrder(model().shape.architecture)) {
      return ReadElements(tensor, first_row, out);
    }
    for (uint32_t row = first_row; !out.empty(); ++row, out = out.subspan(tensor.cols)) {
      THIMBLE_TRY(ReadElements(tensor, HalfSplitRow(row, model().shape.head_dim), out.first(tensor.cols)));
    }
    return {};
  }

  // Of GGUF files.
  Status ReadStoredRows(TensorId id, uint32_t first_row, std::span<std::byte> out) override {
    const TensorRef& tensor = model().tensor(id);
    std::vector<float> values(static_cast<size_t>(out.size() / tensor.row_bytes()) * tensor.cols);
    THIMBLE_TRY(ReadElements(tensor, first_row, values, out));
    return {};
  }

  // `no_texts`: why there are special ids only though the model has a tokenizer.
  Expected<Vocabulary> ReadVocabulary(std::string& no_texts) {
    const formats::TokenizerRef& ref = model().tokenizer;
    // All that a session checks of it.
    const std::optional<Error> fault = TokenizerFault(reader(), model());
    if (fault && !IsOfContents(fault->code)) return Failure(*fault);
    if (fault) no_texts = Failure(*fault).error();
    Vocabulary vocabulary;
    if (ref.present && !fault) {
      if (ref.layout != formats::TokenizerLayout::kLlama2c) {
        const Result<void> read = ReadArrays(reader(), vocabulary);
        if (!read) return Failure(read.error());
      } else {
        storage::ByteReader bytes(reader(), buffer_);
        THIMBLE_ASSIGN(vocabulary, ReadRecords(bytes));
        for (const TokenId id : {ref.bos, ref.eos}) {
          if (id < ref.num_tokens) vocabulary.types[id] = TokenType::kControl;
        }
      }
    }
    const auto id_of = [](TokenId id) { return id == kNoToken ? std::nullopt : std::optional(id); };
    vocabulary.bos = id_of(ref.bos);
    vocabulary.eos = id_of(ref.eos);
    vocabulary.unk = id_of(ref.unk);
    for (const TokenId id : ref.ends.ids()) vocabulary.AddEnd(id);
    if (ref.chat_template.bytes != 0 && ref.chat_template.bytes <= kMaxKeptTemplateBytes) {
      vocabulary.chat_template.resize(static_cast<size_t>(ref.chat_template.bytes));
      storage::ByteReader bytes(reader(), buffer_);
      Result<void> read = bytes.Seek(ref.chat_template.offset);
      if (read) read = bytes.Read(std::as_writable_bytes(std::span(vocabulary.chat_template)));
      if (!read) return Failure(read.error());
    }
    vocabulary.add_bos = ref.add_bos;
    vocabulary.add_space_prefix = ref.add_space_prefix;
    vocabulary.is_unigram = ref.is_unigram;
    vocabulary.remove_extra_whitespaces = ref.remove_extra_whitespaces;
    vocabulary.escape_whitespaces = ref.escape_whitespaces;
    vocabulary.fuse_unknown = ref.fuse_unknown;
    return vocabulary;
  }

 private:
  ModelFileWeights(OpenedModel opened, BoardMemory memory, std::string path)
      : opened_(std::move(opened)),
        memory_(std::move(memory)),
        path_(std::move(path)),
        opening_(memory_.arenas(), math::BestKernels(), ledger_) {}

  storage::FileReader& reader() { return opening_.reader(); }

  std::unexpected<std::string> Failure(const Error& error) const {
    return Sentence(fmt::format("{}: {}", path_, SentenceOf(error)));
  }

  // `stored`: where the bytes go, too; or empty.
  Status ReadElements(const TensorRef& tensor, uint32_t first_row, std::span<float> out,
                      std::span<std::byte> stored = {}) {
    const uint64_t first = uint64_t{first_row} * tensor.cols;
    for (size_t done = 0; done < out.size(); done += kElementsARead) {
      const auto part = out.subspan(done, std::min<size_t>(kElementsARead, out.size() - done));
      const Result<void> started = reader().Start(tensor.offset + StoredBytes(tensor.type, first + done),
                                                  StoredBytes(tensor.type, part.size()), buffer_);
      if (!started) return Failure(started.error());
      const auto bytes = reader().Wait();
      if (!bytes) return Failure(bytes.error());
      ExpandElements(*bytes, tensor.type, part);
      if (stored.empty()) continue;
      std::ranges::copy(*bytes, stored.begin());
      stored = stored.subspan(bytes->size());
    }
    char name[64];
    return CheckFinite(out, path_, std::string_view(name, FormatTensorName(tensor.id, name)), first);
  }

  Result<void> ReadArrays(storage::FileReader& reader, Vocabulary& vocabulary) {
    storage::ByteReader bytes(reader, buffer_);
    const formats::TokenizerRef& ref = model().tokenizer;
    vocabulary.tokens.resize(ref.num_tokens);
    vocabulary.scores.resize(ref.num_tokens);
    vocabulary.pre = ref.pre;
    vocabulary.merges.resize(ref.num_merges);
    const auto read_texts = [&](uint64_t offset, uint64_t most_bytes, std::span<std::string> texts) -> Result<void> {
      THIMBLE_TRY(bytes.Seek(offset));
      for (std::string& text : texts) {
        THIMBLE_ASSIGN(const uint64_t size, bytes.ReadLittleEndian<uint64_t>());
        text.resize(static_cast<size_t>(std::min(size, most_bytes)));
        THIMBLE_TRY(bytes.Read(std::as_writable_bytes(std::span(text))));
      }
      return {};
    };
    THIMBLE_TRY(read_texts(ref.tokens_offset, ref.longest_token_bytes, vocabulary.tokens));
    if (ref.is_byte_level()) {
      // Each makes a token, so none is longer than the longest with a space in it.
      THIMBLE_TRY(read_texts(ref.merges_offset, uint64_t{ref.longest_token_bytes} + 1, vocabulary.merges));
    } else if (ref.scores_offset != 0) {
      THIMBLE_TRY(bytes.Seek(ref.scores_offset));
      THIMBLE_TRY(bytes.Read(std::as_writable_bytes(std::span(vocabulary.scores))));
    }
    vocabulary.charsmap.resize(ref.charsmap_bytes);
    if (ref.charsmap_bytes != 0) THIMBLE_TRY(bytes.Seek(ref.charsmap_offset));
    THIMBLE_TRY(bytes.Read(std::as_writable_bytes(std::span(vocabulary.charsmap))));
    if (ref.types_offset == 0) {
      THIMBLE_ASSIGN(const LoadedTokenizer loaded, LoadedTokenizer::Load(reader, ref));
      for (TokenId id = 0; id < ref.num_tokens; ++id) {
        const bool is_merged = ref.is_byte_level() && loaded.get().Type(id) == TokenType::kUnused;
        vocabulary.types.push_back(is_merged ? TokenType::kNormal : loaded.get().Type(id));
      }
      return {};
    }
    THIMBLE_TRY(bytes.Seek(ref.types_offset));
    for (uint32_t i = 0; i < ref.num_tokens; ++i) {
      THIMBLE_ASSIGN(const int32_t type, bytes.ReadLittleEndian<int32_t>());
      vocabulary.types.push_back(static_cast<TokenType>(type));
    }
    return {};
  }

  Expected<Vocabulary> ReadRecords(storage::ByteReader& bytes) const {
    constexpr size_t kHeaderBytes = 4;
    constexpr size_t kRecordBytes = 8;
    const formats::TokenizerRef& ref = model().tokenizer;
    std::string file(static_cast<size_t>(kHeaderBytes + ref.num_tokens * kRecordBytes + ref.tokens_bytes), '\0');
    Result<void> read = bytes.Seek(ref.tokens_offset);
    if (read) read = bytes.Read(std::as_writable_bytes(std::span(file).subspan(kHeaderBytes)));
    if (!read) return Failure(read.error());
    return ParseLlama2cTokenizer(file, ref.num_tokens, path_);
  }

  OpenedModel opened_;
  BoardMemory memory_;
  std::string path_;
  Ledger ledger_;
  Opening opening_;
  std::vector<std::byte> buffer_;
};

}  // namespace

Expected<Checkpoint> OpenModelFileSource(OpenedModel opened, const std::string& path, const std::string& tokenizer) {
  THIMBLE_ASSIGN(std::unique_ptr<ModelFileWeights> weights, ModelFileWeights::Open(std::move(opened), path));
  Checkpoint checkpoint;
  checkpoint.name = StemOf(path);
  checkpoint.shape = weights->model().shape;
  checkpoint.tied = weights->model().tied;
  checkpoint.inputs = {path};
  if (IsFolder(path)) {
    THIMBLE_ASSIGN(const std::vector<std::string> names, NamesIn(path));
    for (const std::string& name : names) checkpoint.inputs.push_back(path + "/" + name);
  }
  if (tokenizer.empty()) {
    THIMBLE_ASSIGN(checkpoint.vocabulary, weights->ReadVocabulary(checkpoint.no_texts));
  } else {
    THIMBLE_ASSIGN(checkpoint.vocabulary,
                   ReadWholeTokenizerFile(tokenizer, checkpoint.shape.vocab_size, checkpoint.notes));
  }
  if (!checkpoint.no_texts.empty()) {
    checkpoint.notes.push_back(IdsOnlyNote(checkpoint.no_texts));
  } else if (checkpoint.vocabulary.tokens.empty()) {
    checkpoint.notes.push_back(fmt::format("{} has no tokenizer; the model runs with token ids only", path));
  }
  checkpoint.weights = std::move(weights);
  return checkpoint;
}

}  // namespace thimble::host
