// thimble tokenize: a text as the model sees it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "chat/special_tokens.h"
#include "engine/base/ledger.h"
#include "engine/formats/gguf.h"
#include "engine/storage/file_reader.h"
#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"
#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/commands/result_json.h"
#include "host/devices/file_device.h"
#include "host/models/loaded_model.h"
#include "host/models/loaded_tokenizer.h"
#include "host/models/run_request.h"
#include "host/support/aligned_buffer.h"
#include "host/support/input_file.h"
#include "host/support/messages.h"
#include "host/support/paths.h"
#include "host/support/utf8.h"

namespace thimble::host {
namespace {

struct TokenizeCommandOptions {
  ModelRequest model;
  std::string prompt;
  std::string prompt_file;
  bool from_stdin = false;
  bool ids_only = false;
  bool no_bos = false;
  bool special = false;
  bool show_count = false;
  bool json = false;
};

constexpr uint64_t kMaxTextBytes = 16 << 20;

Expected<std::string> ReadText(const TokenizeCommandOptions& options) {
  const std::string& file = options.from_stdin ? kStandardInput : options.prompt_file;
  if (!file.empty()) return ReadGiven(file, kMaxTextBytes);
  return options.prompt;
}

// The text a token stands for, as JSON: a string or, when it is no whole character, its bytes, as llama.cpp's server
// has it.
nlohmann::ordered_json PieceJson(const text::Tokenizer& tokenizer, TokenId id) {
  std::string piece(tokenizer.Piece(id));
  if (!tokenizer.is_byte_level() && tokenizer.Type(id) != text::TokenType::kByte) {
    for (size_t at = 0; (at = piece.find('\xff', at)) != piece.npos; at += text::kReplacementCharacter.size()) {
      piece.replace(at, 1, text::kReplacementCharacter);
    }
  }
  if (IsUtf8(piece)) return piece;
  nlohmann::ordered_json bytes = nlohmann::ordered_json::array();
  for (const char c : piece) bytes.push_back(static_cast<uint8_t>(c));
  return bytes;
}

// The same for people.
std::string PieceText(const text::Tokenizer& tokenizer, TokenId id) {
  if (id == tokenizer.bos()) return "(begin)";
  if (id == tokenizer.eos()) return "(end)";
  switch (tokenizer.Type(id)) {
    case text::TokenType::kControl:
      return "(control)";
    case text::TokenType::kUnknown:
      return "(unknown)";
    case text::TokenType::kByte:
      return fmt::format("<0x{:02X}>", static_cast<uint8_t>(tokenizer.Piece(id)[0]));
    default:
      return Dump(PieceJson(tokenizer, id));
  }
}

// A tokenizer, and the special tokens beside it.
struct Vocabulary {
  LoadedTokenizer tokenizer;
  chat::SpecialTokens special;
};

// Of a GGUF file on a disk nothing but the vocabulary is looked at, so that it may be of any architecture, or have no
// model. Nothing if it is none.
Expected<std::optional<Vocabulary>> ReadGgufVocabulary(const std::string& path) {
  if (IsFolder(path) || IsDevice(path) || !Exists(path)) return std::nullopt;
  {
    THIMBLE_ASSIGN(const InputFile file, InputFile::Open(path));
    std::array<std::byte, 4> magic = {};
    if (file.size_bytes() < magic.size()) return std::nullopt;
    THIMBLE_TRY(file.ReadAt(0, magic));
    if (std::memcmp(magic.data(), "GGUF", magic.size()) != 0) return std::nullopt;
  }
  THIMBLE_ASSIGN(const std::unique_ptr<FileDevice> device, FileDevice::Open(path));
  const storage::Extent extent{.size_bytes = device->file_size_bytes()};
  Ledger ledger;
  storage::FileReader reader(*device, {.extents = {&extent, 1}, .size_bytes = extent.size_bytes}, ledger);
  AlignedBuffer buffer(1 << 16);
  storage::ByteReader bytes(reader, buffer.bytes());
  const auto ref = formats::OpenGgufVocabulary(bytes);
  if (!ref) return Failed(path, ref.error());
  auto tokenizer = LoadedTokenizer::Load(reader, *ref);
  if (!tokenizer) return Failed(path, tokenizer.error());
  auto special = chat::SpecialTokens::Read(bytes, *ref);
  if (!special) return Failed(path, special.error());
  return Vocabulary{std::move(*tokenizer), std::move(*special)};
}

Expected<Vocabulary> ReadVocabulary(const ModelRequest& request) {
  THIMBLE_ASSIGN(std::optional<Vocabulary> vocabulary, ReadGgufVocabulary(request.model));
  if (vocabulary) return std::move(*vocabulary);
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(request));
  THIMBLE_ASSIGN(LoadedTokenizer tokenizer, loaded->LoadTokenizer());
  THIMBLE_ASSIGN(chat::SpecialTokens special, loaded->ReadSpecialTokens());
  return Vocabulary{std::move(tokenizer), std::move(special)};
}

Status Tokenize(const TokenizeCommandOptions& options) {
  THIMBLE_ASSIGN(const std::string text, ReadText(options));
  THIMBLE_ASSIGN(const Vocabulary vocabulary, ReadVocabulary(options.model));
  const text::Tokenizer& tokenizer = vocabulary.tokenizer.get();

  const bool add_bos = tokenizer.add_bos() && !options.no_bos;
  if (!options.special) NoteSpecialText(vocabulary.special, text);
  const auto encoded = options.special ? vocabulary.special.Encode(vocabulary.tokenizer.plain(), text,
                                                                   add_bos ? tokenizer.bos() : kNoToken)
                                       : vocabulary.tokenizer.Encode(text, add_bos);
  if (!encoded) return Failed(options.model.model, encoded.error());
  const std::vector<TokenId>& ids = *encoded;

  std::string out;
  if (options.json) {
    nlohmann::ordered_json pieces = nlohmann::ordered_json::array();
    for (const TokenId id : ids) pieces.push_back(PieceJson(tokenizer, id));
    out = Dump({{"ids", ids}, {"pieces", pieces}, {"count", ids.size()}}) + "\n";
  } else {
    if (options.ids_only) out = fmt::format("[{}]\n", fmt::join(ids, ", "));
    for (size_t i = 0; i < ids.size() && !options.ids_only; ++i) {
      out += fmt::format("{:>6} -> {}\n", ids[i], PieceText(tokenizer, ids[i]));
    }
    if (options.show_count) out += fmt::format("Total number of tokens: {}\n", ids.size());
  }
  WriteResult(out);
  return {};
}

}  // namespace

void AddTokenizeCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<TokenizeCommandOptions>();
  CLI::App* tokenize = app.add_subcommand("tokenize", "Show the tokens of a text");
  AddModelOptions(*tokenize, options->model);
  CLI::Option_group* text = tokenize->add_option_group("Text");
  text->add_option("-p,--prompt,PROMPT", options->prompt, "The text; -p may be left out");
  text->add_option("-f,--file", options->prompt_file,
                   "Read the text from this file or pipe, all of it; -: standard input");
  text->add_flag("--stdin", options->from_stdin, "Read the text from standard input");
  text->require_option(1);
  tokenize->add_flag("--ids", options->ids_only, "Only the ids: [1, 2, 3]");
  tokenize->add_flag("--no-bos", options->no_bos, "Without the begin token that the model puts first");
  tokenize->add_flag("--special", options->special,
                     "Names of special tokens in the text, as <|im_end|>, stand for the tokens");
  tokenize->add_flag("--show-count", options->show_count, "Say how many there are, on a line at the end");
  tokenize->add_flag("--json", options->json,
                     "One JSON object: ids, pieces (the bytes of one that is no whole character), count");
  tokenize->footer(
      "Examples:\n"
      "  thimble tokenize -m stories.gguf -p \"Once upon a time\"\n"
      "  thimble tokenize -m card.img -f prompt.txt --ids");
  tokenize->callback([options, &exit_code] {
    const Status result = Tokenize(*options);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
