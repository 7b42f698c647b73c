#include "engine/base/need.h"

namespace thimble {

const char* BufferName(BufferId id) {
  switch (id) {
    case BufferId::kTiles:
      return "weight tiles";
    case BufferId::kBounce:
      return "bounce buffer";
    case BufferId::kTensorTable:
      return "tensor table";
    case BufferId::kSession:
      return "session";
    case BufferId::kDraftTable:
      return "draft table";
    case BufferId::kDraftChoices:
      return "draft choices";
    case BufferId::kDraftStates:
      return "draft states";
    case BufferId::kNorms:
      return "norms and biases";
    case BufferId::kActivations:
      return "activations";
    case BufferId::kRotary:
      return "rotary frequencies";
    case BufferId::kScores:
      return "attention scores";
    case BufferId::kSwapChecks:
      return "swap checksums";
    case BufferId::kTokens:
      return "prompt ids";
    case BufferId::kHistory:
      return "context ids";
    case BufferId::kCandidates:
      return "sampler candidates";
    case BufferId::kPenalised:
      return "penalised ids";
    case BufferId::kHeadRows:
      return "LM head block";
    case BufferId::kBlockChecks:
      return "weight checksums";
    case BufferId::kRowChecks:
      return "embedding checksums";
    case BufferId::kScreenTables:
      return "screen tables";
    case BufferId::kScreenSums:
      return "screen sums";
    case BufferId::kScreenTransform:
      return "screen transform";
    case BufferId::kScreenVectors:
      return "screen vectors";
    case BufferId::kScreenQuery:
      return "screen query";
    case BufferId::kScreenPsram:
      return "screen";
    case BufferId::kScreenFlash:
      return "screen in flash";
    case BufferId::kTokenizer:
      return "tokenizer";
    case BufferId::kTokenizerCache:
      return "tokenizer cache";
    case BufferId::kScratch:
      return "scratch";
    case BufferId::kText:
      return "text held back";
    case BufferId::kLogits:
      return "logits";
    case BufferId::kWeightsPsram:
      return "weights";
    case BufferId::kWeightsFlash:
      return "weights in flash";
    case BufferId::kKvCache:
      return "KV cache";
    case BufferId::kEmbeddingTile:
      return "embedding row";
    case BufferId::kAttentionTile:
      return "attention matrix";
    case BufferId::kFfnTile:
      return "MLP chunk";
    case BufferId::kHeadTile:
      return "LM head chunk";
  }
  return "";
}

}  // namespace thimble
