// Reading Hugging Face's tokenizer.json, of SentencePiece's BPE and Unigram kinds and of byte-level BPE.
//
// Format: huggingface/tokenizers, the serialised form of its Tokenizer. What is read and what is refused, and why the
// ids are those that its merges give: docs/formats/tokenizer_json.md.
#ifndef THIMBLE_HOST_FORMATS_TOKENIZER_JSON_H_
#define THIMBLE_HOST_FORMATS_TOKENIZER_JSON_H_

#include <string>
#include <string_view>
#include <vector>

#include "host/formats/vocabulary.h"
#include "host/support/errors.h"

namespace thimble::host {

// Parses the text of a tokenizer.json; sentences start with `path`. Scores are made from the merges so that merging by
// score gives every text the ids that the merges give it; tokens that the merges never make are kUnused. bos and eos
// are what the post_processor puts before and after a text, else the added tokens "<s>" and "</s>"; add_bos is whether
// it puts one. Of byte-level BPE, those of the merges that ever happen are kept as they are, and there are no scores
// and no bos and eos without a template; of Unigram, scores are the file's. Adds to `notes` what the user should know.
// Refused by name: models other than these; normalizers and pre-tokenizers that do more than SentencePiece's, or that
// are not PreTokenizer's; and any option that the engine's tokenizer has no counterpart of.
Expected<Vocabulary> ParseTokenizerJson(std::string_view json, const std::string& path,
                                        std::vector<std::string>& notes);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_TOKENIZER_JSON_H_
