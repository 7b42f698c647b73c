#include "firmware/net/text_ids.h"

#include <algorithm>

namespace thimble::firmware {

// A stretch at a time, where a text is longer than the workspace.
Result<std::vector<TokenId>> IdsOfText(const text::Tokenizer& tokenizer, std::string_view text, bool add_bos,
                                       size_t most) {
  std::vector<std::byte> workspace(static_cast<size_t>(
      std::min(text::Tokenizer::WorkspaceBytes(tokenizer.TextBytes(text)), kTokenizerWorkspaceBytes)));
  std::vector<TokenId> ids(most);
  THIMBLE_ASSIGN(const size_t count, tokenizer.Encode(text, add_bos, ids, workspace));
  ids.resize(count);
  return ids;
}

}  // namespace thimble::firmware
