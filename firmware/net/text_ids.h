// The ids of a text by a session's tokenizer, wherever that is.
#ifndef THIMBLE_FIRMWARE_NET_TEXT_IDS_H_
#define THIMBLE_FIRMWARE_NET_TEXT_IDS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/text/tokenizer.h"

namespace thimble::firmware {

// The workspace that is taken of the heap meanwhile.
inline constexpr uint64_t kTokenizerWorkspaceBytes = 4096;

// As text::Tokenizer::Encode(): kContextFull if there are more than `most`, which are taken of the heap.
Result<std::vector<TokenId>> IdsOfText(const text::Tokenizer& tokenizer, std::string_view text, bool add_bos,
                                       size_t most);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_NET_TEXT_IDS_H_
