#include "host/reports/simulation_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

#include "engine/plan/plan.h"
#include "host/reports/axis.h"
#include "host/reports/page_files.h"
#include "host/reports/timeline.h"
#include "host/support/html_text.h"
#include "host/support/numbers.h"

namespace thimble::host {
namespace {

constexpr std::array<const char*, kNumLanes> kLaneTitles = {"Card", "SPI bus", "Core 0", "Core 1"};
// Width and height that pictures are drawn in before the browser stretches them.
constexpr double kPictureWidth = 10'000;

// Appends to a page.
class Page {
 public:
  template <typename... Args>
  void Add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
  }
  std::string& text() { return text_; }

 private:
  std::string text_;
};

// Grouped(), in one piece.
std::string Number(uint64_t n) {
  std::string text;
  for (char c : Grouped(n)) text += c == ' ' ? std::string("\u00a0") : std::string(1, c);
  return text;
}

std::string Counted(uint64_t tokens) { return fmt::format("{} token{}", tokens, tokens == 1 ? "" : "s"); }

double Percent(double part, double whole) { return whole > 0 ? 100.0 * part / whole : 0.0; }

std::string RangeNote(const Range& range, const char* unit) {
  return fmt::format("modelled: low {:.2f}, high {:.2f} {}", range[0], range[2], unit);
}

std::string RangeCell(const Range& range) {
  return fmt::format("{:.2f} <small>({:.2f} to {:.2f})</small>", range[kTypical], range[0], range[2]);
}

// A track from 0 to the range's end, the range on it and a mark at typical.
std::string RangePicture(const Range& range) {
  const double most = range[2];
  return fmt::format(R"(<div class="range" aria-hidden="true"><i style="left:{:.2f}%;width:{:.2f}%"></i><b )"
                     R"(style="left:{:.2f}%"></b></div>)",
                     Percent(range[0], most), Percent(range[2] - range[0], most), Percent(range[kTypical], most));
}

std::string Swatch(std::string_view colour) {
  return fmt::format(R"(<span class="swatch {}" aria-hidden="true"></span>)", colour);
}

void AddHead(Page& page, const std::string& model, const SimulationSetup& setup, const SampledRun& run) {
  const std::string name = HtmlText(model);
  const std::string board = HtmlText(setup.profile().name);
  page.Add(
      R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src )"
      R"('unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{} on {}, modelled</title>
<style>
{}</style>
</head>
<body>
)",
      name, board, kPageStyle);
  const Simulated& s = run.simulated;
  page.Add(
      R"(<header>
<p class="eyebrow">Modelled, not measured</p>
<h1><bdi>{}</bdi> on <bdi>{}</bdi></h1>
<p>The model really ran inside this board’s memory: {} after a prompt of {}, sampler “{}”. A )"
      R"(clock said how long each step takes there. So all times and speeds on this page are modelled, )"
      R"(and typical unless a range is given.</p>
<dl class="facts">
<div><dt>Model</dt><dd><bdi>{}</bdi></dd></div>
<div><dt>Board</dt><dd>{}</dd></div>
<div><dt>Card</dt><dd>{}</dd></div>
<div><dt>Clock</dt><dd>{}</dd></div>
</dl>
</header>
)",
      name, board, Counted(s.tokens()), Counted(s.prompt_tokens()), run.sampler, HtmlText(setup.model),
      HtmlText(setup.profile().description), HtmlText(setup.card_mode), ConstantsText(setup.profile()));
}

void AddFigure(Page& page, const char* name, const std::string& value, const char* unit, const std::string& picture,
               const std::string& note) {
  page.Add(R"(<div><dt>{}</dt><dd><span class="value">{} <small>{}</small></span>{}<span class="note">{})"
           R"(</span></dd></div>
)",
           name, value, unit, picture, note);
}

void AddHeadline(Page& page, std::span<const SampledRun> runs, std::span<const Stage> stages) {
  const Simulated& s = runs.front().simulated;
  const Stage& token = stages.back();
  page.Add(R"(<section aria-label="The figures, modelled">
<dl class="figures" id="figures">
)");
  if (s.tokens() > 1) {
    AddFigure(page, "Speed", fmt::format("{:.2f}", s.tok_per_s[kTypical]), "tok/s", RangePicture(s.tok_per_s),
              RangeNote(s.tok_per_s, "tok/s"));
  } else {
    AddFigure(page, "Speed", "–", "", "", "one token has no speed: ask for more with -n");
  }
  AddFigure(page, "First token after", fmt::format("{:.2f}", s.first_token_s[kTypical]), "s",
            RangePicture(s.first_token_s), RangeNote(s.first_token_s, "s"));
  if (s.tokens() > 1) {
    const size_t most = static_cast<size_t>(std::ranges::max_element(token.busy_ms) - token.busy_ms.begin());
    AddFigure(page, "Busiest part", fmt::format("{:.0f}", Percent(token.busy_ms[most], token.ms)), "%",
              RangePicture({0, token.busy_ms[most], token.ms}),
              fmt::format("{}, of the {:.1f} ms of a token, modelled", kLaneTitles[most], token.ms));
    AddFigure(page, "From the card", fmt::format("{:.2f}", token.card_bytes * 1e-6), "MB", "",
              fmt::format("a token, counted; in {:.1f} reads", token.reads));
  }
  page.Add("</dl>\n");
  if (runs.size() > 1) {
    page.Add(
        R"(<table class="samplers" id="samplers">
<thead><tr><th scope="col">Sampler</th><th scope="col">modelled tok/s</th><th )"
        R"(scope="col">modelled first token, s</th></tr></thead>
<tbody>
)");
    for (const SampledRun& run : runs) {
      page.Add(R"(<tr><th scope="row">{}</th><td>{}</td><td>{}</td></tr>
)",
               run.sampler, RangeCell(run.simulated.tok_per_s), RangeCell(run.simulated.first_token_s));
    }
    page.Add("</tbody>\n</table>\n");
  }
  page.Add("</section>\n");
}

std::string Shortened(std::string text) {
  constexpr size_t kMaxBytes = 20'000;
  if (text.size() <= kMaxBytes) return text;
  size_t end = kMaxBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + " …";
}

// Prompt and text, and a button that types the text as fast as the board would; a script shows it.
void AddText(Page& page, const Simulated& s) {
  if (s.run.text.empty()) return;
  page.Add(
      R"(<section aria-labelledby="h-text" id="text">
<h2 id="h-text">What it said</h2>
<p>The very tokens that the board would make.)");
  constexpr double kStoryTokens = 200;
  const double text_s = s.tokens() > 1 ? static_cast<double>(s.tokens() - 1) * s.ms_of_token() * 1e-3 : 0.0;
  if (s.tokens() > 1 && s.tok_per_s[0] > 0) {
    const auto story_s = [&](size_t first, size_t speed) {
      return s.first_token_s[first] + (kStoryTokens - 1) / s.tok_per_s[speed];
    };
    page.Add(" A story of {} tokens takes {}, modelled.", kStoryTokens,
             DurationText({story_s(0, 2), story_s(kTypical, kTypical), story_s(2, 0)}));
  }
  page.Add(
      R"(</p>
<blockquote dir="auto"><span class="prompt">{}</span><span class="said">{}</span></blockquote>
<p class="replay"><button type="button" hidden data-first-s="{:.3f}" data-text-s="{:.3f}">Replay at the board’s )"
      R"(pace</button></p>
</section>
)",
      HtmlText(Shortened(s.run.prompt)), HtmlText(Shortened(s.run.text)), s.first_token_s[kTypical], text_s);
}

std::string WorkName(const TraceSlice& slice) {
  std::string name = slice.is_read ? "read" : KernelName(slice.kernel);
  std::ranges::replace(name, '_', ' ');
  return fmt::format("{}: {}", ZoneName(slice.zone), name);
}

// "head: read, 64 512 bytes, 3821.4 us from 12.345 ms".
std::string BlockText(const TimelineBlock& block, int64_t token_start_ns) {
  const TraceSlice& work = block.longest;
  const bool is_bytes = work.is_read || work.lane == Lane::kBus;
  std::string text = WorkName(work);
  if (block.is_mixed) text += " and others";
  if (block.slices > 1) text = fmt::format("{}, {} in a row", text, block.slices);
  if (is_bytes || !block.is_mixed) text += fmt::format(", {} {}", Number(block.amount), is_bytes ? "bytes" : "units");
  text += fmt::format(", {:.1f} us", static_cast<double>(block.busy_ns) * 1e-3);
  // A read may have been started before the token.
  const double from_ms = static_cast<double>(block.start_ns - token_start_ns) * 1e-6;
  return text + fmt::format(" from {} ms, modelled", Fixed(from_ms, 3));
}

void AddLane(Page& page, Lane lane, double busy_percent, std::span<const TimelineBlock> blocks, int64_t start_ns,
             int64_t end_ns) {
  const char* const title = kLaneTitles[static_cast<size_t>(lane)];
  page.Add(
      R"(<div class="lane" id="lane-{0}"><h3>{1} <small>busy {2:.1f} %</small></h3>
<svg viewBox="0 0 {3} 1" preserveAspectRatio="none" role="img" aria-label="{1}, one token, )"
      R"(modelled: busy {2:.1f} % of the time">
)",
      LaneName(lane), title, busy_percent, kPictureWidth);
  const double scale = kPictureWidth / static_cast<double>(end_ns - start_ns);
  for (const TimelineBlock& block : blocks) {
    if (block.longest.lane != lane) continue;
    page.Add(R"(<rect class="z-{}" x="{:.2f}" width="{:.2f}" height="1"><title>{}</title></rect>
)",
             ZoneName(block.longest.zone), static_cast<double>(block.start_ns - start_ns) * scale,
             std::max(0.01, static_cast<double>(block.end_ns - block.start_ns) * scale), BlockText(block, start_ns));
  }
  page.Add("</svg></div>\n");
}

void AddTicks(Page& page, double token_ms) {
  page.Add(R"(<div class="ticks" aria-hidden="true">)");
  double coarser = 0;
  for (const auto& [name, most] : {std::pair("", 5), std::pair("fine", 25), std::pair("finest", 100)}) {
    const double step = TickStep(token_ms, most);
    // What does not stand on a tick that is there already; not so near the end that its text would stick out.
    for (int i = 0; i * step < token_ms * (most == 5 ? 0.86 : 0.98); ++i) {
      const double at = i * step;
      if (coarser > 0 && std::abs(at / coarser - std::round(at / coarser)) < 1e-6) continue;
      page.Add(R"(<span class="{}" style="left:{:.3f}%">{:.6g} ms</span>)", name, Percent(at, token_ms), at);
    }
    coarser = step;
  }
  page.Add("</div>\n");
}

void AddTimeline(Page& page, const Simulated& s, std::span<const Stage> stages, uint32_t cores) {
  page.Add(
      R"(<section aria-labelledby="h-timeline" id="timeline">
<h2 id="h-timeline">One token, modelled</h2>
)");
  if (s.tokens() < 2) {
    page.Add(
        "<p>Only one token was made, and that is the prompt’s: ask for more with -n to see one here.</p>\n"
        "</section>\n");
    return;
  }
  const int64_t start = s.last_token_start_ns;
  const int64_t end = s.last_token_end_ns;
  if (start >= end) {
    page.Add("<p>With these constants a token takes no time.</p>\n</section>\n");
    return;
  }
  const double token_ms = static_cast<double>(end - start) * 1e-6;
  const std::vector<TimelineBlock> blocks = Timeline(s.trace, start, end, kMaxBlocks);
  uint64_t slices = 0;
  for (const TimelineBlock& block : blocks) slices += block.slices;
  page.Add("<p>The last of the tokens: what the card, the bus of PSRAM and flash, and the cores do in its {:.1f} ms. ",
           token_ms);
  page.Add("Colours are parts of the model; a gap is a wait. “Busy” is the share over all tokens. {} events",
           Number(slices));
  if (slices != blocks.size()) {
    page.Add(", drawn in {} blocks: neighbours too short to see are one", Number(blocks.size()));
  }
  page.Add(".</p>\n");
  page.Add(R"(<ul class="legend">)");
  for (size_t i = 1; i < kNumZones; ++i) {
    const char* const zone = ZoneName(static_cast<Zone>(i));
    if (static_cast<Zone>(i) == Zone::kDraft && !s.run.drafter) continue;
    page.Add("<li>{}{}</li>", Swatch(fmt::format("z-{}", zone)), zone);
  }
  page.Add(
      R"(</ul>
<div class="timeline">
<fieldset class="zoom"><legend>Zoom</legend><input type="radio" name="zoom" id="zoom-1" )"
      R"(checked><label for="zoom-1">1×</label><input type="radio" name="zoom" id="zoom-5"><label )"
      R"(for="zoom-5">5×</label><input type="radio" name="zoom" id="zoom-20"><label for="zoom-20">20×)"
      R"(</label></fieldset>
<div class="scroll" tabindex="0" role="group" aria-label="Timeline of one token, modelled; )"
      R"(arrow keys go from block to block">
<div class="strip">
)");
  for (size_t i = 0; i < kNumLanes; ++i) {
    const auto lane = static_cast<Lane>(i);
    if (lane == Lane::kCore1 && cores < 2) continue;
    AddLane(page, lane, Percent(stages.back().busy_ms[i], stages.back().ms), blocks, start, end);
  }
  AddTicks(page, token_ms);
  page.Add(
      R"(</div>
</div>
<p class="readout" aria-live="polite">Point at a block to see what it is.</p>
</div>
</section>
)");
}

void AddStages(Page& page, const Simulated& s, std::span<const Stage> stages) {
  if (s.tokens() < 2) return;
  page.Add(
      R"(<section aria-labelledby="h-stages">
<h2 id="h-stages">Where a token’s time goes, modelled</h2>
<p>By part of the model, on average over {} tokens. “Waits”: core 0 has nothing to do until a )"
      R"(read is done. “Stalls”: it waits for a line of its cache. Bytes and reads are counted, not )"
      R"(modelled.</p>
<table class="stages" id="stages" role="table">
<thead role="rowgroup"><tr role="row">)",
      s.tokens() - 1);
  constexpr std::array<const char*, 11> kColumns = {"part",        "time, ms",   "waits, ms",    "stalls, ms",
                                                    "card bytes",  "reads",      "memory bytes", "card, ms",
                                                    "SPI bus, ms", "core 0, ms", "core 1, ms"};
  for (const char* column : kColumns) page.Add(R"(<th scope="col" role="columnheader">{}</th>)", column);
  page.Add(R"(</tr></thead>
<tbody role="rowgroup">
)");
  const double whole = stages.back().ms;
  for (const Stage& stage : stages) {
    const bool is_last = &stage == &stages.back();
    if (is_last) page.Add("</tbody>\n<tfoot role='rowgroup'>\n");
    const std::string colour = is_last ? "" : fmt::format("z-{}", stage.name);
    page.Add(R"(<tr role="row" class="{}"><th scope="row" role="rowheader">{}{}</th>)", colour,
             is_last ? "" : Swatch(colour), stage.name);
    size_t column = 1;
    const auto cell = [&](const std::string& text) {
      page.Add(R"(<td role="cell" data-label="{}">{}</td>)", kColumns[column++], text);
    };
    const auto ms = [](double value) { return fmt::format("{:.2f}", value); };
    const auto count = [](double value) { return Number(static_cast<uint64_t>(std::llround(value))); };
    cell(ms(stage.ms) + fmt::format(R"(<span class="bar" aria-hidden="true"><i style="width:{:.2f}%"></i></span>)",
                                    Percent(stage.ms, whole)));
    cell(ms(stage.waited_ms));
    cell(ms(stage.stalled_ms));
    cell(count(stage.card_bytes));
    cell(fmt::format("{:.1f}", stage.reads));
    cell(count(stage.psram_bytes + stage.flash_bytes));
    for (double busy : stage.busy_ms) cell(ms(busy));
    page.Add("</tr>\n");
  }
  page.Add("</tfoot>\n</table>\n</section>\n");
}

struct NamedBuffer {
  size_t id;
  uint64_t bytes;
  const char* name;
};

// The largest first.
std::vector<NamedBuffer> BuffersIn(const plan::Plan& plan, Region region) {
  std::vector<NamedBuffer> buffers;
  for (size_t i = 0; i < kNumBuffers; ++i) {
    const plan::Buffer& buffer = plan.buffers[i];
    if (buffer.bytes == 0 || buffer.region != region) continue;
    buffers.push_back({i, ArenaBytes(buffer.bytes), BufferName(static_cast<BufferId>(i))});
  }
  std::ranges::sort(buffers, {}, [](const NamedBuffer& b) { return std::pair(UINT64_MAX - b.bytes, b.id); });
  return buffers;
}

void AddRegion(Page& page, const plan::Plan& plan, Region region, uint64_t capacity) {
  constexpr size_t kColours = 6;
  const char* const name = RegionName(region);
  page.Add(R"(<div class="region" id="region-{0}">
<h3>{0}</h3>
)",
           name);
  if (capacity == 0) {
    page.Add("<p>This board has none.</p>\n</div>\n");
    return;
  }
  const uint64_t used = plan.region_bytes(region);
  const auto of_capacity = [&](uint64_t bytes) {
    return Percent(static_cast<double>(bytes), static_cast<double>(capacity));
  };
  page.Add("<p>{} of {} bytes, {:.1f} %</p>\n", Number(used), Number(capacity), of_capacity(used));
  page.Add(R"(<svg class="map" viewBox="0 0 {} 1" preserveAspectRatio="none" role="img" aria-label="{}: )"
           R"({:.1f} % used; its buffers follow as a list">
)",
           kPictureWidth, name, of_capacity(used));
  std::string list;
  double at = 0;
  size_t colour = 0;
  for (const NamedBuffer& buffer : BuffersIn(plan, region)) {
    const std::string m = fmt::format("m{}", colour++ % kColours);
    const double width = of_capacity(buffer.bytes) * kPictureWidth / 100;
    page.Add(R"(<rect class="{}" x="{:.2f}" width="{:.2f}" height="1"><title>{}: {} bytes</title></rect>
)",
             m, at, width, buffer.name, Number(buffer.bytes));
    at += width;
    list += fmt::format("<li><span>{}{}</span><span>{}</span><span>{:.1f} %</span></li>\n", Swatch(m), buffer.name,
                        Number(buffer.bytes), of_capacity(buffer.bytes));
  }
  const uint64_t free = capacity - std::min(capacity, used);
  page.Add(
      R"(</svg>
<ul>
{}<li class="free"><span>{}free</span><span>{}</span><span>{:.1f} %</span></li>
</ul>
</div>
)",
      list, Swatch("free"), Number(free), of_capacity(free));
}

void AddMemory(Page& page, const Board& board, const plan::Plan& plan) {
  page.Add(
      R"(<section aria-labelledby="h-memory">
<h2 id="h-memory">Memory</h2>
<p>Every buffer of the plan, to the scale of its region, in bytes. These are exact: the session )"
      R"(takes what is here, and nothing later.</p>
<div class="regions">
)");
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    AddRegion(page, plan, region, board.capacity(region));
  }
  page.Add("</div>\n</section>\n");
}

void AddImprovements(Page& page, std::span<const Improvement> improvements) {
  if (improvements.empty()) return;
  page.Add(
      R"(<section aria-labelledby="h-ladder">
<h2 id="h-ladder">What each improvement is worth, modelled</h2>
<p>The same model on the same board, from the first plan to the best that a search finds; each )"
      R"(line has all above it. The bar is typical, the thin line goes from low to high.</p>
<ol class="ladder" id="ladder">
)");
  double most = 0;
  for (const Improvement& improvement : improvements) most = std::max(most, improvement.simulated.tok_per_s[2]);
  const Simulated* before = nullptr;
  for (const Improvement& improvement : improvements) {
    const Range& speed = improvement.simulated.tok_per_s;
    page.Add(R"(<li><span class="what">{}</span>)", improvement.what);
    if (!improvement.refused.empty()) {
      page.Add(R"(<span class="refused">Not on this board: {}</span></li>
)",
               HtmlText(improvement.refused));
      continue;
    }
    page.Add(R"(<span class="track" aria-hidden="true"><i style="width:{:.2f}%"></i><u )"
             R"(style="left:{:.2f}%;width:{:.2f}%"></u></span><span class="speed">{:.2f} tok/s <small>{:.2f} to )"
             R"({:.2f}</small></span>)",
             Percent(speed[kTypical], most), Percent(speed[0], most), Percent(speed[2] - speed[0], most),
             speed[kTypical], speed[0], speed[2]);
    const double ms = improvement.simulated.ms_of_token();
    const std::string worth = before == nullptr || ms == 0 ? "" : fmt::format("× {:.2f} ", before->ms_of_token() / ms);
    page.Add(R"(<span class="worth">{}<small>{:.1f} ms a token</small></span>)", worth, ms);
    page.Add("</li>\n");
    before = &improvement.simulated;
  }
  page.Add("</ol>\n</section>\n");
}

void AddConstants(Page& page, const SimulationSetup& setup) {
  const BoardProfile& profile = setup.profile();
  page.Add(
      R"(<section aria-labelledby="h-constants">
<h2 id="h-constants">The constants</h2>
<p>{} cores at {} MHz, {} bytes of cache each in lines of {}; {}. Each is a cost: low makes the )"
      R"(fast end of a range.</p>
<details>
<summary>All constants and where they come from</summary>
<dl class="constants">
)",
      profile.cores, profile.cpu_mhz, Number(profile.cache_bytes), profile.line_bytes, ConstantsText(profile));
  const std::string mode = fmt::format("card.{}.", setup.card_mode);
  for (const auto& [key, cost] : profile.costs) {
    // Of the card's modes, the one in use; "card.random_us" belongs to all.
    if (key.starts_with("card.") && key.find('.', 5) != key.npos && !key.starts_with(mode)) continue;
    page.Add("<div><dt>{}</dt><dd>{:g}, {:g} to {:g} {}; {}<small>{}</small></dd></div>\n", HtmlText(key), cost.typical,
             cost.low, cost.high, UnitOf(key), ConfidenceName(cost.confidence), HtmlText(cost.source));
  }
  page.Add("</dl>\n</details>\n</section>\n");
}

}  // namespace

std::string SimulationPage(const std::string& model, const Simulation& simulation) {
  const SimulationSetup& setup = simulation.setup;
  const std::vector<SampledRun>& runs = simulation.runs;
  const Simulated& s = runs.front().simulated;
  const std::vector<Stage> stages = StagesOf(s);
  Page page;
  AddHead(page, model, setup, runs.front());
  page.Add("<main>\n");
  AddHeadline(page, runs, stages);
  AddText(page, s);
  AddTimeline(page, s, stages, setup.profile().cores);
  AddStages(page, s, stages);
  AddMemory(page, setup.board(), s.plan);
  AddImprovements(page, simulation.improvements);
  AddConstants(page, setup);
  page.Add(
      "</main>\n<footer>Made by thimble {}, “simulate --html”. Nobody has measured this model on this board with it: "
      "every time and speed is modelled.</footer>\n<script>\n{}</script>\n</body>\n</html>\n",
      THIMBLE_VERSION, kPageScript);
  return std::move(page.text());
}

}  // namespace thimble::host
