// Models that people name as Hugging Face does, and that have to be fetched first: Thimble opens no connection.
#ifndef THIMBLE_HOST_SUPPORT_HUGGING_FACE_H_
#define THIMBLE_HOST_SUPPORT_HUGGING_FACE_H_

#include <string>
#include <string_view>

#include "host/support/errors.h"

namespace thimble::host {

// Refuses a path at which nothing is and which reads as a repository: OWNER/NAME, or its address (hf.co/OWNER/NAME,
// https://huggingface.co/OWNER/NAME, one of its files). The sentence says how to fetch it.
Status RefuseRepository(const std::string& path);

// The same for what follows an option of llama.cpp's that fetches a model (-hf, --hf-repo); always a sentence.
std::string RefusedFetch(std::string_view option, std::string_view repository);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_HUGGING_FACE_H_
