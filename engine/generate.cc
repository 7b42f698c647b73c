#include "engine/generate.h"

#include "engine/text/detokenizer.h"
#include "engine/text/stop_matcher.h"

namespace thimble {
namespace {

void Give(TextSink& sink, std::string_view text) {
  if (!text.empty()) sink.OnText(text);
}

}  // namespace

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

Result<GenerateResult> Generate(Session& session, const GenerateOptions& options, TextSink& sink) {
  const text::Tokenizer& tokenizer = session.tokenizer();
  const formats::TokenizerRef& special = session.tokenizer_ref();
  const std::span<std::byte> bytes = session.text_memory();
  const std::span<char> memory(reinterpret_cast<char*>(bytes.data()), bytes.size());
  const auto held_token = static_cast<size_t>(tokenizer.size() == 0 ? 0 : text::Detokenizer::MemoryBytes(special));
  if (held_token + text::StopMatcher::MemoryBytes(options.stops, held_token) > memory.size()) {
    return Fail(
        {.code = Code::kInvalidArgument,
         .what = "the stop texts need {need} bytes and {have} are set aside for them: give fewer or shorter ones",
         .have = memory.size() - held_token,
         .need = text::StopMatcher::MemoryBytes(options.stops, held_token)});
  }
  text::Detokenizer detokenizer(tokenizer, !session.has_text(), memory.first(held_token));
  THIMBLE_ASSIGN(text::StopMatcher matcher, text::StopMatcher::Create(options.stops, memory.subspan(held_token)));

  GenerateResult result;
  std::optional<Error> failure;
  const auto end_by = [&](const Error& error) {
    if (error.code == Code::kContextFull) {
      result.reason = StopReason::kContextFull;
    } else if (error.code == Code::kCancelled) {
      result.reason = StopReason::kCancelled;
    } else {
      failure = error;
    }
  };
  while (true) {
    if (options.n_predict >= 0 && result.n_predicted == static_cast<uint64_t>(options.n_predict)) {
      result.reason = StopReason::kLimit;
      break;
    }
    const Result<TokenId> token = session.Next(options.sampler);
    if (!token) {
      end_by(token.error());
      break;
    }
    ++result.n_predicted;
    sink.OnToken(*token);
    if (*token == special.eos || *token == special.bos) {
      result.reason = StopReason::kEndOfSequence;
      break;
    }
    const std::string_view text = detokenizer.Push(*token);
    if (const Result<void> read = tokenizer.TakeStatus(); !read) {
      end_by(read.error());
      break;
    }
    Give(sink, matcher.Push(text));
    if (matcher.stopped()) {
      result.reason = StopReason::kStopText;
      return result;
    }
  }
  Give(sink, matcher.Push(detokenizer.Flush()));
  Give(sink, matcher.Flush());
  if (failure) return Fail(*failure);
  if (matcher.stopped()) result.reason = StopReason::kStopText;
  return result;
}

}  // namespace thimble
