// Tables.
#ifndef THIMBLE_HOST_REPORTS_MARKDOWN_TABLE_H_
#define THIMBLE_HOST_REPORTS_MARKDOWN_TABLE_H_

#include <string>
#include <vector>

namespace thimble::host {

// A table in Markdown, padded so that it is one in a terminal, too. `align`: '<' or '>' for each column; `titles` and
// each row have as many cells, in UTF-8. A '|' in a cell is escaped.
std::string MarkdownTable(const std::string& align, const std::vector<std::string>& titles,
                          const std::vector<std::vector<std::string>>& rows);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_REPORTS_MARKDOWN_TABLE_H_
