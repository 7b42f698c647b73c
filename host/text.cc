#include "host/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace thimble::host {

std::string Grouped(uint64_t n) {
  const std::string digits = fmt::format("{}", n);
  std::string grouped;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) grouped += ' ';
    grouped += digits[i];
  }
  return grouped;
}

std::string Megabytes(uint64_t bytes) { return fmt::format("{:.2f} MB", static_cast<double>(bytes) / 1e6); }

double WithoutMinusZero(double value, int decimals) {
  return std::abs(value) * std::pow(10.0, decimals) <= 0.5 ? 0.0 : value;
}

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

double TickStep(double range, int most) {
  const double least = range / most;
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least) return factor * power;
  }
  return 10 * power;
}

std::string NameOf(const std::string& path) {
  const std::filesystem::path whole(path);
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

std::string TensorName(TensorId id) {
  char name[48];
  return std::string(name, FormatTensorName(id, name));
}

}  // namespace thimble::host
