// A tokenizer.json.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string_view>

#include "fuzz/sentence.h"
#include "host/formats/tokenizer_json.h"
#include "host/support/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble::host;
  std::vector<std::string> notes;
  const auto vocabulary = ParseTokenizerJson({reinterpret_cast<const char*>(data), size}, "FILE", notes);
  if (!vocabulary) {
    if (vocabulary.error().size() > 600 || !thimble::IsSentence(vocabulary.error())) std::abort();
    return 0;
  }
  const size_t n = vocabulary->tokens.size();
  if (vocabulary->scores.size() != n || vocabulary->types.size() != n) std::abort();
  for (const auto id : {vocabulary->bos, vocabulary->eos, vocabulary->unk}) {
    if (id && *id >= n) std::abort();
  }
  if (vocabulary->add_bos && !vocabulary->bos) std::abort();
  if (std::set<std::string>(vocabulary->tokens.begin(), vocabulary->tokens.end()).size() != n) std::abort();
  if (vocabulary->is_byte_level()) {
    // Each merge makes another token.
    const std::set<std::string> tokens(vocabulary->tokens.begin(), vocabulary->tokens.end());
    std::set<std::string> made;
    for (const std::string& merge : vocabulary->merges) {
      const size_t space = merge.find(' ');
      if (space == merge.npos || !tokens.contains(merge.substr(0, space) + merge.substr(space + 1))) std::abort();
      made.insert(merge.substr(0, space) + merge.substr(space + 1));
    }
    if (made.size() != vocabulary->merges.size()) std::abort();
    return 0;
  }
  // Of what merges make, each merge makes one.
  std::set<float> scores;
  size_t num_made = 0;
  for (size_t i = 0; i < n; ++i) {
    const std::string& token = vocabulary->tokens[i];
    if (!IsUtf8(token) || token.empty() || !std::isfinite(vocabulary->scores[i])) std::abort();
    size_t characters = 0;
    for (char c : token) characters += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    if (vocabulary->types[i] != TokenType::kNormal || characters < 2) continue;
    scores.insert(vocabulary->scores[i]);
    ++num_made;
  }
  if (scores.size() != num_made) std::abort();
  return 0;
}
