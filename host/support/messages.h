// What the tool says beside its results.
#ifndef THIMBLE_HOST_SUPPORT_MESSAGES_H_
#define THIMBLE_HOST_SUPPORT_MESSAGES_H_

#include <string_view>

namespace thimble::host {

// Writes "KIND: SENTENCE" as one line to stderr. Control characters of the sentence, which may quote names from files,
// come out as '?'.
void WriteMessage(std::string_view kind, std::string_view sentence);

// Of the kind "note".
void ReportNote(std::string_view sentence);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_MESSAGES_H_
