#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "host/command.h"
#include "host/convert.h"
#include "host/quant_search.h"
#include "host/text.h"

namespace thimble::host {
namespace {

// What each matrix was written in and why; a model's layers are mostly alike, so those that are come as one line.
std::string TypesText(std::span<const ChosenType> types) {
  std::map<std::string, std::vector<std::string>> groups;
  for (const ChosenType& chosen : types) {
    groups[fmt::format("{:4}  {}", DTypeName(chosen.type), chosen.why)].push_back(TensorName(chosen.id));
  }
  std::string text;
  for (const auto& [group, names] : groups) {
    const std::string which = names.size() == types.size() ? fmt::format("all {} matrices", names.size())
                                                           : fmt::format("{}", fmt::join(names, ", "));
    text += fmt::format("{}: {}\n", group, which);
  }
  return text;
}

WrittenType TypeNamed(std::string_view name) {
  return name == "keep"   ? WrittenType::kKeep
         : name == "f32"  ? WrittenType::kF32
         : name == "q8_0" ? WrittenType::kQ8_0
                          : WrittenType::kExact;
}

// "PATTERN=TYPE".
std::optional<TypeRule> ParseRule(std::string_view text) {
  const size_t equals = text.rfind('=');
  if (equals == 0 || equals == text.npos) return std::nullopt;
  const std::string_view type = text.substr(equals + 1);
  if (type != "q8_0" && type != "f32" && type != "auto") return std::nullopt;
  return TypeRule{std::string(text.substr(0, equals)), TypeNamed(type)};
}

}  // namespace

void AddConvertCommand(CLI::App& app, int& exit_code) {
  struct Options : ConvertOptions {
    std::string type = "auto";
    std::string quant = "none";
    std::vector<std::string> rules;
    std::optional<double> kld;
    std::string kld_text;
    std::string to = "gguf";
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "convert",
      "Write a model as one GGUF file, or as a tensor folder, every number exactly as it was stored unless "
      "--quant is given");
  command->add_option("SRC", options->source, "Hugging Face folder, GGUF file, card with one, or llama2.c .bin file")
      ->required();
  command->add_option("-o,--output", options->out, "The file or folder to write; replaced if it is there")
      ->required()
      ->type_name("OUT");
  command
      ->add_option("--to", options->to,
                   "gguf: one file; folder: one float32 file for each tensor, named as esp32_float32_weights/ has them")
      ->check(CLI::IsMember({"gguf", "folder"}))
      ->capture_default_str();
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "SentencePiece's tokenizer.model, Hugging Face's tokenizer.json or llama2.c's tokenizer.bin, "
                   "instead of the one that the model brings")
      ->type_name("FILE");
  command
      ->add_option(
          "--dtype", options->type,
          "auto: in 16 bits where every number survives exactly, F16 or BF16; keep: as they are stored; f32: all "
          "expanded to float32. Norms are always float32, and the numbers the same")
      ->check(CLI::IsMember({"auto", "keep", "f32"}))
      ->capture_default_str();
  command
      ->add_option("--quant", options->quant,
                   "Smaller, not exact: q8_0: every matrix in 8 bits, 32 numbers to a scale; hybrid: the large ones "
                   "only; auto: those that save most bytes of a token within the divergence that --kld allows. "
                   "Matrices whose rows do not divide by 32 stay as --dtype says")
      ->check(CLI::IsMember({"none", "q8_0", "hybrid", "auto"}))
      ->capture_default_str();
  command
      ->add_option("--kld", options->kld,
                   "The mean KL divergence from the model as it is that --quant auto may cause (default: 0.001)")
      ->check(CLI::Range(0.0, 1e6))
      ->type_name("MAX");
  command
      ->add_option("--kld-text", options->kld_text,
                   "The text that it is measured by (default: texts that the model writes itself)")
      ->type_name("FILE");
  command
      ->add_option("--quant-tensor", options->rules,
                   "The type of the matrices that PATTERN names, whatever --quant says: q8_0, f32 or auto, as --dtype "
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
  command->callback([options, &exit_code] {
    options->types = {.dtype = TypeNamed(options->type),
                      .quant = options->quant == "q8_0"     ? Quant::kQ8_0
                               : options->quant == "hybrid" ? Quant::kHybrid
                                                            : Quant::kNone};
    for (const std::string& text : options->rules) {
      const std::optional<TypeRule> rule = ParseRule(text);
      if (!rule) {
        exit_code = ReportFailure(fmt::format(
            "--quant-tensor {}: give a pattern of names, =, and q8_0, f32 or auto: 'blk.*.ffn_*=q8_0'.", Quote(text)));
        return;
      }
      options->types.rules.push_back(*rule);
    }
    options->to_folder = options->to == "folder";
    if (options->to_folder && options->type == "keep") {
      exit_code = ReportFailure("--dtype keep: a tensor folder is float32; leave it out, or write a GGUF file.");
      return;
    }
    if (options->to_folder && (options->quant != "none" || !options->types.rules.empty())) {
      exit_code = ReportFailure("--quant: a tensor folder is float32; leave it out, or write a GGUF file.");
      return;
    }
    if (options->quant != "auto" && (options->kld || !options->kld_text.empty())) {
      exit_code = ReportFailure("--kld and --kld-text: they are limits of --quant auto; give that, too.");
      return;
    }
    QuantLimit limit;
    limit.kld_max = options->kld.value_or(limit.kld_max);
    limit.text_file = options->kld_text;
    std::string found_text;
    if (options->quant == "auto") {
      options->choose = [&](const Checkpoint& checkpoint,
                            const TypeRecipe& recipe) -> Expected<std::vector<ChosenType>> {
        THIMBLE_ASSIGN(const QuantFound found, SearchQuant(checkpoint, recipe, limit));
        found_text = QuantFoundText(found, limit);
        return found.types;
      };
    }
    const auto converted = Convert(*options);
    if (!converted) {
      exit_code = ReportFailure(converted.error());
      return;
    }
    for (const std::string& note : converted->notes) ReportNote(note);
    std::fputs((TypesText(converted->types) + found_text).c_str(), stdout);
  });
}

}  // namespace thimble::host
