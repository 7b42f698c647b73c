// The pre_tokenizer of a byte-level tokenizer.json, by the name that GGUF has for it.
#ifndef THIMBLE_HOST_FORMATS_PRE_TOKENIZER_JSON_H_
#define THIMBLE_HOST_FORMATS_PRE_TOKENIZER_JSON_H_

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "engine/formats/pre_tokenizer.h"
#include "host/support/errors.h"

namespace thimble::host {

// Whether one of the steps is ByteLevel.
bool IsByteLevel(std::span<const nlohmann::json* const> steps);

// Recognises the steps of a pre_tokenizer by what they do: the regular expressions of Split, Digits and Punctuation,
// and ByteLevel. docs/formats/tokenizer_json.md has what is recognised as what. Of names with the same rules the one of
// Llamas is given. Anything else is refused; sentences start with `path`.
Expected<formats::PreTokenizer> ReadPreTokenizer(std::span<const nlohmann::json* const> steps, const std::string& path);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_PRE_TOKENIZER_JSON_H_
