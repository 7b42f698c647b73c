#include "host/quant_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <utility>

#include "host/judge.h"
#include "host/knapsack.h"
#include "host/source.h"
#include "host/text.h"

namespace thimble::host {
namespace {

// Models that are measured side by side, so that the base is run once for all of them: so many, and so large together.
constexpr size_t kMostAtOnce = 8;
constexpr uint64_t kMostBytesAtOnce = uint64_t{1} << 30;

// Choices that are measured after each matrix was alone.
constexpr int kMostTries = 8;

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

using Choice = std::vector<bool>;  // of the candidates, those in Q8_0

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
      const bool fits = dims.cols % BlockElements(DType::kQ8_0) == 0 && exact_[i].type != DType::kQ8_0;
      if (fits && !IsNamed(recipe, exact_[i].id)) candidates_.push_back(i);
    }
    THIMBLE_ASSIGN(ModelSource source, WriteTemporary(*checkpoint_, exact_));
    base_file_.emplace(std::move(source));
    const uint32_t chunk = std::min(limit_->chunk, checkpoint_->shape.max_position_embeddings);
    THIMBLE_ASSIGN(base_, OpenModel(*base_file_, chunk));
    std::vector<TokenId> ids;
    if (limit_->text_file.empty()) {
      THIMBLE_ASSIGN(ids, OwnText(base_->loaded(), size_t{chunk} * limit_->chunks));
    } else {
      THIMBLE_ASSIGN(ids, ReadTokens(limit_->text_file, base_->loaded()));
    }
    THIMBLE_ASSIGN(text_, InChunks(std::move(ids), chunk, limit_->chunks, base_->loaded(), TextName()));
    return {};
  }

  Expected<QuantFound> Run() {
    const Choice none(candidates_.size(), false);
    THIMBLE_TRY(MeasureAll({Choice(candidates_.size(), true)}));
    if (!HasGood()) {
      THIMBLE_ASSIGN(const std::vector<KnapsackItem> items, MeasureEach());
      THIMBLE_TRY(TryChoices(items));
    }
    if (!HasGood()) THIMBLE_TRY(MeasureAll({none}));  // what is not changed is as it is
    const Measured& best = *best_;
    return QuantFound{.types = TypesOf(best.choice),
                      .quality = best.quality,
                      .token_bytes = TokenBytes(*checkpoint_, TypesOf(best.choice)),
                      .exact_token_bytes = TokenBytes(*checkpoint_, exact_),
                      .measured = static_cast<uint32_t>(measured_.size()),
                      .text = TextName()};
  }

 private:
  struct Measured {
    Choice choice;
    Quality quality;
    double kld() const { return quality.divergence->kld_mean; }
  };

  std::string TextName() const { return limit_->text_file.empty() ? "texts of the model's own" : limit_->text_file; }

  std::vector<ChosenType> TypesOf(const Choice& choice) const {
    std::vector<ChosenType> types = exact_;
    for (size_t c = 0; c < choice.size(); ++c) {
      if (!choice[c]) continue;
      types[candidates_[c]].type = DType::kQ8_0;
      types[candidates_[c]].why = "rounded to blocks of 32";
    }
    return types;
  }

  static Expected<JudgedModel> OpenModel(const ModelSource& file, uint32_t chunk) {
    return JudgedModel::OpenHere({.model = file.path(), .name = "a trial"}, chunk);
  }

  bool HasGood() const { return best_.has_value(); }
  const Measured* Find(const Choice& choice) const {
    const auto found = std::ranges::find(measured_, choice, &Measured::choice);
    return found != measured_.end() ? &*found : nullptr;
  }

  // Measures those that were not yet, side by side.
  Status MeasureAll(const std::vector<Choice>& choices) {
    const uint64_t file_bytes = std::max<uint64_t>(1, FileBytes(*checkpoint_, exact_));
    const size_t at_once = std::clamp<size_t>(static_cast<size_t>(kMostBytesAtOnce / file_bytes), 1, kMostAtOnce);
    for (size_t first = 0; first < choices.size(); first += at_once) {
      std::vector<ModelSource> files;
      std::vector<JudgedModel> models;
      const size_t end = std::min(choices.size(), first + at_once);
      for (size_t i = first; i < end; ++i) {
        THIMBLE_ASSIGN(ModelSource file, WriteTemporary(*checkpoint_, TypesOf(choices[i])));
        THIMBLE_ASSIGN(JudgedModel model, OpenModel(file, text_.n_ctx));
        files.push_back(std::move(file));
        models.push_back(std::move(model));
      }
      THIMBLE_ASSIGN(const std::vector<Quality> judged, Judge(models, &*base_, text_));
      for (size_t i = first; i < end; ++i) Keep({choices[i], judged[i - first]});
    }
    return {};
  }

  void Keep(Measured measured) {
    const auto bytes_of = [&](const Choice& choice) { return TokenBytes(*checkpoint_, TypesOf(choice)); };
    const bool is_good = measured.kld() <= limit_->kld_max;
    if (is_good && (!best_ || bytes_of(measured.choice) < bytes_of(best_->choice))) best_ = measured;
    measured_.push_back(std::move(measured));
  }

  Expected<std::vector<KnapsackItem>> MeasureEach() {
    std::vector<Choice> alone;
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
  Status TryChoices(const std::vector<KnapsackItem>& items) {
    double budget = limit_->kld_max;
    for (int i = 0; i < kMostTries; ++i) {
      const Choice choice = MostValue(items, budget);
      if (std::ranges::none_of(choice, [](bool b) { return b; })) return {};
      const bool is_new = Find(choice) == nullptr;
      if (is_new) THIMBLE_TRY(MeasureAll({choice}));
      const double kld = Find(choice)->kld();
      const bool is_good = kld <= limit_->kld_max;
      if (!is_new && is_good) return {};
      double sum = 0;
      for (size_t c = 0; c < items.size(); ++c) sum += choice[c] ? items[c].weight : 0;
      // Below the sum itself, if that was too much: another choice must come of it.
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

std::string QuantFoundText(const QuantFound& found, const QuantLimit& limit) {
  const Divergence& d = *found.quality.divergence;
  return fmt::format(
      "KL divergence {:.6f} of at most {}, same top token {:.1f} %: over {} tokens of {}\n"
      "a token reads {} of weights in a full scan, {} without rounding; {} models measured\n",
      d.kld_mean, limit.kld_max, 100 * d.top_match, found.quality.tokens, found.text, Megabytes(found.token_bytes),
      Megabytes(found.exact_token_bytes), found.measured);
}

}  // namespace thimble::host
