// Reading a Hugging Face folder: config.json, safetensors in one file or in shards, tokenizer.model or
// tokenizer.json.
#ifndef THIMBLE_HOST_FORMATS_HF_FOLDER_H_
#define THIMBLE_HOST_FORMATS_HF_FOLDER_H_

#include <string>

#include "host/formats/checkpoint.h"
#include "host/support/errors.h"

namespace thimble::host {

// Opens the folder and checks all but the numbers: every tensor that the configuration calls for is there with its
// shape in F32, F16 or BF16, and none that it does not call for (rotary_emb.inv_freq of old checkpoints, which the
// configuration determines, is skipped). `tokenizer` is a tokenizer file to read instead of the folder's, or empty; of
// the folder's, tokenizer.model goes before tokenizer.json.
//
// Tied heads follow transformers: with tie_word_embeddings, one of model.embed_tokens.weight and lm_head.weight is
// enough, two equal ones are one, and two that differ are both used. Where only one is stored without
// tie_word_embeddings it serves as both too, with a note.
Expected<Checkpoint> OpenHfFolder(const std::string& path, const std::string& tokenizer);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_HF_FOLDER_H_
