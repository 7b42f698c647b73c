#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "host/commands/choice.h"
#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/formats/tensor_name.h"
#include "host/models/convert.h"
#include "host/studies/quant_search.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

// "0-12,15", or "*" where these are all of the layers.
std::string LayersText(const std::vector<uint32_t>& layers, size_t all) {
  if (layers.size() == all && all > 1) return "*";
  std::string text;
  for (size_t first = 0; first < layers.size();) {
    size_t last = first;
    while (last + 1 < layers.size() && layers[last + 1] == layers[last] + 1) ++last;
    if (first > 0) text += ",";
    text += last == first ? fmt::format("{}", layers[first]) : fmt::format("{}-{}", layers[first], layers[last]);
    first = last + 1;
  }
  return text;
}

// "blk.*.attn_q.weight, blk.0,3.attn_k.weight, output.weight": a kind once, with its layers. `all`: how many have one.
std::string NamesText(const std::vector<TensorId>& ids, const std::map<TensorKind, size_t>& all) {
  std::vector<std::string> names;
  std::map<TensorKind, std::vector<uint32_t>> layers;
  for (const TensorId& id : ids) layers[id.kind].push_back(id.layer);
  for (const TensorId& id : ids) {
    std::string name = TensorName(id);
    const std::string of_layer = fmt::format("blk.{}.", id.layer);
    if (name.starts_with(of_layer)) {
      if (id.layer != layers[id.kind].front()) continue;
      name = fmt::format("blk.{}.{}", LayersText(layers[id.kind], all.at(id.kind)), name.substr(of_layer.size()));
    }
    names.push_back(name);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

// What each matrix was written in and why; a model's layers are mostly alike, so those that are come as one line.
std::string TypesText(std::span<const ChosenType> types) {
  std::map<std::string, std::vector<TensorId>> groups;
  std::map<TensorKind, size_t> all;
  for (const ChosenType& chosen : types) {
    groups[fmt::format("{:4}  {}", DTypeName(chosen.type), chosen.why)].push_back(chosen.id);
    ++all[chosen.id.kind];
  }
  std::string text;
  for (const auto& [group, ids] : groups) {
    const std::string which =
        ids.size() == types.size() ? fmt::format("all {} matrices", ids.size()) : NamesText(ids, all);
    text += fmt::format("{}: {}\n", group, which);
  }
  return text;
}

WrittenType TypeNamed(std::string_view name) {
  return name == "keep"   ? WrittenType::kKeep
         : name == "f32"  ? WrittenType::kF32
         : name == "q8_0" ? WrittenType::kQ8_0
         : name == "q4_k" ? WrittenType::kQ4_K
         : name == "q5_1" ? WrittenType::kQ5_1
         : name == "q5_0" ? WrittenType::kQ5_0
         : name == "q4_1" ? WrittenType::kQ4_1
         : name == "q4_0" ? WrittenType::kQ4_0
                          : WrittenType::kExact;
}

// "PATTERN=TYPE".
std::optional<TypeRule> ParseRule(std::string_view text) {
  const size_t equals = text.rfind('=');
  if (equals == 0 || equals == text.npos) return std::nullopt;
  const std::string_view type = text.substr(equals + 1);
  const WrittenType written = TypeNamed(type);
  if (!RoundedType(written) && type != "f32" && type != "auto") return std::nullopt;
  return TypeRule{std::string(text.substr(0, equals)), written};
}

// "KL divergence 0.00042 of at most 0.001, ...": lines for people.
std::string QuantFoundText(const QuantFound& found, const QuantLimit& limit) {
  const Divergence& d = *found.quality.divergence;
  return fmt::format(
      "KL divergence {:.6f} of at most {}, same top token {:.1f} %: over {} tokens of {}\n"
      "a token reads {} of weights in a full scan, {} without rounding; {} models measured\n",
      d.kld_mean, limit.kld_max, 100 * d.top_match, found.quality.tokens, found.text, Megabytes(found.token_bytes),
      Megabytes(found.exact_token_bytes), found.measured);
}

// What the user typed.
struct ConvertArguments {
  ConvertOptions convert;
  std::string type = "auto";
  std::string quant = "none";
  std::vector<std::string> rules;
  std::optional<double> kld;
  std::string kld_text;
  std::string to = "gguf";
};

struct ConvertRequest {
  ConvertOptions convert;
  std::optional<QuantLimit> limit;  // --quant auto
};

Expected<ConvertRequest> RequestOf(const ConvertArguments& arguments) {
  ConvertRequest request = {.convert = arguments.convert, .limit = {}};
  ConvertOptions& convert = request.convert;
  convert.types = {.dtype = TypeNamed(arguments.type),
                   .quant = RoundedType(TypeNamed(arguments.quant)) ? Quant::kAll
                            : arguments.quant == "hybrid"           ? Quant::kHybrid
                                                                    : Quant::kNone};
  if (convert.types.quant == Quant::kAll) convert.types.rounded = TypeNamed(arguments.quant);
  for (const std::string& text : arguments.rules) {
    const std::optional<TypeRule> rule = ParseRule(text);
    if (!rule) {
      return Sentence(fmt::format(
          "--quant-tensor {}: give a pattern of names, =, and q8_0, q5_1, q5_0, q4_k, q4_1, q4_0, f32 or auto: "
          "'blk.*.ffn_*=q8_0'",
          Quote(text)));
    }
    convert.types.rules.push_back(*rule);
  }
  convert.to_folder = arguments.to == "folder";
  if (convert.to_folder && arguments.type == "keep") {
    return Sentence("--dtype keep: a tensor folder is float32; leave it out, or write a GGUF file");
  }
  if (convert.to_folder && (arguments.quant != "none" || !convert.types.rules.empty())) {
    return Sentence("--quant: a tensor folder is float32; leave it out, or write a GGUF file");
  }
  if (arguments.quant == "auto") {
    request.limit.emplace();
    request.limit->kld_max = arguments.kld.value_or(request.limit->kld_max);
    request.limit->text_file = arguments.kld_text;
  } else if (arguments.kld || !arguments.kld_text.empty()) {
    return Sentence("--kld and --kld-text: they are limits of --quant auto; give that, too");
  }
  return request;
}

void Print(const ConvertOptions& asked, const Converted& converted, const std::string& found_text) {
  for (const std::string& note : converted.notes) ReportNote(note);
  const std::string what = asked.to_folder ? "a tensor folder" : Megabytes(converted.bytes);
  WriteResult(fmt::format("{}: {}\n{}{}", Visible(asked.out), what, TypesText(converted.types), found_text));
}

Status Run(const ConvertArguments& arguments) {
  THIMBLE_ASSIGN(const ConvertRequest request, RequestOf(arguments));
  if (request.limit) {
    THIMBLE_ASSIGN(const SearchedConversion searched, ConvertWithin(request.convert, *request.limit));
    Print(request.convert, searched.converted, QuantFoundText(searched.found, *request.limit));
  } else {
    THIMBLE_ASSIGN(const Converted converted, Convert(request.convert));
    Print(request.convert, converted, "");
  }
  return {};
}

}  // namespace

void AddConvertCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<ConvertArguments>();
  CLI::App* command = app.add_subcommand(
      "convert", "Write a model as one GGUF file or as a tensor folder; no number changes unless --quant is given");
  AddModelOption(*command, arguments->convert.source,
                 "A Hugging Face folder, a GGUF file, a card with one, or llama2.c's .bin file");
  command->add_option("-o,--output", arguments->convert.out, "The file or folder to write; replaced if it is there")
      ->required()
      ->type_name("OUT");
  command
      ->add_option("--to", arguments->to,
                   "gguf: one file; folder: one float32 file for each tensor, named as esp32_float32_weights/ has them")
      ->transform(Choice({"gguf", "folder"}))
      ->capture_default_str();
  command
      ->add_option("--tokenizer", arguments->convert.tokenizer,
                   "SentencePiece's tokenizer.model, Hugging Face's tokenizer.json or llama2.c's tokenizer.bin, "
                   "instead of the one that the model brings")
      ->type_name("FILE");
  command
      ->add_option(
          "--dtype", arguments->type,
          "auto: in 16 bits where every number survives exactly, F16 or BF16; keep: as they are stored; f32: all "
          "expanded to float32. Norms are always float32, and the numbers the same")
      ->transform(Choice({"auto", "keep", "f32"}))
      ->capture_default_str();
  command
      ->add_option(
          "--quant", arguments->quant,
          "Smaller, not exact: q8_0: every matrix in 8 bits, 32 numbers to a scale; q5_1, q5_0, q4_1, q4_0: in 5 or "
          "4 bits; q4_k: in 4 by blocks of 256, or in 5 where rows have none; hybrid: the large ones only, in 8; auto: "
          "those that save most bytes of a token within the "
          "divergence that --kld allows. "
          "Matrices whose rows do not divide by 32 stay as --dtype says")
      ->transform(Choice({"none", "q8_0", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "hybrid", "auto"}))
      ->capture_default_str();
  command
      ->add_option("--kld", arguments->kld,
                   "The mean KL divergence from the model as it is that --quant auto may cause (default: 0.001)")
      ->check(CLI::Range(0.0, 1e6))
      ->type_name("MAX");
  command
      ->add_option("--kld-text", arguments->kld_text,
                   "The text that it is measured by (default: texts that the model writes itself)")
      ->type_name("FILE");
  command
      ->add_option(
          "--quant-tensor", arguments->rules,
          "The type of the matrices that PATTERN names, whatever --quant says: q8_0 to q4_0, f32 or auto, as --dtype "
          "has it; of several that match, the last counts")
      ->type_name("PATTERN=TYPE")
      ->allow_extra_args(false);
  command->footer(
      "Examples:\n"
      "  thimble convert Tiny-LLM -o tiny-llm.gguf\n"
      "  thimble convert stories15M.bin --tokenizer tokenizer.bin -o stories15M.gguf\n"
      "  thimble convert somebody-elses.gguf -o aligned.gguf --dtype keep\n"
      "  thimble convert Tiny-LLM -o small.gguf --quant q8_0 --quant-tensor 'blk.*.attn_*=auto'\n"
      "  thimble convert Tiny-LLM -o small.gguf --quant auto --kld 0.0002\n"
      "  thimble convert Tiny-LLM --to folder -o esp32_float32_weights");
  command->callback([arguments, &exit_code] {
    const Status done = Run(*arguments);
    exit_code = done ? 0 : ReportFailure(done.error());
  });
}

}  // namespace thimble::host
