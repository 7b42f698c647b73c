// JSON from a file, read strictly.
#ifndef THIMBLE_HOST_JSON_TEXT_H_
#define THIMBLE_HOST_JSON_TEXT_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "host/expected.h"

namespace thimble::host {

// Parses `text` (RFC 8259, UTF-8), an object. Refused, with `path` in the sentence: what is not JSON, an object that
// has one key twice, nesting deeper than 64, anything but an object at the top.
Expected<nlohmann::json> ParseJsonObject(std::string_view text, const std::string& path);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_JSON_TEXT_H_
