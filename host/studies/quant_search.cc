#include "host/studies/quant_search.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <utility>

#include "host/models/source.h"
#include "host/studies/judge.h"
#include "host/studies/knapsack.h"
#include "host/support/input_file.h"

namespace thimble::host {
namespace {

// Models that are measured side by side, so that the base is run once for all of them: so many, and so large together.
constexpr size_t kMaxAtOnce = 8;
constexpr uint64_t kMaxBytesAtOnce = uint64_t{1} << 30;

// Roundings that are measured after each matrix was alone.
constexpr int kMaxTries = 8;

// What a token reads of a matrix.
uint64_t TokenBytes(const Checkpoint& checkpoint, const ChosenType& chosen) {
  const TensorDims dims = DimsOf(chosen.id.kind, checkpoint.shape);
  const bool is_row = chosen.id.kind == TensorKind::kTokenEmbd && !checkpoint.tied;
  return StoredBytes(chosen.type, uint64_t{dims.cols} * (is_row ? 1 : dims.rows));
}

uint64_t TokenBytes(const Checkpoint& checkpoint, std::span<const ChosenType> types) {
  uint64_t bytes = 0;
  for (const ChosenType& chosen : types) bytes += TokenBytes(checkpoint, chosen);
  return bytes;
}

uint64_t FileBytes(const Checkpoint& checkpoint, std::span<const ChosenType> types) {
  uint64_t bytes = 0;
  for (const ChosenType& chosen : types) {
    const TensorDims dims = DimsOf(chosen.id.kind, checkpoint.shape);
    bytes += StoredBytes(chosen.type, uint64_t{dims.rows} * dims.cols);
  }
  return bytes;
}

using Rounding = std::vector<bool>;  // of the candidates, those in Q8_0

class Search {
 public:
  Search(const Checkpoint& checkpoint, const QuantLimit& limit) : checkpoint_(&checkpoint), limit_(&limit) {}

  Status Open(const TypeRecipe& recipe) {
    TypeRecipe as_is = recipe;
    as_is.quant = Quant::kNone;
    THIMBLE_ASSIGN(exact_, ChooseTypes(*checkpoint_, as_is));
    // What is in Q8_0 here and not there is a candidate: its rows are whole blocks and no rule names it.
    for (size_t i = 0; i < exact_.size(); ++i) {
      const TensorDims dims = DimsOf(exact_[i].id.kind, checkpoint_->shape);
      const bool fits = dims.cols % BlockElements(DType::kQ8_0) == 0 && !IsOfBlocks(exact_[i].type);
      if (fits && !IsNamed(recipe, exact_[i].id)) candidates_.push_back(i);
    }
    THIMBLE_ASSIGN(ModelSource source, WriteTemporary(*checkpoint_, exact_));
    base_file_.emplace(std::move(source));
    const uint32_t chunk = std::min(limit_->chunk, checkpoint_->shape.max_position_embeddings);
    THIMBLE_ASSIGN(base_, OpenModel(*base_file_, chunk));
    THIMBLE_ASSIGN(text_, ReadText(limit_->text_file, chunk, limit_->chunks, base_->loaded()));
    return {};
  }

  Expected<QuantFound> Run() {
    const Rounding none(candidates_.size(), false);
    THIMBLE_TRY(MeasureAll({Rounding(candidates_.size(), true)}));
    if (!HasGood()) {
      THIMBLE_ASSIGN(const std::vector<KnapsackItem> items, MeasureEach());
      THIMBLE_TRY(TryRoundings(items));
    }
    if (!HasGood()) THIMBLE_TRY(MeasureAll({none}));  // what is not changed is as it is
    const Measured& best = *best_;
    return QuantFound{.types = TypesOf(best.rounding),
                      .quality = best.quality,
                      .token_bytes = TokenBytes(*checkpoint_, TypesOf(best.rounding)),
                      .exact_token_bytes = TokenBytes(*checkpoint_, exact_),
                      .measured = static_cast<uint32_t>(measured_.size()),
                      .text = NameOfText(limit_->text_file)};
  }

 private:
  struct Measured {
    Rounding rounding;
    Quality quality;
    double kld() const { return quality.divergence->kld_mean; }
  };

  std::vector<ChosenType> TypesOf(const Rounding& rounding) const {
    std::vector<ChosenType> types = exact_;
    for (size_t c = 0; c < rounding.size(); ++c) {
      if (!rounding[c]) continue;
      types[candidates_[c]].type = DType::kQ8_0;
      types[candidates_[c]].why = "rounded to blocks of 32";
    }
    return types;
  }

  static Expected<JudgedModel> OpenModel(const ModelSource& file, uint32_t chunk) {
    return JudgedModel::OpenHere({.model = file.path(), .name = "a trial"}, chunk);
  }

  bool HasGood() const { return best_.has_value(); }
  const Measured* Find(const Rounding& rounding) const {
    const auto found = std::ranges::find(measured_, rounding, &Measured::rounding);
    return found != measured_.end() ? &*found : nullptr;
  }

  // Measures those that were not yet, side by side.
  Status MeasureAll(const std::vector<Rounding>& roundings) {
    const uint64_t file_bytes = std::max<uint64_t>(1, FileBytes(*checkpoint_, exact_));
    const size_t at_once = std::clamp<size_t>(static_cast<size_t>(kMaxBytesAtOnce / file_bytes), 1, kMaxAtOnce);
    for (size_t first = 0; first < roundings.size(); first += at_once) {
      std::vector<ModelSource> files;
      std::vector<JudgedModel> models;
      const size_t end = std::min(roundings.size(), first + at_once);
      for (size_t i = first; i < end; ++i) {
        THIMBLE_ASSIGN(ModelSource file, WriteTemporary(*checkpoint_, TypesOf(roundings[i])));
        THIMBLE_ASSIGN(JudgedModel model, OpenModel(file, text_.n_ctx));
        files.push_back(std::move(file));
        models.push_back(std::move(model));
      }
      THIMBLE_ASSIGN(const std::vector<Quality> judged, Judge(models, &*base_, text_));
      for (size_t i = first; i < end; ++i) Keep({roundings[i], judged[i - first]});
    }
    return {};
  }

  void Keep(Measured measured) {
    const auto bytes_of = [&](const Rounding& rounding) { return TokenBytes(*checkpoint_, TypesOf(rounding)); };
    const bool is_good = measured.kld() <= limit_->kld_max;
    if (is_good && (!best_ || bytes_of(measured.rounding) < bytes_of(best_->rounding))) best_ = measured;
    measured_.push_back(std::move(measured));
  }

  Expected<std::vector<KnapsackItem>> MeasureEach() {
    std::vector<Rounding> alone;
    for (size_t c = 0; c < candidates_.size(); ++c) {
      alone.emplace_back(candidates_.size(), false);
      alone.back()[c] = true;
    }
    THIMBLE_TRY(MeasureAll(alone));
    std::vector<KnapsackItem> items;
    for (size_t c = 0; c < candidates_.size(); ++c) {
      const ChosenType& as_is = exact_[candidates_[c]];
      ChosenType rounded = as_is;
      rounded.type = DType::kQ8_0;
      items.push_back({.value = TokenBytes(*checkpoint_, as_is) - TokenBytes(*checkpoint_, rounded),
                       .weight = Find(alone[c])->kld()});
    }
    return items;
  }

  // Small errors add up nearly, so the sum's budget is set right by what comes of it.
  Status TryRoundings(const std::vector<KnapsackItem>& items) {
    double budget = limit_->kld_max;
    for (int i = 0; i < kMaxTries; ++i) {
      const Rounding rounding = MostValue(items, budget);
      if (std::ranges::none_of(rounding, [](bool b) { return b; })) return {};
      const bool is_new = Find(rounding) == nullptr;
      if (is_new) THIMBLE_TRY(MeasureAll({rounding}));
      const double kld = Find(rounding)->kld();
      const bool is_good = kld <= limit_->kld_max;
      if (!is_new && is_good) return {};
      double sum = 0;
      for (size_t c = 0; c < items.size(); ++c) sum += rounding[c] ? items[c].weight : 0;
      // Below the sum itself, if that was too much: another rounding must come of it.
      budget = is_good ? budget * std::min(limit_->kld_max / std::max(kld, limit_->kld_max / 4), 2.0)
                       : std::min(budget * limit_->kld_max / kld, std::nextafter(sum, 0.0) * 0.999);
    }
    return {};
  }

  const Checkpoint* checkpoint_;
  const QuantLimit* limit_;
  std::vector<ChosenType> exact_;
  std::vector<size_t> candidates_;  // indices of exact_
  std::optional<ModelSource> base_file_;
  std::optional<JudgedModel> base_;
  JudgedText text_;
  std::vector<Measured> measured_;
  std::optional<Measured> best_;  // of those within the limit
};

}  // namespace

Expected<QuantFound> SearchQuant(const Checkpoint& checkpoint, const TypeRecipe& recipe, const QuantLimit& limit) {
  Search search(checkpoint, limit);
  THIMBLE_TRY(search.Open(recipe));
  return search.Run();
}

Expected<SearchedConversion> ConvertWithin(ConvertOptions options, const QuantLimit& limit) {
  SearchedConversion result;
  options.choose = [&](const Checkpoint& checkpoint, const TypeRecipe& recipe) -> Expected<std::vector<ChosenType>> {
    THIMBLE_ASSIGN(result.found, SearchQuant(checkpoint, recipe, limit));
    return result.found.types;
  };
  // Opened now, so that it is known from the start whether it can be, and that nothing is written in its place.
  if (!limit.text_file.empty()) THIMBLE_TRY(InputFile::Open(limit.text_file));
  THIMBLE_ASSIGN(result.converted, Convert(options));
  return result;
}

}  // namespace thimble::host
