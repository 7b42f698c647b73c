#include "host/models/draft_choice.h"

#include <algorithm>
#include <cmath>

#include "engine/math/kernels.h"

namespace thimble::host {
namespace {

constexpr double kLeastGain = 0.05;

// Positions that a token looks back at, of keys and values: of a text of some length.
constexpr uint32_t kPositions = 128;

}  // namespace

DraftCosts::DraftCosts(const formats::ModelFile& model, const plan::Plan& plan, bool has_checks,
                       const ClockConstants& c) {
  const auto compute_ns = [&](Kernel kernel, double units) {
    return units * c.cycles[static_cast<size_t>(kernel)] * 1000 / c.cpu_mhz;
  };
  const auto shared_ns = [&](double ns) { return ns / c.cores + (c.cores > 1 ? c.fork_ns : 0); };
  const auto read_ns = [&](double bytes, double reads) { return reads * c.command_ns + bytes / 512 * c.sector_ns; };
  const ModelShape& s = model.shape;
  for (const TensorRef& tensor : model.tensors) {
    const plan::TokenCost cost = plan.PlacementOf(tensor).cost;
    const double card_ns = read_ns(static_cast<double>(cost.card_bytes), static_cast<double>(cost.reads));
    const double macs = static_cast<double>(tensor.rows) * tensor.cols;
    switch (ZoneOf(tensor.id.kind)) {
      case Zone::kEmbedding:
        lone_ns_ += card_ns + c.random_ns + compute_ns(Kernel::kExpand, tensor.cols);
        break;
      case Zone::kAttention:
      case Zone::kFfn:
        card_ns_ += card_ns;
        if (has_checks) {
          check_ns_ += shared_ns(compute_ns(Kernel::kXxh32, static_cast<double>(cost.card_bytes)));
        }
        layers_ns_ += shared_ns(compute_ns(math::MatvecKernel(tensor.type), macs));
        break;
      case Zone::kHead:
        head_ns_ += card_ns + (plan.screened ? static_cast<double>(cost.screen_bytes) / c.line_bytes * c.psram_line_ns
                                             : shared_ns(compute_ns(math::MatvecKernel(tensor.type), macs)));
        break;
      default:
        break;
    }
  }
  if (plan.buffer(BufferId::kKvCache).region == Region::kPsram) {
    const uint64_t row_bytes =
        StoredBytes(plan.options.cache.k, s.kv_dim()) + StoredBytes(plan.options.cache.v, s.kv_dim());
    const double bytes = static_cast<double>(row_bytes) * s.num_hidden_layers * std::min(plan.n_ctx, kPositions);
    lone_ns_ += bytes / c.line_bytes * c.psram_line_ns;
  }
}

double DraftCosts::pass_ns(uint32_t guesses) const {
  const double positions = guesses + 1;
  return std::max(card_ns_, check_ns_ + positions * layers_ns_) + positions * lone_ns_;
}

double DraftCosts::token_ns(uint32_t guesses, double tokens_a_pass) const {
  return pass_ns(guesses) / tokens_a_pass + head_ns_;
}

uint32_t DraftCosts::worth_percent(uint32_t guesses, double guess_ns) const {
  const double each = (pass_ns(guesses) - pass_ns(0)) / guesses + guess_ns;
  return static_cast<uint32_t>(std::clamp(std::ceil(100 * each / pass_ns(0)), 1.0, 100.0));
}

uint32_t BestDrafts(const DraftCosts& costs, const formats::DraftUse& use) {
  uint32_t best = 0;
  double least = costs.token_ns(0, 1) * (1 - kLeastGain);
  for (uint32_t guesses = 1; guesses <= use.size(); ++guesses) {
    if (use[guesses - 1] < 1) continue;
    const double ns = costs.token_ns(guesses, static_cast<double>(use[guesses - 1]));
    if (ns >= least) continue;
    least = ns;
    best = guesses;
  }
  return best;
}

}  // namespace thimble::host
