#include "host/reports/comparison_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "host/reports/axis.h"
#include "host/support/html_text.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

constexpr double kWidth = 760;
constexpr double kLeft = 84;
constexpr double kRight = kWidth - 24;
constexpr double kLanesTop = 92;
constexpr double kLaneHeight = 24;
constexpr double kScaleHeight = 240;
constexpr double kLetterWidth = 7.2;  // of the labels, at most
constexpr size_t kMaxTitle = 64;      // bytes that surely fit
constexpr double kHealthy = 0.001;

constexpr char kStyle[] = R"(
text { font: 13px "DejaVu Sans", Verdana, sans-serif; fill: #1f1d1a; }
.title { font-size: 16px; font-weight: bold; }
.soft { fill: #5f5a52; }
.ground { fill: #fdfdfb; }
.grid { stroke: #ddd7cc; }
.axis { stroke: #5f5a52; }
.limit { stroke: #5f5a52; stroke-dasharray: 5 4; }
.s0 { color: #2a66b0; } .s1 { color: #17805f; } .s2 { color: #96690a; } .s3 { color: #b5482c; } .s4 { color: #7b4fa6; }
.range { stroke: currentColor; stroke-width: 6; stroke-linecap: round; opacity: 0.3; }
.full { fill: #fdfdfb; stroke: currentColor; stroke-width: 2.5; }
.screened { fill: currentColor; stroke: currentColor; stroke-width: 2.5; }
.label { fill: currentColor; font-weight: bold; }
.key { color: #5f5a52; }
@media (prefers-color-scheme: dark) {
  text { fill: #eeebe4; }
  .soft { fill: #aaa69c; }
  .ground, .full { fill: #161715; }
  .grid { stroke: #383a35; }
  .axis, .limit { stroke: #aaa69c; }
  .s0 { color: #75abe8; } .s1 { color: #55c39d; } .s2 { color: #d8a444; } .s3 { color: #ef8a6c; } .s4 { color: #bb9ae2; }
  .key { color: #aaa69c; }
}
)";

// One row of the table as it is drawn.
struct Series {
  const Compared* row = nullptr;
  size_t colour = 0;
  double kld = 0;
  double y = 0;
  double low = 0;  // tok/s, of both heads
  double high = 0;
};

bool IsShown(const ComparedHead& head) { return head.refused.empty() && head.simulated.tokens() > 1; }

std::vector<Series> SeriesOf(const Comparison& comparison) {
  std::vector<Series> all;
  for (size_t i = 0; i < comparison.rows.size(); ++i) {
    const Compared& row = comparison.rows[i];
    if (!row.same_as.empty()) continue;
    Series series = {.row = &row, .colour = i, .kld = row.quality.divergence->kld_mean};
    bool is_first = true;
    for (const ComparedHead* head : {&row.full, &row.screened}) {
      if (!IsShown(*head)) continue;
      const Range& range = head->simulated.tok_per_s;
      series.low = is_first ? range[0] : std::min(series.low, range[0]);
      series.high = std::max(series.high, range[2]);
      is_first = false;
    }
    if (!is_first) all.push_back(series);
  }
  return all;
}

class Plot {
 public:
  explicit Plot(const Comparison& comparison) : all_(SeriesOf(comparison)) {
    for (const Series& series : all_) {
      most_speed_ = std::max(most_speed_, series.high);
      most_kld_ = std::max(most_kld_, series.kld);
      lanes_ += series.kld == 0;
    }
    most_speed_ = most_speed_ > 0 ? 1.05 * most_speed_ : 1;
    most_kld_ = std::max(1.25 * kHealthy, 1.15 * most_kld_);
    scale_top_ = kLanesTop + kLaneHeight * static_cast<double>(std::max<size_t>(lanes_, 1));
    bottom_ = scale_top_ + kScaleHeight;
    size_t lane = 0;
    for (Series& series : all_) {
      series.y = series.kld == 0 ? kLanesTop + kLaneHeight * (static_cast<double>(lane++) + 0.5) : YOf(series.kld);
    }
    Draw(comparison);
  }

  std::string& text() { return text_; }

 private:
  template <typename... Args>
  void Add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  double XOf(double speed) const { return kLeft + speed / most_speed_ * (kRight - kLeft); }
  double YOf(double kld) const { return scale_top_ + kld / most_kld_ * kScaleHeight; }

  void Draw(const Comparison& comparison) {
    const double height = bottom_ + 58;
    const std::string model = HtmlText(Quote(NameOf(comparison.model)));
    const std::string board = HtmlText(comparison.board);
    Add(R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" aria-label="{} on {}: KL )"
        R"(divergence from float32 against modelled tokens a second">)",
        kWidth, height, model, board);
    Add("<style>{}</style>", kStyle);
    Add(R"(<rect class="ground" width="{}" height="{}" rx="8"/>)", kWidth, height);
    const std::string title = fmt::format("{} on {}: quality against speed", model, board);
    Add(R"(<text class="title" x="24" y="32"{}>{}</text>)",
        title.size() < kMaxTitle ? "" : R"( textLength="712" lengthAdjust="spacingAndGlyphs")", title);
    Add(R"(<text class="soft" x="24" y="53">Nearer the top: nearer to float32. Speeds are modelled, bars from low to )"
        R"(high constants.</text>)");
    Key(30, "full", "full scan");
    Key(130, "screened", "screened head, the same tokens");
    SpeedAxis();
    DivergenceAxis();
    for (const Series& series : all_) Ranges(series);
    for (const Series& series : all_) {
      Point(series, series.row->full, "full");
      Point(series, series.row->screened, "screened");
    }
    Labels();
    Add("</svg>");
  }

  void Key(double x, const char* name, const char* meaning) {
    Add(R"(<circle class="{} key" cx="{}" cy="{}" r="5.5"/><text class="soft" x="{}" y="{}">{}</text>)", name, x, 73,
        x + 11, 77.5, meaning);
  }

  void SpeedAxis() {
    const double step = TickStep(most_speed_, 8);
    for (int i = 0; i * step <= most_speed_; ++i) {
      const double x = XOf(i * step);
      Add(R"(<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>)", x, kLanesTop, bottom_);
      Add(R"(<text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="middle">{:.6g}</text>)", x, bottom_ + 19, i * step);
    }
    Add(R"(<text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="middle">tokens a second, modelled</text>)",
        (kLeft + kRight) / 2, bottom_ + 42);
  }

  void DivergenceAxis() {
    Add(R"(<line class="axis" x1="{0}" x2="{0}" y1="{1}" y2="{2:.1f}"/>)", kLeft, kLanesTop, bottom_);
    Add(R"(<line class="axis" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>)", kLeft, kRight, bottom_);
    Add(R"(<line class="axis" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>)", kLeft, kRight, scale_top_);
    Add(R"(<text class="soft" x="{}" y="{:.1f}" text-anchor="end">exact</text>)", kLeft - 8,
        (kLanesTop + scale_top_) / 2 + 4.5);
    const double step = TickStep(most_kld_, 5);
    for (int i = 1; i * step <= most_kld_; ++i) {
      const double y = YOf(i * step);
      Add(R"(<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>)", kLeft, kRight, y);
      Add(R"(<text class="soft" x="{}" y="{:.1f}" text-anchor="end">{:.6g}</text>)", kLeft - 8, y + 4.5, i * step);
    }
    Add(R"X(<text class="soft" transform="translate(20 {:.1f}) rotate(-90)" text-anchor="middle">mean KL divergence</text>)X",
        (scale_top_ + bottom_) / 2);
    const double healthy = YOf(kHealthy);
    Add(R"(<line class="limit" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>)", kLeft, kRight, healthy);
    Add(R"(<text class="soft" x="{}" y="{:.1f}">healthy: at most {}</text>)", kLeft + 8, healthy - 6, kHealthy);
  }

  void Ranges(const Series& series) {
    for (const ComparedHead* head : {&series.row->full, &series.row->screened}) {
      if (!IsShown(*head)) continue;
      const Range& range = head->simulated.tok_per_s;
      Add(R"(<line class="range s{0}" x1="{1:.1f}" x2="{2:.1f}" y1="{3:.1f}" y2="{3:.1f}"/>)", series.colour,
          XOf(range[0]), XOf(range[2]), series.y);
    }
  }

  void Point(const Series& series, const ComparedHead& head, const char* name) {
    if (!IsShown(head)) return;
    const Range& range = head.simulated.tok_per_s;
    Add(R"(<g class="s{}"><circle class="{}" cx="{:.1f}" cy="{:.1f}" r="5.5"><title>{}, {}: {:.2f} tok/s modelled )"
        R"(({:.2f} to {:.2f}), KL divergence {:.6f}, same top token {:.2f} %</title></circle></g>)",
        series.colour, name, XOf(range[kTypical]), series.y, series.row->stored, name, range[kTypical], range[0],
        range[2], series.kld, 100 * series.row->quality.divergence->top_match);
  }

  struct Box {
    double left, right, top, bottom;
    bool Meets(const Box& o) const { return left < o.right && o.left < right && top < o.bottom && o.top < bottom; }
  };

  // Where the points of a row are.
  std::vector<double> PointsOf(const Series& series) const {
    std::vector<double> xs;
    for (const ComparedHead* head : {&series.row->full, &series.row->screened}) {
      if (IsShown(*head)) xs.push_back(XOf(head->simulated.tok_per_s[kTypical]));
    }
    return xs;
  }

  // Each at its fastest point: beside the bars of an exact row, else above the point or below it, wherever it meets
  // neither a point nor a label; at last beside the bars.
  void Labels() {
    constexpr double kRadius = 7;
    std::vector<const Series*> by_height;
    std::vector<Box> taken;
    for (const Series& series : all_) {
      by_height.push_back(&series);
      for (const double x : PointsOf(series)) {
        taken.push_back({x - kRadius, x + kRadius, series.y - kRadius, series.y + kRadius});
      }
    }
    std::ranges::sort(by_height, {}, [](const Series* series) { return std::pair(series->y, series); });
    for (const Series* series : by_height) {
      const double width = kLetterWidth * 1.2 * static_cast<double>(series->row->stored.size());
      const double point = std::ranges::max(PointsOf(*series));
      const double middle = std::clamp(point - width / 2, kLeft + 4, kRight - width);
      const double right = XOf(series->high) + 14;
      const auto box = [&](double x, double y) { return Box{x, x + width, y - 11, y + 3}; };
      std::vector<Box> places;
      if (series->kld != 0) places = {box(middle, series->y - 12), box(middle, series->y + 22)};
      if (right + width < kRight) places.push_back(box(right, series->y + 4.5));
      places.push_back(box(XOf(series->low) - 14 - width, series->y + 4.5));
      const auto is_free = [&](const Box& place) {
        return std::ranges::none_of(taken, [&](const Box& other) { return place.Meets(other); });
      };
      const auto found = std::ranges::find_if(places, is_free);
      const Box place = found != places.end() ? *found : places.back();
      taken.push_back(place);
      Add(R"(<text class="label s{}" x="{:.1f}" y="{:.1f}">{}</text>)", series->colour, place.left, place.bottom - 3,
          series->row->stored);
    }
  }

  std::string text_;
  std::vector<Series> all_;
  double most_speed_ = 0;
  double most_kld_ = 0;
  size_t lanes_ = 0;  // of rows that are exact
  double scale_top_ = 0;
  double bottom_ = 0;
};

}  // namespace

std::string ComparisonPlot(const Comparison& comparison) { return std::move(Plot(comparison).text()); }

}  // namespace thimble::host
