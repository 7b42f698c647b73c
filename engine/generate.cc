#include "engine/generate.h"

namespace thimble {
const char* StopReasonName(StopReason reason) {
  switch (reason) {
    case StopReason::kEndOfSequence:
      return "eos";
    case StopReason::kLimit:
      return "limit";
    case StopReason::kStopText:
      return "stop";
    case StopReason::kContextFull:
      return "context";
    case StopReason::kCancelled:
      return "interrupt";
  }
  return "";
}

Result<Generation> Generation::Begin(Session& session, const GenerateOptions& options) {
  const text::Tokenizer& tokenizer = session.tokenizer();
  const std::span<std::byte> bytes = session.text_memory();
  const std::span<char> memory(reinterpret_cast<char*>(bytes.data()), bytes.size());
  const auto held_token =
      static_cast<size_t>(tokenizer.size() == 0 ? 0 : text::Detokenizer::MemoryBytes(session.tokenizer_ref()));
  if (held_token + text::StopMatcher::MemoryBytes(options.stops, held_token) > memory.size()) {
    return Fail(
        {.code = Code::kInvalidArgument,
         .what = "the stop texts need {need} bytes and {have} are set aside for them: give fewer or shorter ones",
         .have = memory.size() - held_token,
         .need = text::StopMatcher::MemoryBytes(options.stops, held_token)});
  }
  THIMBLE_ASSIGN(const text::StopMatcher matcher, text::StopMatcher::Create(options.stops, memory.subspan(held_token)));
  return Generation(session, options, {tokenizer, !session.has_text(), memory.first(held_token)}, matcher);
}

void Generation::EndBy(const Error& error) {
  stage_ = Stage::kCharacter;
  if (error.code == Code::kContextFull) {
    result_.reason = StopReason::kContextFull;
  } else if (error.code == Code::kCancelled) {
    result_.reason = StopReason::kCancelled;
  } else {
    failure_ = error;
  }
}

void Generation::EndByStopText() {
  result_.reason = StopReason::kStopText;
  result_.stop = matcher_.stop();
}

Generation::Step Generation::MakeToken() {
  if (options_.n_predict >= 0 && result_.n_predicted == static_cast<uint64_t>(options_.n_predict)) {
    stage_ = Stage::kCharacter;
    return {};
  }
  const Result<TokenId> token = session_->Next(options_.sampler);
  if (!token) {
    EndBy(token.error());
    return {};
  }
  ++result_.n_predicted;
  if (session_->tokenizer_ref().EndsText(*token)) {
    result_.reason = StopReason::kEndOfSequence;
    stage_ = Stage::kCharacter;
    return {.token = *token};
  }
  const std::string_view text = detokenizer_.Push(*token);
  if (const Result<void> read = session_->tokenizer().TakeStatus(); !read) {
    EndBy(read.error());
    return {.token = *token};
  }
  const Step step = {.token = *token, .text = matcher_.Push(text)};
  if (matcher_.stopped()) {
    EndByStopText();
    stage_ = Stage::kEnd;
  }
  return step;
}

Result<Generation::Step> Generation::Next() {
  if (stage_ == Stage::kTokens) {
    if (const Step step = MakeToken(); step.token) return step;
  }
  if (stage_ == Stage::kCharacter) {
    stage_ = Stage::kHeldBack;
    if (const std::string_view text = matcher_.Push(detokenizer_.Flush()); !text.empty()) return Step{.text = text};
  }
  if (stage_ == Stage::kHeldBack) {
    stage_ = Stage::kEnd;
    const std::string_view text = matcher_.Flush();
    if (matcher_.stopped()) EndByStopText();
    if (!text.empty()) return Step{.text = text};
  }
  if (failure_) return Fail(*failure_);
  return Step{.is_end = true};
}

Result<GenerateResult> Generate(Session& session, const GenerateOptions& options, TextSink& sink) {
  THIMBLE_ASSIGN(Generation generation, Generation::Begin(session, options));
  while (true) {
    THIMBLE_ASSIGN(const Generation::Step step, generation.Next());
    if (step.token) sink.OnToken(*step.token);
    if (!step.text.empty()) sink.OnText(step.text);
    if (step.is_end) return generation.result();
  }
}

}  // namespace thimble
