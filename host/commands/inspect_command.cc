// thimble inspect: what is in a model, and how large it is against a board.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/session.h"
#include "engine/storage/volume.h"
#include "engine/text/chat_template.h"
#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/commands/result_json.h"
#include "host/formats/tensor_name.h"
#include "host/models/loaded_model.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

struct InspectCommandOptions {
  ModelRequest model;
  bool json = false;
};

uint64_t Parameters(const TensorRef& tensor) { return uint64_t{tensor.rows} * tensor.cols; }

// What a user would want to know before a run.
std::vector<std::string> Warnings(LoadedModel& loaded) {
  const formats::ModelFile& model = loaded.model();
  const uint32_t block_bytes = loaded.reader().block_bytes();
  std::vector<std::string> warnings;
  if (const std::string why = loaded.no_texts(); !why.empty()) {
    warnings.push_back(fmt::format("prompts are given as ids (run --ids 1,2,3): {}", why));
  } else if (!model.tokenizer.present) {
    warnings.push_back("there is no tokenizer: prompts are given as ids (run --ids 1,2,3)");
  } else if (model.tokenizer.eos == kNoToken) {
    warnings.push_back("there is no end token: a text ends only when the context is full (run -n or --stop ends it)");
  }
  const auto plan = PlanSession(model, loaded.board(), block_bytes, {});
  if (!plan) {
    const uint32_t fits = LargestContext(model, loaded.board(), block_bytes, {});
    warnings.push_back(fmt::format("it does not fit {}: {}{}", loaded.board().name, SentenceOf(plan.error()),
                                   fits == 0 ? "" : fmt::format(" (run -c {} fits)", fits)));
  }
  if (const size_t pieces = loaded.opened().extents.size(); pieces > 1) {
    warnings.push_back(
        fmt::format("the file lies in {} pieces on the card, {} at most can be used: a tile across two of them takes "
                    "two reads, and on a freshly formatted card it is whole",
                    pieces, storage::kUsualExtents));
  }
  uint64_t off_block = 0;
  for (const TensorRef* tensor : StoredTensors(model)) off_block += tensor->offset % block_bytes != 0;
  if (off_block != 0) {
    warnings.push_back(
        fmt::format("{} of the tensors do not start on a block of {} bytes, so that neighbouring tiles read a block "
                    "twice: 'thimble convert' writes a file without that",
                    off_block, block_bytes));
  }
  return warnings;
}

std::string IdText(TokenId id) { return id == kNoToken ? "none" : fmt::format("{}", id); }

// "128 KiB", "2.75 MiB".
std::string MemoryText(uint64_t bytes) {
  const bool small = bytes < 1 << 20;
  return fmt::format("{:.4g} {}", static_cast<double>(bytes) / (small ? 1 << 10 : 1 << 20), small ? "KiB" : "MiB");
}

// "12.4", and no zero of what is there.
std::string RatioText(double ratio) {
  return ratio < 0.95 ? fmt::format("{:.2g}", ratio) : fmt::format("{:.1f}", ratio);
}

// How rotary positions are scaled, if they are.
std::string ScalingText(const ModelShape& shape) {
  if (shape.rope_linear_factor != 1) return fmt::format(" scaled by {:g}", shape.rope_linear_factor);
  return shape.has_rope_factors ? " scaled by rope_freqs.weight" : "";
}

// The chat template that the model brings: its name, or why there is none; empty if it brings none.
std::string ChatText(LoadedModel& loaded) {
  const auto jinja = loaded.ReadChatTemplate();
  if (!jinja) return jinja.error();
  if (jinja->empty()) return "";
  const auto chat = text::ChatTemplate::Recognise(*jinja);
  return chat ? text::ChatKindName(chat->kind()) : SentenceOf(chat.error());
}

void PrintText(LoadedModel& loaded) {
  const formats::ModelFile& model = loaded.model();
  const ModelShape& s = model.shape;
  const ModelSize totals = SizeOf(model);
  std::string out = fmt::format("{}\n\n{:28} {:>15}  {:5} {:>13} {:>10}\n", Visible(loaded.description()), "tensor",
                                "shape", "type", "parameters", "MB");
  for (const TensorRef* tensor : StoredTensors(model)) {
    out += fmt::format("{:28} {:>15}  {:5} {:>13} {:>10.3f}\n", TensorName(tensor->id),
                       fmt::format("{} x {}", tensor->rows, tensor->cols), DTypeName(tensor->type),
                       Grouped(Parameters(*tensor)), static_cast<double>(tensor->size_bytes()) / 1e6);
  }
  out += fmt::format("{:28} {:>15}  {:5} {:>13} {:>10.3f}\n\n", fmt::format("{} tensors", totals.tensors), "", "",
                     Grouped(totals.parameters), static_cast<double>(totals.bytes) / 1e6);
  out += fmt::format(
      "shape     {}{} layer{}, hidden size {}, {} heads on {} key/value heads of {}, intermediate size {}\n",
      s.architecture == Architecture::kLlama ? "" : fmt::format("{}, ", ArchitectureName(s.architecture)),
      s.num_hidden_layers, s.num_hidden_layers == 1 ? "" : "s", s.hidden_size, s.num_attention_heads,
      s.num_key_value_heads, s.head_dim, s.intermediate_size);
  out += fmt::format("          vocabulary {}{}, context {}, rope_theta {:g}{}, rms_norm_eps {:g}\n",
                     Grouped(s.vocab_size), model.tied ? ", LM head and embedding are one" : "",
                     s.max_position_embeddings, s.rope_theta, ScalingText(s), s.rms_norm_eps);
  const formats::TokenizerRef& tokenizer = model.tokenizer;
  out += fmt::format("tokenizer {}\n", tokenizer.present
                                           ? fmt::format("{} tokens, begin {}, end {}", Grouped(tokenizer.num_tokens),
                                                         IdText(tokenizer.bos), IdText(tokenizer.eos))
                                           : "none");
  if (!tokenizer.ends.ids().empty()) {
    out += fmt::format("          also ends at {}\n", fmt::join(tokenizer.ends.ids(), ", "));
  }
  if (const std::string chat = ChatText(loaded); !chat.empty()) out += fmt::format("chat      {}\n", Visible(chat));
  const double float32_bytes = static_cast<double>(totals.parameters) * sizeof(float);
  const bool has_blocks = std::ranges::any_of(model.tensors, [](const auto& t) { return IsOfBlocks(t.type); });
  out += fmt::format("weights   {:.2f} MiB", static_cast<double>(totals.bytes) / (1 << 20));
  if (static_cast<double>(totals.bytes) != float32_bytes) {
    out += fmt::format("; in float32 {:.2f} MiB, so {} save {} %", float32_bytes / (1 << 20),
                       has_blocks ? "smaller types" : "16 bits",
                       Fixed(100.0 * (1.0 - static_cast<double>(totals.bytes) / float32_bytes), 1));
  }
  out += fmt::format(". Against {}:\n", loaded.board().name);
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    const uint64_t capacity = loaded.board().capacity(region);
    if (capacity == 0) continue;
    out += fmt::format("          {:>8} x its {:8} of {}\n",
                       RatioText(static_cast<double>(totals.bytes) / static_cast<double>(capacity)), RegionName(region),
                       MemoryText(capacity));
    if (static_cast<double>(totals.bytes) != float32_bytes) {
      out.insert(out.size() - 1,
                 fmt::format("; in float32 {} x", RatioText(float32_bytes / static_cast<double>(capacity))));
    }
  }
  for (const std::string& warning : Warnings(loaded)) out += fmt::format("warning   {}\n", Visible(warning));
  WriteResult(out);
}

nlohmann::ordered_json InspectJson(LoadedModel& loaded) {
  const formats::ModelFile& model = loaded.model();
  const ModelShape& s = model.shape;
  const ModelSize totals = SizeOf(model);
  nlohmann::ordered_json tensors = nlohmann::ordered_json::array();
  for (const TensorRef* tensor : StoredTensors(model)) {
    tensors.push_back({{"name", TensorName(tensor->id)},
                       {"shape", {tensor->rows, tensor->cols}},
                       {"type", DTypeName(tensor->type)},
                       {"parameters", Parameters(*tensor)},
                       {"bytes", tensor->size_bytes()},
                       {"offset", tensor->offset}});
  }
  nlohmann::ordered_json times;
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    const uint64_t capacity = loaded.board().capacity(region);
    if (capacity != 0) times[RegionName(region)] = static_cast<double>(totals.bytes) / static_cast<double>(capacity);
  }
  const formats::TokenizerRef& tokenizer = model.tokenizer;
  const auto id_or_null = [](TokenId id) {
    return id == kNoToken ? nlohmann::ordered_json() : nlohmann::ordered_json(id);
  };
  return {{"model", loaded.description()},
          {"pieces", loaded.opened().extents.size()},
          {"tokenizer",
           {{"tokens", tokenizer.present ? tokenizer.num_tokens : 0},
            {"bos", id_or_null(tokenizer.bos)},
            {"eos", id_or_null(tokenizer.eos)},
            {"ends", std::vector<TokenId>(tokenizer.ends.ids().begin(), tokenizer.ends.ids().end())}}},
          {"chat", ChatText(loaded)},
          {"shape",
           {{"architecture", ArchitectureName(s.architecture)},
            {"vocab_size", s.vocab_size},
            {"hidden_size", s.hidden_size},
            {"intermediate_size", s.intermediate_size},
            {"num_hidden_layers", s.num_hidden_layers},
            {"num_attention_heads", s.num_attention_heads},
            {"num_key_value_heads", s.num_key_value_heads},
            {"head_dim", s.head_dim},
            {"max_position_embeddings", s.max_position_embeddings},
            {"rms_norm_eps", s.rms_norm_eps},
            {"rope_theta", s.rope_theta},
            {"rope_linear_factor", s.rope_linear_factor},
            {"has_rope_factors", s.has_rope_factors},
            {"tie_word_embeddings", model.tied}}},
          {"tensors", tensors},
          {"parameters", totals.parameters},
          {"bytes", totals.bytes},
          {"board", loaded.board().name},
          {"times_memory", times},
          {"warnings", Warnings(loaded)}};
}

Status Inspect(const InspectCommandOptions& options) {
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(options.model));
  loaded->NoteTexts();
  options.json ? PrintJson(InspectJson(*loaded)) : PrintText(*loaded);
  return {};
}

}  // namespace

void AddInspectCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<InspectCommandOptions>();
  CLI::App* inspect =
      app.add_subcommand("inspect", "Show every tensor of a model and its size beside a board's memory");
  AddModelOptions(*inspect, options->model);
  inspect->add_flag("--json", options->json, "One JSON object instead of a table");
  inspect->footer(
      "Examples:\n"
      "  thimble inspect Tiny-LLM\n"
      "  thimble inspect card.img --board host --json");
  inspect->callback([options, &exit_code] {
    const Status result = Inspect(*options);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
