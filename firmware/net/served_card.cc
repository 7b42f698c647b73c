#include "firmware/net/served_card.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/formats/card_models.h"
#include "firmware/net/text_ids.h"
#include "service/plan_for_requests.h"

namespace thimble::firmware {
namespace {

std::string SentenceOf(const Error& error) {
  std::array<char, 320> sentence;
  return {sentence.data(), FormatError(error, sentence)};
}

// What the card or its driver is to blame for; all else is the file's.
bool IsCardFailure(Code code) { return code == Code::kIo || code == Code::kTimeout || code == Code::kCancelled; }

// "stories.gguf" is "stories".
std::string StemOf(const ModelName& name) {
  const std::string_view text = name.text.data();
  const size_t dot = name.is_folder ? text.npos : text.rfind('.');
  return std::string(text.substr(0, dot == 0 ? text.npos : dot));
}

}  // namespace

// In memory that is free again when the session starts.
Result<std::optional<text::ChatTemplate>> ServedCard::ReadTemplate(storage::ByteReader& bytes) {
  const formats::ByteRange& range = card_->model().tokenizer.chat_template;
  if (range.bytes == 0) {
    description_.no_chat = "the model brings no chat template, so that it was hardly made for conversations";
    return std::nullopt;
  }
  Arena& arena =
      ArenaOf(machine_->arenas(), card_->board().capacity(Region::kPsram) != 0 ? Region::kPsram : Region::kSram);
  const uint64_t mark = arena.used_bytes();
  const Result<std::span<char>> text =
      arena.Take<char>(std::min<uint64_t>(range.bytes, text::kMaxChatTemplateBytes + 1));
  if (!text) {
    description_.no_chat = "this board has no memory to look at the model's chat template";
    return std::nullopt;
  }
  THIMBLE_TRY(bytes.Seek(range.offset));
  THIMBLE_TRY(bytes.Read(std::as_writable_bytes(*text)));
  const auto found = text::ChatTemplate::Recognise({text->data(), text->size()});
  arena.Release(mark);
  if (found) return *found;
  description_.no_chat = SentenceOf(found.error());
  return std::nullopt;
}

Result<void> ServedCard::ReadConversation(storage::ByteReader& bytes) {
  const formats::TokenizerRef& ref = card_->model().tokenizer;
  THIMBLE_ASSIGN(special_, chat::SpecialTokens::Read(bytes, ref, {text::TokenType::kControl, text::TokenType::kUnknown},
                                                     kMaxNameBytes));
  THIMBLE_ASSIGN(const std::optional<text::ChatTemplate> chat_template, ReadTemplate(bytes));
  if (!chat_template) return {};
  THIMBLE_ASSIGN(chat::SpecialTokens user_defined,
                 chat::SpecialTokens::Read(bytes, ref, {text::TokenType::kUserDefined}, kMaxNameBytes));
  THIMBLE_ASSIGN(conversation_, chat::Conversation::Make(*chat_template, special_, std::move(user_defined)));
  return {};
}

Result<void> ServedCard::ReadSpelling() {
  special_ = {};
  conversation_.reset();
  description_.no_chat.clear();
  if (!card_->model().tokenizer.present) return {};
  const Result<void> read = card_->ReadFile([&](storage::ByteReader& bytes) { return ReadConversation(bytes); });
  if (!read && IsCardFailure(read.error().code)) return read;
  if (!read) description_.no_chat = SentenceOf(read.error());
  return {};
}

Result<void> ServedCard::Start() {
  THIMBLE_ASSIGN(const plan::Plan plan,
                 service::PlanForRequests(settings_.start.sampler, card_->model().shape.vocab_size,
                                          [&](const head::SamplerOptions& sampler) {
                                            StartOptions start = settings_.start;
                                            start.sampler = sampler;
                                            return card_->MakePlan(start);
                                          }));
  THIMBLE_TRY(card_->StartBy(plan));
  starts_ = card_->starts();
  return {};
}

void ServedCard::Describe() {
  Session& session = card_->session();
  description_.id = StemOf(name_);
  description_.board = machine_->board().name;
  description_.model_bytes = card_->file_bytes();
  description_.vocab_size = card_->model().shape.vocab_size;
  description_.n_ctx = session.n_ctx();
  description_.tokenizer_needs_turn = true;
  description_.no_texts.clear();
  if (session.tokenizer().size() == 0) {
    const auto ids = session.Tokenize("");
    if (!ids) description_.no_texts = SentenceOf(ids.error());
  }
  description_.chat_template.clear();
  description_.end_of_answer.clear();
  if (!description_.no_texts.empty()) {
    conversation_.reset();
    description_.no_chat = description_.no_texts;
  }
  if (conversation_) {
    description_.chat_template = text::ChatKindName(conversation_->chat_template().kind());
    description_.end_of_answer = conversation_->stop();
  }
  description_.memory.clear();
  for (const Arena& arena : machine_->arenas()) {
    description_.memory.push_back({.name = RegionName(arena.region()),
                                   .used_bytes = arena.used_bytes(),
                                   .capacity_bytes = arena.capacity_bytes()});
  }
}

Result<void> ServedCard::Open(std::string_view name, const RunSettings& settings) {
  settings_ = settings;
  THIMBLE_TRY(card_->Open(name));
  name_ = card_->name();
  THIMBLE_TRY(ReadSpelling());
  THIMBLE_TRY(Start());
  Describe();
  return {};
}

service::Answer<void> ServedCard::TakeTurn() {
  machine_->interrupted().store(false);
  if (card_->is_started() && card_->starts() == starts_) return {};
  Result<void> opened;
  if (!card_->is_open() || !storage::SameName(card_->name().text.data(), std::string_view(name_.text.data()))) {
    opened = card_->Open(name_.text.data());
  }
  if (opened &&
      (card_->model().shape.vocab_size != description_.vocab_size || card_->file_bytes() != description_.model_bytes)) {
    return std::unexpected("the card has another " + description_.id + " now: restart the board to serve that");
  }
  if (opened) opened = Start();
  if (opened && card_->session().n_ctx() != description_.n_ctx) {
    opened = Fail({.code = Code::kOutOfMemory, .what = "the board has less memory now than when it began to serve"});
  }
  if (!opened) return std::unexpected(SentenceOf(opened.error()));
  return {};
}

Result<std::vector<TokenId>> ServedCard::Encode(std::string_view text, bool add_bos) {
  return IdsOfText(card_->session().tokenizer(), text, add_bos, card_->session().n_ctx());
}

service::Answer<std::vector<TokenId>> ServedCard::Tokenize(std::string_view text, bool add_bos, bool special) {
  if (!description_.no_texts.empty()) return std::unexpected(description_.no_texts + "; send token ids");
  const text::Tokenizer& tokenizer = card_->session().tokenizer();
  const bool bos = add_bos && tokenizer.add_bos();
  auto ids = special ? special_.Encode(plain(), text, bos ? tokenizer.bos() : kNoToken) : Encode(text, bos);
  if (!ids) return std::unexpected(SentenceOf(ids.error()));
  return std::move(*ids);
}

service::Answer<std::vector<TokenId>> ServedCard::TokenizeChat(std::span<const text::ChatMessage> messages) {
  if (!conversation_) return std::unexpected(description_.no_chat);
  const text::Tokenizer& tokenizer = card_->session().tokenizer();
  // A board does not know the day.
  auto ids = conversation_->Encode(plain(), tokenizer.bos(), tokenizer.eos(), messages, /*date=*/"");
  if (!ids) return std::unexpected(SentenceOf(ids.error()));
  return std::move(*ids);
}

service::Answer<std::string> ServedCard::Detokenize(std::span<const TokenId> ids) {
  if (!description_.no_texts.empty()) return std::unexpected(description_.no_texts);
  return service::TextOfIds(card_->session().tokenizer(), card_->model().tokenizer, description_.vocab_size, ids);
}

}  // namespace thimble::firmware
