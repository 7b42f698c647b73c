// Errors of the host code: the whole sentence that the user reads, file name included.
#ifndef THIMBLE_HOST_SUPPORT_ERRORS_H_
#define THIMBLE_HOST_SUPPORT_ERRORS_H_

#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include "engine/base/error.h"  // THIMBLE_TRY, THIMBLE_ASSIGN

namespace thimble::host {

template <class T>
using Expected = std::expected<T, std::string>;
using Status = Expected<void>;

inline std::unexpected<std::string> Sentence(std::string sentence) {
  return std::unexpected<std::string>(std::move(sentence));
}

// `text`, which a file supplied, as it may stand in a sentence: made visible (host/support/visible_text.h), and what is
// longer than 80 bytes is cut and ends in "...".
std::string Quote(std::string_view text);

// The sentence of an engine error, without a full stop.
std::string SentenceOf(const Error& error);

// "NAME: sentence", of an engine error that has to do with a file, a card or a model of this name.
std::unexpected<std::string> Failed(const std::string& name, const Error& error);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_ERRORS_H_
