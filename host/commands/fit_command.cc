// thimble fit: which boards run a model, how fast, and what to do next.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/boards/board_profile.h"
#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/commands/plan_options.h"
#include "host/commands/result_json.h"
#include "host/formats/gguf_writer.h"
#include "host/formats/hf_config.h"
#include "host/models/card_open.h"
#include "host/models/source.h"
#include "host/studies/fit.h"
#include "host/studies/simulator.h"
#include "host/support/atomic_file.h"
#include "host/support/foreign_file.h"
#include "host/support/input_file.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/paths.h"
#include "host/support/visible_text.h"
#include "host/synth/synth.h"

namespace thimble::host {
namespace {

constexpr uint32_t kAnswerTokens = 200;
constexpr uint64_t kMaxConfigBytes = 16 << 20;
constexpr char kFitLine[] = "{:14} {:5} {:16} {:28} {}";

struct FitArguments {
  ModelRequest model;
  std::optional<uint32_t> n_ctx;
  CacheRequest cache;
  bool json = false;
};

// How the model was given, which says what can be done with it next.
enum class Given { kShape, kToConvert, kFile, kCard };

// What is asked, opened so that every board has it.
struct FitModel {
  ModelRequest request;
  Given given = Given::kFile;
  std::string folder = {};                  // of kShape: where the weights belong
  std::optional<TemporaryFile> shape = {};  // of kShape
  std::optional<ModelSource> source = {};
};

// A word as a shell takes it.
std::string ShellWord(const std::string& word) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./,:=+@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// The config.json that is all there is of a model, or nothing.
Expected<std::optional<std::string>> BareConfig(const std::string& path) {
  if (!IsFolder(path)) return path.ends_with(".json") && Exists(path) ? std::optional(path) : std::nullopt;
  const std::string config = path + "/config.json";
  if (!Exists(config) || IsTensorFolder(path)) return std::nullopt;
  THIMBLE_ASSIGN(const std::vector<std::string> names, NamesIn(path));
  const auto is_of_weights = [](const std::string& name) {
    constexpr std::string_view kEndings[] = {
        ".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pth", ".pt", ".gguf"};
    return std::ranges::any_of(kEndings, [&](std::string_view ending) { return name.ends_with(ending); });
  };
  return std::ranges::any_of(names, is_of_weights) ? std::nullopt : std::optional(config);
}

// The model that `config` describes, with made-up weights.
Expected<TemporaryFile> WriteShape(const std::string& config) {
  THIMBLE_ASSIGN(const std::string text, ReadWholeFile(config, kMaxConfigBytes));
  THIMBLE_TRY(RefuseForeign(text, config));
  THIMBLE_ASSIGN(const HfConfig parsed, ParseHfConfig(text, config));
  for (const std::string& note : parsed.notes) ReportNote(note);
  Checkpoint checkpoint = MakeSynth({"shape", "", parsed.shape, parsed.tie_word_embeddings}, /*seed=*/1);
  checkpoint.vocabulary.eos.reset();  // noise would end with it
  THIMBLE_ASSIGN(TemporaryFile file, TemporaryFile::Create());
  THIMBLE_TRY(WriteHollowGguf(checkpoint, DType::kF16, file.sink()));
  return file;
}

Expected<FitModel> OpenFitModel(const ModelRequest& request) {
  FitModel model = {.request = request};
  THIMBLE_ASSIGN(const std::optional<std::string> config, BareConfig(request.model));
  if (config) {
    model.given = Given::kShape;
    const std::string folder = FolderOf(*config);
    model.folder = folder.empty() ? "." : folder;
    THIMBLE_ASSIGN(TemporaryFile file, WriteShape(*config));
    model.shape.emplace(std::move(file));
    model.request.name = *config;
    model.request.model = model.shape->path();
    model.request.index = IndexUse::kIgnore;
    return model;
  }
  THIMBLE_ASSIGN(ModelSource source, OpenModelSource(request.model, request.tokenizer));
  model.source.emplace(std::move(source));
  if (!model.source->is_converted()) return model;
  model.given = Given::kToConvert;
  model.request.name = request.model;
  model.request.model = model.source->path();
  model.request.tokenizer.clear();
  return model;
}

// The commands that work on what was given.
class NextCommands {
 public:
  NextCommands(const FitModel& model, const std::string& path, const std::string& tokenizer, bool is_on_card)
      : given_(is_on_card ? Given::kCard : model.given), path_(path) {
    const std::string source = given_ == Given::kShape ? model.folder : path;
    source_ = ShellWord(source);
    if (!tokenizer.empty()) source_ += " --tokenizer " + ShellWord(tokenizer);
    name_ = NameConverted(given_ == Given::kFile || given_ == Given::kCard ? path : Absolute(source));
    if (name_.ends_with(".gguf")) name_.resize(name_.size() - 5);
  }

  Given given() const { return given_; }
  bool is_runnable() const { return given_ == Given::kFile || given_ == Given::kCard; }
  // The file or folder that can be prepared and put on a card.
  std::string file() const { return is_runnable() ? ShellWord(path_) : ShellWord(name_ + ".gguf"); }

  std::string Convert() const { return fmt::format("thimble convert {} -o {}", source_, ShellWord(name_ + ".gguf")); }
  std::string Round() const {
    return fmt::format("thimble convert {} -o {} --quant q8_0", source_, ShellWord(name_ + "-q8_0.gguf"));
  }
  // For who wants an index for this board, as it was named.
  std::string HowToIndex(const std::string& board) const {
    switch (given_) {
      case Given::kShape:
        return "'thimble prepare', once there are weights";
      case Given::kCard:
        return "'thimble prepare' of the file that is on the card, then 'thimble card'";
      case Given::kToConvert:
        return fmt::format("'{}', then '{}'", Convert(), Prepare(board));
      case Given::kFile:
        break;
    }
    return fmt::format("'{}'", Prepare(board));
  }
  std::string Prepare(const std::string& board) const {
    return fmt::format("thimble prepare {}{}", file(), board == kDefaultBoard ? "" : " --board " + ShellWord(board));
  }

  std::string HowToSwap() const {
    return fmt::format(
        "a swap file on the card ('thimble card {} --swap 64M -o card.img'), for more context and the same "
        "numbers",
        file());
  }

  // What to type when `best` of `fit` is the board, as it was named.
  std::string Best(const Fit& fit, const std::string& best) const {
    if (!is_runnable()) return Convert();
    if (given_ == Given::kCard) {
      return fmt::format("thimble run -m {} --board {} -p \"Once upon a time\"", file(), ShellWord(best));
    }
    return fit.has_index ? fmt::format("thimble card {} -o card.img", file()) : Prepare(best);
  }

 private:
  Given given_;
  std::string path_;
  std::string source_;
  std::string name_;
};

// What would make it run on this board, or faster, in a few words each.
std::vector<std::string> HelpFor(const BoardFit& board, const Fit& fit, const NextCommands& next,
                                 const std::string& as) {
  std::vector<std::string> help;
  if (!board.runs()) {
    if (board.n_ctx != 0) {
      help.push_back(fmt::format("a shorter context: -c {}", board.n_ctx));
      if (next.given() != Given::kCard) help.push_back(next.HowToSwap());
    }
    std::vector<std::string> others;
    for (const BoardFit& other : fit.boards) {
      if (other.runs()) others.push_back(other.name());
    }
    if (!others.empty()) help.push_back(fmt::format("another board: {}", fmt::join(others, " or ")));
    return help;
  }
  if (!fit.has_index) {
    help.push_back(fmt::format(
        "an index ({}), which gives the same tokens from fewer reads: {} % of what a token reads is the LM head{}",
        next.HowToIndex(as), Fixed(100 * board.head_share, 0),
        board.has_texts ? "" : "; and texts, as this board has no room for the tokenizer"));
  }
  const double left = static_cast<double>(fit.q8_bytes) / static_cast<double>(fit.size.bytes);
  constexpr double kWorthIt = 0.9;
  if (left < kWorthIt) {
    help.push_back(fmt::format("8 bits ('{}'), which leave {} % of the bytes and are not exact", next.Round(),
                               Fixed(100 * left, 0)));
  }
  constexpr uint32_t kShortContext = 512;
  if (board.n_ctx < std::min(kShortContext, fit.shape.max_position_embeddings) && next.given() != Given::kCard) {
    help.push_back(next.HowToSwap());
  }
  return help;
}

struct FitAnswer {
  Fit fit;
  std::vector<std::vector<std::string>> help;  // by board
  std::string constants;
  std::string cache;  // what is said of a KV cache that rounds; or empty
  std::string shape;  // what is said of a model without weights; or empty
  std::string next;
};

Expected<FitAnswer> Answer(const FitArguments& arguments) {
  std::vector<std::string> boards = {arguments.model.board};
  if (arguments.model.board.empty()) boards = ProfileNames();
  THIMBLE_ASSIGN(const FitModel model, OpenFitModel(arguments.model));
  FitAnswer answer;
  THIMBLE_ASSIGN(answer.fit, FitBoards(model.request, boards, arguments.n_ctx, arguments.cache));
  Fit& fit = answer.fit;
  const NextCommands next(model, arguments.model.model, arguments.model.tokenizer, fit.is_on_card);
  for (size_t i = 0; i < boards.size(); ++i) answer.help.push_back(HelpFor(fit.boards[i], fit, next, boards[i]));
  answer.constants = ConstantsText(*fit.boards.front().found.profile);
  const model::CacheTypes types = {arguments.cache.k.value_or(DType::kF32), arguments.cache.v.value_or(DType::kF32)};
  if (!types.is_exact()) {
    answer.cache = fmt::format("a KV cache with {}, which rounds: texts are not the exact ones", CacheText(types));
  }
  if (model.given == Given::kShape) {
    answer.shape =
        "there are no weights: speeds come from the shape, with made-up weights in 16 bits and a full scan of "
        "the LM head";
  }

  if (const BoardFit* const best = fit.best(); best != nullptr) {
    answer.next = next.Best(fit, boards[static_cast<size_t>(best - fit.boards.data())]);
    return answer;
  }
  const auto& most = *std::ranges::max_element(fit.boards, {}, &BoardFit::n_ctx);
  const std::string path = ShellWord(arguments.model.model);
  const std::string board = arguments.model.board.empty() ? "" : " --board " + ShellWord(arguments.model.board);
  answer.next = most.n_ctx != 0                 ? fmt::format("thimble fit {} -c {}{}", path, most.n_ctx, board)
                : next.given() != Given::kShape ? fmt::format("thimble inspect {}", path)
                                                : std::string("thimble boards");
  return answer;
}

// As RangeText(), and with something to see of a model of gigabytes.
std::string SpeedText(const Range& speed) {
  constexpr double kSlow = 0.1;
  if (speed[kTypical] >= kSlow) return RangeText(speed);
  return fmt::format("{:.2g} ({:.2g} to {:.2g})", speed[kTypical], speed[0], speed[2]);
}

std::string Text(const FitAnswer& answer) {
  const Fit& fit = answer.fit;
  std::string out = fmt::format("model     {}: {} layer{}, hidden size {}, vocabulary {}; {} parameters, {}\n",
                                Visible(fit.description), fit.shape.num_hidden_layers,
                                fit.shape.num_hidden_layers == 1 ? "" : "s", fit.shape.hidden_size,
                                Grouped(fit.shape.vocab_size), Grouped(fit.size.parameters), Megabytes(fit.size.bytes));
  if (!answer.shape.empty()) out += fmt::format("          {}\n", answer.shape);
  if (!answer.cache.empty()) out += fmt::format("with      {}\n", answer.cache);
  out +=
      fmt::format("modelled  with {}; the default sampler; typical, and in brackets low to high\n\n", answer.constants);
  const auto line = [&](auto... cells) {
    std::string text = fmt::format(kFitLine, cells...);
    text.resize(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line("board", "runs", "context", "modelled tok/s", fmt::format("{} tokens take", kAnswerTokens));
  std::string reasons;
  for (const BoardFit& board : fit.boards) {
    if (!board.runs()) {
      line(board.name(), "no", "", "", "");
      reasons += fmt::format("{}: {}.\n", board.name(), Visible(board.refused));
      continue;
    }
    const bool has_speed = board.tok_per_s[kTypical] > 0;
    line(board.name(), board.has_texts ? "yes" : "ids",
         fmt::format("{} of {}", Grouped(board.n_ctx), Grouped(fit.shape.max_position_embeddings)),
         has_speed ? SpeedText(board.tok_per_s) : "-", has_speed ? DurationText(board.SecondsOf(kAnswerTokens)) : "-");
  }
  if (!reasons.empty()) out += "\n" + reasons;
  std::vector<std::string> help;
  const BoardFit* const best = fit.best();
  if (best != nullptr) help = answer.help[static_cast<size_t>(best - fit.boards.data())];
  if (!help.empty())
    out += fmt::format("\nWhat would help on {}: {}.\n", best->name(),
                       Visible(fmt::format("{}", fmt::join(help, "; or "))));
  const auto lacks_texts = [](const BoardFit& board) { return board.runs() && !board.has_texts; };
  if (std::ranges::any_of(fit.boards, lacks_texts)) {
    out += "'ids' runs with token ids; texts need an index there, as the tokenizer has no room.\n";
  }
  return out + fmt::format("\nNext: {}\n", Visible(answer.next));
}

nlohmann::ordered_json AnswerJson(const FitAnswer& answer) {
  nlohmann::ordered_json boards = nlohmann::ordered_json::array();
  for (size_t i = 0; i < answer.fit.boards.size(); ++i) {
    const BoardFit& board = answer.fit.boards[i];
    nlohmann::ordered_json json = {{"name", board.name()}, {"fits", board.runs()}, {"n_ctx", board.n_ctx}};
    if (board.runs()) {
      const bool has_speed = board.tok_per_s[kTypical] > 0;
      json["tok_per_s"] = has_speed ? ToJson(board.tok_per_s) : nullptr;
      json["seconds_per_200_tokens"] = has_speed ? ToJson(board.SecondsOf(kAnswerTokens)) : nullptr;
      json["texts"] = board.has_texts;
      json["head"] = board.is_screened ? "screen" : "full";
    } else {
      json["reason"] = board.refused;
    }
    json["help"] = answer.help[i];
    boards.push_back(json);
  }
  nlohmann::ordered_json json = {{"model", answer.fit.description}, {"speeds", "modelled with " + answer.constants}};
  if (!answer.shape.empty()) json["note"] = answer.shape;
  if (!answer.cache.empty()) json["cache"] = answer.cache;
  json["boards"] = boards;
  json["next"] = answer.next;
  return json;
}

Status RunFit(const FitArguments& arguments) {
  THIMBLE_ASSIGN(const FitAnswer answer, Answer(arguments));
  if (arguments.json) {
    PrintJson(AnswerJson(answer));
  } else {
    WriteResult(Text(answer));
  }
  return {};
}

}  // namespace

void AddFitCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<FitArguments>();
  CLI::App* command =
      app.add_subcommand("fit", "Say which boards run a model, how fast, with how much context, and what to type next");
  AddModelOptions(*command, arguments->model);
  command->get_option("--model")->description(
      "A GGUF file, a tensor folder, a card's image, anything 'thimble convert' reads (converted on the fly), or a "
      "config.json alone, or a folder with it: then the shape is looked at, with made-up weights");
  command->get_option("--board")
      ->description("Only this one: a name (see 'thimble boards') or a board file")
      ->default_str("all");
  command->add_option("-c,--ctx-size", arguments->n_ctx,
                      "Positions of context; 0: the model's (default: as many as the board has room for)");
  AddCacheOptions(*command, arguments->cache);
  command->add_flag("--json", arguments->json, "Print one JSON object instead");
  command->footer(
      "All speeds are modelled ('thimble simulate' shows where the time goes), from a few tokens of the default "
      "sampler\n"
      "with the usual plan. The exit code is 0 also where no board runs the model.\n"
      "Examples:\n"
      "  thimble fit tiny-llm.gguf\n"
      "  thimble fit Tiny-LLM -c 256 --board esp32\n"
      "  thimble fit SmolLM/config.json                 before its weights are fetched\n"
      "  thimble fit tiny-llm.gguf --json");
  command->callback([arguments, &exit_code] {
    const Status result = RunFit(*arguments);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
