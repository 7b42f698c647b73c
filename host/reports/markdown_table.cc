#include "host/reports/markdown_table.h"

#include <algorithm>

namespace thimble::host {

std::string MarkdownTable(const std::string& align, const std::vector<std::string>& titles,
                          const std::vector<std::vector<std::string>>& rows) {
  const auto escaped = [](const std::string& cell) {
    std::string text;
    for (const char c : cell) text += c == '|' ? "\\|" : std::string(1, c);
    return text;
  };
  // The continuation bytes of UTF-8 take no room.
  const auto width_of = [](const std::string& cell) {
    return static_cast<size_t>(std::ranges::count_if(cell, [](char c) { return (c & 0xc0) != 0x80; }));
  };
  std::vector<std::vector<std::string>> cells = {titles};
  cells.insert(cells.end(), rows.begin(), rows.end());
  std::vector<size_t> widths(align.size(), 3);
  for (std::vector<std::string>& row : cells) {
    for (size_t i = 0; i < align.size(); ++i) {
      row[i] = escaped(row[i]);
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  }
  std::string table;
  for (size_t r = 0; r < cells.size(); ++r) {
    for (size_t i = 0; i < align.size(); ++i) {
      const std::string room(widths[i] - width_of(cells[r][i]), ' ');
      table += align[i] == '>' ? "| " + room + cells[r][i] + " " : "| " + cells[r][i] + room + " ";
    }
    table += "|\n";
    if (r != 0) continue;
    for (size_t i = 0; i < align.size(); ++i) {
      table += "| " + std::string(widths[i] - 1, '-') + (align[i] == '>' ? ": " : "- ");
    }
    table += "|\n";
  }
  return table;
}

}  // namespace thimble::host
