// What both libraries are asked to refuse alike, before they see a text.
#ifndef THIMBLE_SERVICE_JSON_TEXT_H_
#define THIMBLE_SERVICE_JSON_TEXT_H_

#include <string>
#include <string_view>

namespace thimble::service {

// UTF-8 throughout, brackets within brackets at most kMaxJsonDepth deep, and no character U+0000, raw or escaped, which
// a library for C cannot hold. Says nothing else of its grammar.
bool IsAcceptableJson(std::string_view text);

// With U+FFFD for bytes that are not UTF-8.
std::string WellFormed(std::string_view text);

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_JSON_TEXT_H_
