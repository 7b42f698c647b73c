// All that the tool prints: its results and what it says beside them. Nothing else of the host writes to standard
// output or standard error, but for the line of host/support/progress.h; tests/check_edges holds it to that.
//
// Names, tokens and texts come from files that somebody else may have made, so what a terminal would obey is shown to
// it and not sent (host/support/visible_text.h). A file or a pipe gets every byte as it is.
#ifndef THIMBLE_HOST_SUPPORT_MESSAGES_H_
#define THIMBLE_HOST_SUPPORT_MESSAGES_H_

#include <string_view>

namespace thimble::host {

// Writes a piece of a command's result, of whole characters, to standard output. One
// that is lost is found out when the tool ends.
void WriteResult(std::string_view text);

// Hands what was written so far to whoever reads it; false if some of it, now or before, was lost.
bool FlushResult();

// The same as WriteResult() to standard error: what a person wants to know beside the result.
void WriteAside(std::string_view text);

// Writes "KIND: SENTENCE" as one line to standard error, whatever the sentence quotes, and to files alike.
void WriteMessage(std::string_view kind, std::string_view sentence);

// Of the kind "note".
void ReportNote(std::string_view sentence);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_MESSAGES_H_
