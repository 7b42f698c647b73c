// Reading a SentencePiece tokenizer.model.
//
// Format: a protocol buffer, google/sentencepiece, src/sentencepiece_model.proto; the few fields that matter are read
// here, because Debian's libsentencepiece, which the tests compare with, cannot share a process with Debian's protobuf.
#ifndef THIMBLE_HOST_FORMATS_SENTENCEPIECE_MODEL_H_
#define THIMBLE_HOST_FORMATS_SENTENCEPIECE_MODEL_H_

#include <string>
#include <string_view>

#include "host/formats/vocabulary.h"
#include "host/support/errors.h"

namespace thimble::host {

// Parses the bytes of a tokenizer.model. Refused by name: models of words and of characters; maps of characters that
// are damaged; spaces that stand behind the word; pieces that are empty, doubled or not UTF-8; scores that are not
// finite; byte pieces that are not asked for; more or less than one unknown piece. add_space_prefix is the model's
// add_dummy_prefix. Sentences start with `path`.
Expected<Vocabulary> ParseSentencePieceModel(std::string_view bytes, const std::string& path);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_SENTENCEPIECE_MODEL_H_
