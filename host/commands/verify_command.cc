// thimble verify: is this model, or the card it lies on, sound?
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/commands/result_json.h"
#include "host/models/loaded_model.h"
#include "host/models/verify.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"

namespace thimble::host {
namespace {

struct VerifyCommandOptions {
  ModelRequest model;
  std::string against;
  bool json = false;
};

// One line for each thing that was found sound, as it is found.
class Findings {
 public:
  explicit Findings(bool json) : json_(json) {}

  void Add(const char* what, const std::string& text, const nlohmann::ordered_json& values) {
    if (!json_) {
      WriteResult(fmt::format("{:10} {}\n", what, text));
      FlushResult();
    }
    values_[what] = values;
  }

  // The verdict, and the JSON object.
  void Finish(const Status& verdict) {
    if (!json_) {
      if (verdict) WriteResult("verdict    sound\n");
      return;
    }
    nlohmann::ordered_json out = {{"sound", verdict.has_value()}};
    if (!verdict) out["problem"] = verdict.error();
    out.update(values_);
    PrintJson(out);
  }

 private:
  bool json_;
  nlohmann::ordered_json values_ = nlohmann::ordered_json::object();
};

Status Verify(const VerifyCommandOptions& options, Findings& findings) {
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(options.model));
  const formats::ModelFile& model = loaded->model();
  const std::string& name = options.model.model;
  OpenedModel& opened = loaded->opened();

  if (!opened.name_on_card.empty()) {
    THIMBLE_ASSIGN(const CheckedVolume volume, CheckVolume(*opened.device, name));
    findings.Add("card",
                 fmt::format("{}, {}", volume.format_name,
                             volume.table_count == 2 ? "both allocation tables agree" : "with one allocation table"),
                 {{"format", volume.format_name}, {"allocation_tables", volume.table_count}});
  }
  const ModelBytes bytes(loaded->reader(), opened, name);
  const std::string file = opened.name_on_card.empty() ? name : opened.name_on_card;
  const size_t pieces = opened.extents.size();
  std::string size = fmt::format("{}, {} bytes", Quote(file), Grouped(bytes.size_bytes()));
  if (bytes.parts.size() > 1) size += fmt::format(" in {} files", bytes.parts.size());
  if (!opened.name_on_card.empty()) size += fmt::format(", in {} piece{}", pieces, pieces == 1 ? "" : "s");
  findings.Add("file", size,
               {{"name", file}, {"bytes", bytes.size_bytes()}, {"files", bytes.parts.size()}, {"pieces", pieces}});
  const size_t tensors = model.tensors.size() - (model.tied ? 1 : 0);
  findings.Add("header", fmt::format("{} tensors, shapes and places fit", tensors), {{"tensors", tensors}});
  loaded->NoteTexts();
  THIMBLE_ASSIGN(const CheckedTokenizer tokenizer, CheckTokenizer(loaded->reader(), model, name));
  findings.Add("tokenizer",
               !tokenizer.no_texts.empty() ? "not used: prompts are given as ids"
               : tokenizer.tokens == 0     ? "none: prompts are given as ids"
                                           : fmt::format("{} tokens, all of them text", Grouped(tokenizer.tokens)),
               {{"tokens", tokenizer.tokens}});
  std::optional<IndexChecks> index;
  if (loaded->index() == nullptr) {
    findings.Add("index",
                 "none: weights that were changed and still are numbers are not found; 'thimble prepare' makes "
                 "an index that finds them",
                 nullptr);
  } else {
    THIMBLE_ASSIGN(index, CheckIndex(*loaded->index_reader(), *loaded->index(), model, opened.index_name));
    const uint64_t index_bytes = loaded->index_reader()->file_size_bytes();
    findings.Add("index",
                 fmt::format("{}, {} bytes, all checksums fit", Quote(opened.index_name), Grouped(index_bytes)),
                 {{"name", opened.index_name}, {"bytes", index_bytes}});
  }

  OpenedModel source;
  Ledger source_ledger;
  std::optional<storage::FileReader> source_reader;
  std::optional<ModelBytes> reference;
  if (!options.against.empty()) {
    THIMBLE_ASSIGN(source, OpenModelFile(options.against, "", IndexUse::kIgnore));
    source_reader.emplace(*source.device, source.file, source_ledger);
    reference.emplace(*source_reader, source, options.against);
  }
  THIMBLE_ASSIGN(const CheckedBytes checked,
                 CheckBytes(bytes, model, reference ? &*reference : nullptr, index ? &*index : nullptr));
  const ZoneCounts total = loaded->ledger().total();
  std::string weights = fmt::format("{} numbers, all finite", Grouped(checked.weights));
  if (index) weights += fmt::format("; {} checksums of rows and blocks fit", Grouped(checked.checksums));
  findings.Add("weights", weights, {{"count", checked.weights}, {"checksums", checked.checksums}});
  findings.Add("reads",
               fmt::format("{} in {}, {} had to be tried again", Megabytes(total.card_bytes), Grouped(total.reads),
                           Grouped(loaded->ledger().retries)),
               {{"bytes", total.card_bytes}, {"reads", total.reads}, {"retries", loaded->ledger().retries}});
  findings.Add("sha256", checked.sha256, checked.sha256);
  if (reference) {
    findings.Add("against", fmt::format("{}: the same bytes", Quote(options.against)), options.against);
  }
  return {};
}

}  // namespace

void AddVerifyCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<VerifyCommandOptions>();
  options->model.board = "host";
  CLI::App* verify = app.add_subcommand("verify", "Read a model or a card from end to end and say whether it is sound");
  AddModelOption(*verify, options->model.model, "A GGUF file, a tensor folder, a card's image, or a card in a reader");
  verify->add_option("--card-file", options->model.file_on_card, "Which GGUF or tensor folder of a card with several");
  verify->add_option("--against", options->against, "What it must be a copy of, byte by byte: a model or a card")
      ->type_name("FILE");
  verify->add_flag("--json", options->json, "One JSON object instead of lines");
  verify->footer(
      "The sum is SHA-256 of the model file: 'sha256sum model.gguf' prints the same. That of a tensor folder is of "
      "its\n"
      "files in the order of the format: model_config.json, tokenizer.bin, embed_tokens.bin, ...\n"
      "Only an index ('thimble prepare') detects damage that leaves every weight a number: all its checksums are held "
      "to\n"
      "the model and to itself.\n\n"
      "Examples:\n"
      "  thimble verify card.img\n"
      "  thimble verify /dev/sdX --against tiny-llm.gguf");
  verify->callback([options, &exit_code] {
    Findings findings(options->json);
    const Status verdict = Verify(*options, findings);
    findings.Finish(verdict);
    exit_code = verdict ? 0 : ReportFailure(verdict.error());
  });
}

}  // namespace thimble::host
