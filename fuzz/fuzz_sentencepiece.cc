// A SentencePiece tokenizer.model.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fuzz/sentence.h"
#include "host/formats/sentencepiece_model.h"
#include "host/support/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble::host;
  const auto vocabulary = ParseSentencePieceModel(std::string_view(reinterpret_cast<const char*>(data), size), "FILE");
  if (!vocabulary) {
    if (vocabulary.error().size() > 400 || !thimble::IsSentence(vocabulary.error())) std::abort();
    return 0;
  }
  const size_t n = vocabulary->tokens.size();
  if (n == 0 || vocabulary->scores.size() != n || vocabulary->types.size() != n || !vocabulary->unk) std::abort();
  for (const auto id : {vocabulary->bos, vocabulary->eos, vocabulary->unk}) {
    if (id && *id >= n) std::abort();
  }
  for (size_t i = 0; i < n; ++i) {
    if (!IsUtf8(vocabulary->tokens[i]) || !std::isfinite(vocabulary->scores[i])) std::abort();
  }
  return 0;
}
