#include "host/reports/comparison_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <string>
#include <vector>

#include "host/reports/markdown_table.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

std::vector<std::string> Cells(const Compared& row, const ComparedHead& head, bool is_full) {
  const Divergence& d = *row.quality.divergence;
  const std::optional<RunResult::Screen>& screen = head.simulated.run.screen;
  std::vector<std::string> cells = {
      row.stored, is_full   ? "full"
                  : !screen ? "screened"
                            : fmt::format("screened {},{}", screen->size.first_bytes, screen->size.second_bits)};
  if (is_full) {
    cells.insert(cells.end(), {Megabytes(row.file_bytes),
                               d.kld_mean == 0     ? "0"
                               : d.kld_mean < 1e-5 ? fmt::format("{:.0e}", d.kld_mean)
                                                   : fmt::format("{:.5f}", d.kld_mean),
                               fmt::format("{:.1f} %", 100 * d.top_match)});
  } else {
    cells.insert(cells.end(), 3, "");
  }
  if (!head.refused.empty()) {
    cells.insert(cells.end(), {"", "", "not on this board"});
    return cells;
  }
  const double read = head.token.card_bytes + head.token.psram_bytes + head.token.flash_bytes;
  cells.push_back(fmt::format("{:.3f} of {:.3f} MB", head.token.card_bytes * 1e-6, read * 1e-6));
  cells.push_back(fmt::format("{:.0f} KB", static_cast<double>(head.memory_bytes) * 1e-3));
  cells.push_back(head.simulated.tokens() > 1 ? RangeText(head.simulated.tok_per_s) : "–");
  return cells;
}

}  // namespace

std::string ComparisonText(const Comparison& comparison) {
  std::vector<std::vector<std::string>> rows;
  std::string refused;
  const auto add_head = [&](const Compared& row, const ComparedHead& head, bool is_full) {
    rows.push_back(Cells(row, head, is_full));
    if (head.refused.empty()) return;
    refused += fmt::format("{}, {}: {}\n", row.stored, is_full ? "full scan" : "screened", Visible(head.refused));
  };
  for (const Compared& row : comparison.rows) {
    if (!row.same_as.empty()) {
      rows.push_back({row.stored, fmt::format("the same as {}", row.same_as), "", "", "", "", "", ""});
      continue;
    }
    add_head(row, row.full, true);
    add_head(row, row.screened, false);
  }
  const Quality& first = comparison.rows.front().quality;
  return fmt::format(
      "{} on {}, {} positions of context; card {}; modelled with {}\n\n{}\n{}"
      "KL divergence from float32 and share of equal top tokens: over {} tokens of {}, in chunks of {};\n"
      "perplexity in float32 {:.2f} ± {:.2f}. A token reads so much from the card, and so much in all; the memory is\n"
      "SRAM and PSRAM together at their peak.\n",
      Visible(comparison.model), comparison.board, comparison.n_ctx, Visible(comparison.card_mode),
      comparison.constants,
      MarkdownTable(
          "<<>>>>>>",
          {"stored as", "head", "file", "KL divergence", "same top token", "a token reads", "memory", "modelled tok/s"},
          rows),
      refused, first.tokens, Visible(comparison.text), comparison.chunk, first.ppl, first.ppl_error);
}

}  // namespace thimble::host
