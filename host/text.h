// Numbers as people read them.
#ifndef THIMBLE_HOST_TEXT_H_
#define THIMBLE_HOST_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/tensor.h"

namespace thimble::host {

// "4 194 304"
std::string Grouped(uint64_t n);

// "6.30 MB"; MB = 10^6 bytes.
std::string Megabytes(uint64_t bytes);

// `value`, or 0 where so many decimals show nothing of it: no figure reads "-0.0".
double WithoutMinusZero(double value, int decimals);

// A table in Markdown, padded so that it is one in a terminal, too. `align`: '<' or '>' for each column; `titles` and
// each row have as many cells, in UTF-8. A '|' in a cell is escaped.
std::string MarkdownTable(const std::string& align, const std::vector<std::string>& titles,
                          const std::vector<std::vector<std::string>>& rows);

// The step of an axis over `range`, above 0, that has at most `most` of them: 1, 2 or 5 times a power of ten.
double TickStep(double range, int most);

// A path's last part.
std::string NameOf(const std::string& path);

// The tensor's name as GGUF spells it.
std::string TensorName(TensorId id);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_TEXT_H_
