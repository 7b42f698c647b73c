#include "host/studies/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "engine/session.h"
#include "host/models/loaded_tokenizer.h"
#include "host/support/input_file.h"
#include "host/support/progress.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMaxTextBytes = 16 << 20;
constexpr uint32_t kUsualChunk = 512;
constexpr uint32_t kMaxOfOwnText = 256;

uint64_t HeadBytes(const LoadedModel& loaded) { return loaded.model().tensor({TensorKind::kLmHead, 0}).size_bytes(); }

}  // namespace

Expected<JudgedModel> JudgedModel::Open(ModelRequest model, PlanStart plan) {
  plan.options.keep_logits = true;
  model.index = IndexUse::kIgnore;
  JudgedModel judged;
  THIMBLE_ASSIGN(judged.loaded_, LoadedModel::Open(model));
  const uint32_t most = judged.loaded_->model().shape.max_position_embeddings;
  if (!plan.n_ctx || *plan.n_ctx == 0) plan.n_ctx = std::min(most, kUsualChunk);
  THIMBLE_ASSIGN(judged.plan_, MakePlan(*judged.loaded_, plan, {}));
  return judged;
}

Expected<JudgedModel> JudgedModel::OpenHere(ModelRequest model, uint32_t n_ctx) {
  model.board = "host";
  return Open(std::move(model), {.n_ctx = n_ctx});
}

Status JudgedModel::Restart() {
  if (session_ != nullptr) {
    session_->Clear();
    return {};
  }
  THIMBLE_ASSIGN(session_, loaded_->OpenSession(plan_));
  return {};
}

Expected<std::span<const float>> JudgedModel::LogitsAfter(std::span<const TokenId> ids) {
  if (const auto run = session_->Prefill(ids); !run) return loaded_->Failure(run.error());
  return session_->logits();
}

Expected<JudgedText> InChunks(std::vector<TokenId> ids, uint32_t n_ctx, uint32_t most_chunks, const LoadedModel& loaded,
                              const std::string& name) {
  if (n_ctx < kMinChunk || ids.size() < n_ctx) {
    return Sentence(
        fmt::format("{} has {} tokens, not one chunk of {}: give a longer text, or chunks of another size, at least {}",
                    name, ids.size(), n_ctx, kMinChunk));
  }
  const size_t chunks = std::min<size_t>(ids.size() / n_ctx, most_chunks != 0 ? most_chunks : ids.size());
  ids.resize(chunks * n_ctx);
  const formats::TokenizerRef& tokenizer = loaded.model().tokenizer;
  if (tokenizer.add_bos && tokenizer.bos != kNoToken) {
    for (size_t at = 0; at < ids.size(); at += n_ctx) ids[at] = tokenizer.bos;
  }
  return JudgedText{.ids = std::move(ids), .n_ctx = n_ctx};
}

Expected<std::vector<TokenId>> ReadTokens(const std::string& file, LoadedModel& loaded) {
  THIMBLE_ASSIGN(const std::string text, ReadGiven(file, kMaxTextBytes));
  THIMBLE_ASSIGN(const LoadedTokenizer tokenizer, loaded.LoadTokenizer());
  const auto ids = tokenizer.Encode(text, tokenizer.get().add_bos());
  if (!ids) return loaded.Failure(ids.error());
  return *ids;
}

Expected<std::vector<TokenId>> OwnText(LoadedModel& loaded, size_t tokens) {
  const formats::ModelFile& model = loaded.model();
  head::SamplerOptions sampler = {.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 1};
  const uint32_t length = std::min(kMaxOfOwnText, model.shape.max_position_embeddings);
  THIMBLE_ASSIGN(const plan::Plan plan, MakePlan(loaded, {.n_ctx = length, .head = plan::HeadMode::kFull}, sampler));
  const TokenId first = model.tokenizer.bos != kNoToken ? model.tokenizer.bos : 0;
  const auto ends = [&](TokenId id) { return model.tokenizer.EndsText(id); };
  Progress progress("write a text", tokens * HeadBytes(loaded));
  std::vector<TokenId> ids;
  THIMBLE_ASSIGN(Session* const session, loaded.OpenSession(plan));
  while (ids.size() < tokens) {
    ++sampler.seed;
    session->Clear();
    ids.push_back(first);
    if (const auto begun = session->Prefill({&first, 1}); !begun) return loaded.Failure(begun.error());
    for (uint32_t i = 1; i < length && ids.size() < tokens; ++i) {
      const auto next = session->Next(sampler);
      if (!next) return loaded.Failure(next.error());
      if (ends(*next)) break;
      ids.push_back(*next);
      progress.Advance(HeadBytes(loaded));
    }
  }
  return ids;
}

Expected<JudgedText> ReadText(const std::string& file, uint32_t n_ctx, uint32_t chunks, LoadedModel& loaded) {
  THIMBLE_ASSIGN(std::vector<TokenId> ids,
                 file.empty() ? OwnText(loaded, size_t{n_ctx} * chunks) : ReadTokens(file, loaded));
  return InChunks(std::move(ids), n_ctx, chunks, loaded, NameOfText(file));
}

std::string NameOfText(const std::string& file) {
  return file.empty() ? "texts of the model's own" : NameOfGiven(file);
}

Expected<std::vector<Quality>> Judge(std::span<JudgedModel> models, JudgedModel* base, const JudgedText& text) {
  const uint32_t half = text.n_ctx / 2;
  uint64_t bytes_of_position = base != nullptr ? HeadBytes(base->loaded()) : 0;
  for (JudgedModel& model : models) bytes_of_position += HeadBytes(model.loaded());
  Progress progress("perplexity", text.chunks() * (text.n_ctx - 1 - half) * bytes_of_position);
  std::vector<QualityMeter> meters(models.size());
  for (size_t c = 0; c < text.chunks(); ++c) {
    const std::span<const TokenId> chunk = std::span(text.ids).subspan(c * text.n_ctx, text.n_ctx);
    if (base != nullptr) THIMBLE_TRY(base->Restart());
    for (JudgedModel& model : models) THIMBLE_TRY(model.Restart());
    for (uint32_t done = 0; done + 1 < text.n_ctx;) {
      const std::span<const TokenId> run = chunk.subspan(done, done == 0 ? half + 1 : 1);
      done += static_cast<uint32_t>(run.size());
      std::span<const float> of_base;
      if (base != nullptr) {
        THIMBLE_ASSIGN(of_base, base->LogitsAfter(run));
      }
      for (size_t i = 0; i < models.size(); ++i) {
        THIMBLE_ASSIGN(const std::span<const float> logits, models[i].LogitsAfter(run));
        meters[i].Add(logits, of_base, chunk[done]);
      }
      progress.Advance(bytes_of_position);
    }
  }
  std::vector<Quality> all;
  for (const QualityMeter& meter : meters) all.push_back(meter.Result());
  return all;
}

}  // namespace thimble::host
