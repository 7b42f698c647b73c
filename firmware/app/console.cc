#include "firmware/app/console.h"

#include <algorithm>
#include <array>

#include "engine/generate.h"
#include "engine/plan/plan_file.h"
#include "engine/session.h"
#include "firmware/app/bench.h"
#include "firmware/app/doctor.h"
#include "firmware/app/print.h"
#include "firmware/app/report.h"

namespace thimble::firmware {
namespace {

constexpr uint32_t kBenchTokens = 8;

}  // namespace

// The text as it is made.
class Console::Output final : public TextSink {
 public:
  Output(Machine& machine, bool has_tokenizer) : machine_(&machine), has_tokenizer_(has_tokenizer) {}

  void OnToken(TokenId id) override {
    const uint64_t now = machine_->NowUs();
    if (n_ == 0) first_us_ = now;
    last_us_ = now;
    ++n_;
    if (has_tokenizer_) return;
    Print(*machine_, id, " ");
    is_mid_line_ = true;
  }
  void OnText(std::string_view text) override {
    machine_->Write(text);
    if (!text.empty()) is_mid_line_ = text.back() != '\n';
  }

  uint64_t n() const { return n_; }
  // Between the first and the last.
  uint64_t us() const { return last_us_ - first_us_; }
  // What is shown next would stand behind the text.
  bool is_mid_line() const { return is_mid_line_; }

 private:
  Machine* machine_;
  bool has_tokenizer_;
  bool is_mid_line_ = false;
  uint64_t n_ = 0;
  uint64_t first_us_ = 0;
  uint64_t last_us_ = 0;
};

namespace {

std::string_view ReasonText(StopReason reason) {
  switch (reason) {
    case StopReason::kEndOfSequence:
      return "the text ended";
    case StopReason::kLimit:
      return "as many as were asked for";
    case StopReason::kStopText:
      return "a stop text";
    case StopReason::kContextFull:
      return "the context is full";
    case StopReason::kCancelled:
      return "Ctrl-C";
  }
  return "";
}

constexpr uint64_t kMaxTokens = ~uint64_t{0};

// A plan for one has room for the other, and nothing but that.
bool NeedSameRoom(const head::SamplerOptions& a, const head::SamplerOptions& b, uint32_t vocab_size) {
  return head::CandidatesNeeded(a, vocab_size) == head::CandidatesNeeded(b, vocab_size) &&
         head::PenalisedNeeded(a, kMaxTokens) == head::PenalisedNeeded(b, kMaxTokens) &&
         head::IsBoundable(a) == head::IsBoundable(b);
}

// The sampler that is planned for: the usual one where it needs as much room, so that another temperature does not
// change the plan, and with it what is in flash.
head::SamplerOptions PlannedSampler(const head::SamplerOptions& wanted, uint32_t vocab_size) {
  const head::SamplerOptions usual;
  const bool suffices = head::CandidatesNeeded(wanted, vocab_size) <= head::CandidatesNeeded(usual, vocab_size) &&
                        head::PenalisedNeeded(wanted, kMaxTokens) <= head::PenalisedNeeded(usual, kMaxTokens) &&
                        head::IsBoundable(wanted);
  return suffices ? usual : wanted;
}

}  // namespace

std::span<const Console::Command> Console::commands() {
  static constexpr std::array<Command, 13> kCommands = {
      {{"run", "[TEXT]", "continue a text; without TEXT line by line, until /bye. Ctrl-C ends it", &Console::RunText},
       {"ls", "", "the models on the card", &Console::List},
       {"use", "MODEL", "take this model from now on", &Console::Use},
       {"set", "[NAME VALUE]", "show the settings, or set one; the board keeps it. 'set reset' forgets all",
        &Console::Set},
       {"plan", "", "where the model's weights and buffers are, and what a token reads", &Console::Plan},
       {"info", "", "chip, memory, card, model", &Console::Info},
       {"doctor", "[--report]",
        "look for what is wrong: supply, pins, memory, arithmetic, card; measure all of it, too", &Console::Doctor},
       {"bench", "[card|psram|flash|kernels|token]", "measure; save the lines for 'thimble boards --from-log'",
        &Console::Bench},
       {"events", "[on|off]", "what happened when in the last run, once it is on, for ui.perfetto.dev",
        &Console::Events},
       {"wifi", "[NETWORK]", "which network the board is in, or join one; --password, --key, --forget", &Console::Wifi},
       {"server", "[URL [MODE]]",
        "which server makes texts, or take one; --key, --model NAME, --wait SECONDS, --forget", &Console::Server},
       {"help", "", "this", &Console::Help},
       {"?", "", "this", &Console::Help}}};
  return kCommands;
}

void Console::Start() {
  model_->Close();
  LoadSettings(*machine_, settings_);
  if (help_ != nullptr) help_->Load();
  const MachineInfo info = machine_->info();
  Print(*machine_, "Thimble on ", machine_->board().name, ", ", info.chip, " revision ", info.revision / 100, ".",
        info.revision % 100, ". 'help' lists what can be typed.\n");
  if (info.browned_out) ExamineStart(*machine_);
  ExamineArithmetic(*machine_, /*is_brief=*/true);
}

const char* Console::prompt() const {
  switch (question_) {
    case Question::kNetworkPassword:
      return "password (Enter alone: none): ";
    case Question::kServiceKey:
    case Question::kServerKey:
      return "key (Enter alone: none): ";
    case Question::kNone:
      break;
  }
  return is_chatting_ ? ">>> " : "thimble> ";
}

void Console::TellStoryWithoutCard() {
  if (machine_->card() != nullptr) return;
  machine_->interrupted().store(false);
  Result<void> done = model_->Open("");
  if (!done || !model_->is_in_flash()) return model_->Close();
  Print(*machine_, "There is no card, so this is the model in flash; 'run Once upon a time' tells another.\n");
  TellOfModel();
  done = OpenSession();
  if (done) done = Continue("");
  if (!done) Tell(done.error());
}

void Console::Execute(std::string_view line) {
  machine_->interrupted().store(false);
  if (asks_secret()) return TakeSecret(line);
  if (is_chatting_) return ExecuteChat(line);
  if (const Result<void> parsed = line_.Parse(line); !parsed) return Tell(parsed.error());
  if (line_.size() == 0) return;
  for (const Command& command : commands()) {
    if (line_.word(0) == command.name) return (this->*command.run)();
  }
  Print(*machine_, "there is no command '", Clean{line_.word(0).substr(0, 40)}, "': 'help' lists all of them\n");
}

void Console::Tell(const Error& error) {
  if (error.code == Code::kCancelled) {
    Print(*machine_, "\n^C\n");
    return;
  }
  Print(*machine_, "error: ", error, "\n");
  if (error.code != Code::kIo && error.code != Code::kTimeout) return;
  // Whatever is open reads from it.
  model_->Close();
  Print(*machine_, "If it is the card: is it in its slot? Put it back and type the command again; 'doctor' tries all ",
        "ways of reading it.\n");
}

bool Console::HasWords(size_t least, size_t most) {
  const size_t n = line_.size() - 1;
  if (n >= least && n <= most) return true;
  for (const Command& command : commands()) {
    if (line_.word(0) != command.name) continue;
    Print(*machine_, "so: ", command.name, command.arguments.empty() ? "" : " ", command.arguments, "\n");
  }
  return false;
}

void Console::Help() {
  for (const Command& command : commands()) {
    if (command.name == "?") continue;
    Printer line(*machine_);
    line.Add(Padded{command.name, 7}).Add(Padded{command.arguments, 14}).Add("  ").Add(command.help).Add("\n");
  }
}

// -- The model

Result<void> Console::OpenModel() {
  if (model_->is_open()) return {};
  THIMBLE_TRY(model_->Open(settings_.model.data()));
  TellOfModel();
  return {};
}

void Console::TellOfModel() {
  Print(*machine_, "model ", Clean{model_->name().text.data()}, ", ", model_->model().shape.num_hidden_layers,
        model_->model().shape.num_hidden_layers == 1 ? " layer" : " layers", ", vocabulary ",
        model_->model().shape.vocab_size, ", ");
  if (model_->is_in_flash()) {
    Print(*machine_, "in flash\n");
  } else {
    Print(*machine_, "card ", machine_->card_info().mode, "\n");
  }
  if (model_->index_note() != nullptr) Print(*machine_, "note: ", *model_->index_note(), "\n");
  if (model_->hint() != nullptr) Print(*machine_, "hint: ", model_->hint(), "\n");
}

void Console::TellOfTexts() {
  constexpr std::string_view kIdsOnly = ": tokens are shown as ids, and a text is begun by 'run' and Enter alone\n";
  if (const Error* fault = model_->session().tokenizer_fault(); fault != nullptr) {
    Print(*machine_, "note: ", *fault, kIdsOnly);
  } else if (!model_->model().tokenizer.present) {
    Print(*machine_, "note: the model has no tokenizer", kIdsOnly);
  }
}

bool Console::FitsSession(const StartOptions& start) const {
  return model_->is_started() && start.n_ctx == started_.n_ctx && start.head == started_.head &&
         NeedSameRoom(start.sampler, started_.sampler, model_->model().shape.vocab_size);
}

Result<void> Console::OpenSession() {
  THIMBLE_TRY(OpenModel());
  StartOptions start = settings_.run.start;
  start.sampler = PlannedSampler(start.sampler, model_->model().shape.vocab_size);
  model_->ledger().events = nullptr;
  if (!FitsSession(start)) {
    const Result<void> opened = model_->Start(start);
    if (!opened) {
      if (opened.error().code == Code::kOutOfMemory && start.n_ctx != 0) {
        const uint32_t fits = LargestContext(model_->model(), model_->board(), model_->block_bytes(),
                                             {.head = start.head}, start.sampler, model_->index());
        if (fits != 0) Print(*machine_, "hint: 'set ctx-size ", fits, "' fits, 'set ctx-size 0' takes what fits\n");
      }
      return opened;
    }
    started_ = start;
    if (model_->plan_note() != nullptr) Print(*machine_, "note: ", *model_->plan_note(), "\n");
    if (model_->swap_note() != nullptr)
      Print(*machine_, "note: thimble.swap is not used: ", *model_->swap_note(), "\n");
    TellOfTexts();
  }
  if (is_tracing_) model_->ledger().events = &trace_;
  return {};
}

void Console::List() {
  if (!HasWords(0, 0)) return;
  uint32_t n = 0;
  const Result<void> listed = model_->ForModels([&](const ModelName& name) {
    const bool is_current =
        model_->is_open() && storage::SameName(name.text.data(), std::string_view(model_->name().text.data()));
    Print(*machine_, is_current ? "* " : "  ", Clean{name.text.data()}, name.is_folder ? "/\n" : "\n");
    ++n;
    return !machine_->interrupted().load();
  });
  if (!listed) return Tell(listed.error());
  if (n == 0) Print(*machine_, "no model: copy a .gguf file or a tensor folder into the card's root folder\n");
}

void Console::Use() {
  if (!HasWords(1, 1)) return;
  const std::string_view name = line_.word(1);
  if (const Result<void> opened = model_->Open(name); !opened) return Tell(opened.error());
  TellOfModel();
  const Result<void> kept = ChangeSetting(*machine_, settings_, kModelSetting, name);
  if (!kept) Tell(kept.error());
}

// -- Settings

void Console::ShowSetting(std::string_view name, std::string_view help, std::string_view value) {
  Print(*machine_, Padded{name, 15}, Padded{value, 8}, "  ", help, "\n");
}

void Console::ShowSettings() {
  for (const RunSetting& setting : AllRunSettings()) {
    std::array<char, 32> text;
    ShowSetting(setting.name, setting.help, FormatRunSetting(settings_.run, setting.name, text));
  }
  ShowSetting(kModelSetting, "file name on the card; empty: the only one, or the first", settings_.model.data());
}

void Console::Set() {
  if (!HasWords(0, 2)) return;
  if (line_.size() == 1) return ShowSettings();
  const std::string_view name = line_.word(1);
  Result<void> done;
  if (line_.size() == 2 && name == "reset") {
    settings_ = {};
    done = machine_->ClearSettings();
    if (help_ != nullptr) help_->Load();
  } else if (line_.size() == 2) {
    Print(*machine_, "so: set NAME VALUE\n");
  } else {
    done = ChangeSetting(*machine_, settings_, name, line_.word(2));
    if (done && name == kModelSetting) model_->Close();
  }
  if (!done) Tell(done.error());
}

// -- Texts

void Console::RunText() {
  if (line_.size() == 1) {
    if (const Result<void> opened = OpenSession(); !opened) return Tell(opened.error());
    BeginText();
    is_chatting_ = true;
    Print(*machine_, "Type how a text begins. Enter alone goes on; /clear begins anew, /bye ends, /? helps.\n");
    return;
  }
  Result<void> done = OpenSession();
  if (done) BeginText();
  if (done) done = Continue(line_.RestFrom(1));
  if (!done) Tell(done.error());
}

void Console::ExecuteChat(std::string_view line) {
  Result<void> done;
  if (line == "/bye" || line == "/exit") {
    is_chatting_ = false;
  } else if (line == "/clear") {
    done = OpenSession();
    if (done) BeginText();
  } else if (line == "/keep") {
    done = KeepText();
  } else if (line == "/resume") {
    done = ResumeText();
  } else if (line.starts_with("/set")) {
    done = line_.Parse(line.substr(1));
    if (done) Set();
  } else if (line.starts_with('/')) {
    Print(*machine_,
          "/clear            begin another text\n/keep             keep this one in the card's swap file\n/resume      "
          "     go "
          "on with the one that is kept\n/set NAME VALUE   as 'set'\n/bye              back to commands\n");
  } else if (line.size() > kMaxLineBytes) {
    done = Fail(LineTooLong(line.size()));
  } else {
    done = OpenSession();
    if (done) done = Continue(line);
  }
  if (done) return;
  Tell(done.error());
  is_chatting_ = model_->is_started();
}

Result<void> Console::KeepText() {
  THIMBLE_TRY(OpenSession());
  THIMBLE_ASSIGN(const uint32_t kept, model_->session().Keep());
  Print(*machine_, kept, " tokens are kept; /resume takes them again, also after a restart\n");
  return {};
}

Result<void> Console::ResumeText() {
  THIMBLE_TRY(OpenSession());
  BeginText();
  THIMBLE_ASSIGN(const uint32_t restored, model_->session().Restore());
  if (restored == 0) {
    Print(*machine_, "nothing is kept of this model in a context of this size\n");
  } else {
    Print(*machine_, restored, " tokens are back; Enter goes on\n");
  }
  return {};
}

void Console::BeginText() {
  model_->session().Clear();
  if (help_ != nullptr) help_->Begin();
}

// What follows `text`, which is put behind what there is.
Result<void> Console::Continue(std::string_view text) {
  Session& session = model_->session();
  trace_.Clear();
  if (IsHelped()) return ContinueHelped(text);
  const CountsBefore before = Counts();
  if (!text.empty() || session.n_past() == 0) {
    std::span<const TokenId> ids;
    if (session.tokenizer().size() == 0 && session.tokenizer_ref().bos != kNoToken && text.empty()) {
      ids = {&session.tokenizer_ref().bos, 1};
    } else {
      THIMBLE_ASSIGN(ids, session.Tokenize(text));
    }
    // The begin token stands at the beginning only.
    if (session.has_text() && !ids.empty() && ids.front() == session.tokenizer_ref().bos) ids = ids.subspan(1);
    if (!ids.empty()) THIMBLE_TRY(session.Prefill(ids));
  }
  return Generate(before);
}

Console::CountsBefore Console::Counts() const {
  return {.retries = model_->ledger().retries, .draft = model_->ledger().draft};
}

Result<void> Console::Generate(const CountsBefore& before) {
  Session& session = model_->session();
  const head::SamplerOptions sampler = SamplerFor(settings_.run, machine_->NowUs());
  Output output(*machine_, session.tokenizer().size() != 0);
  const Result<GenerateResult> made =
      thimble::Generate(session, {.sampler = sampler, .n_predict = settings_.run.n, .stops = {}}, output);
  if (!made) {
    if (output.is_mid_line()) Print(*machine_, "\n");
    return std::unexpected(made.error());
  }
  Print(*machine_, "\n");
  TellOfText(output, *made, sampler, before);
  return {};
}

Result<void> Console::ContinueHelped(std::string_view text) {
  const head::SamplerOptions sampler = SamplerFor(settings_.run, machine_->NowUs());
  const CountsBefore before = Counts();
  Output output(*machine_, /*has_tokenizer=*/true);
  const auto made = help_->Continue(model_->session(), text, sampler, settings_.run.n, output);
  if (!made) return std::unexpected(made.error());
  if (*made) TellOfText(output, **made, sampler, before);
  return {};
}

void Console::TellOfText(const Output& output, const GenerateResult& made, const head::SamplerOptions& sampler,
                         const CountsBefore& before) {
  Print(*machine_, "[", made.n_predicted, made.n_predicted == 1 ? " token" : " tokens");
  if (output.us() != 0) Print(*machine_, ", ", Fixed{(output.n() - 1) * 100'000'000 / output.us(), 2}, " a second");
  Print(*machine_, "; ", ReasonText(made.reason));
  if (sampler.temperature != 0) Print(*machine_, "; seed ", sampler.seed);
  const DraftCounts drafts = model_->ledger().draft.Since(before.draft);
  if (drafts.drafted != 0) {
    Print(*machine_, "; ", drafts.accepted, " of ", drafts.drafted, " guesses came, ",
          Fixed{(drafts.passes + drafts.accepted) * 100 / drafts.passes, 2}, " tokens a pass");
  }
  const uint64_t retries = model_->ledger().retries - before.retries;
  if (retries != 0) Print(*machine_, "; ", retries, retries == 1 ? " read" : " reads", " of the card made again");
  Print(*machine_, "]\n");
}

// -- What is there

void Console::Info() {
  if (!HasWords(0, 0)) return;
  const MachineInfo info = machine_->info();
  Print(*machine_, "board      ", machine_->board().name, ", ", machine_->board().description, "\n");
  Print(*machine_, "chip       ", info.chip, " revision ", info.revision / 100, ".", info.revision % 100, ", ",
        info.cores, info.cores == 1 ? " core" : " cores", " at ", info.mhz, " MHz, ", info.sdk, "\n");
  Print(*machine_, "flash      ", info.flash_bytes / 1024, " KiB, for weights ",
        machine_->flash() == nullptr ? 0 : machine_->flash()->memory().size() / 1024, " KiB\n");
  Print(*machine_, "PSRAM      ", info.psram_bytes / 1024, " KiB\n");
  Print(*machine_, "start      ", info.reset_reason, ", ", Fixed{machine_->NowUs() / 100'000, 1}, " s ago\n");
  for (const HeapInfo& heap : info.heaps) {
    Print(*machine_, "heap       ", heap.name, ": ", heap.free_bytes, " bytes free, ", heap.least_free_bytes,
          " at least since the start, ", heap.largest_bytes, " in one piece\n");
  }
  for (size_t i = 0; i < kNumRegions; ++i) {
    const Arena& arena = machine_->arenas()[i];
    Print(*machine_, "engine     ", Padded{RegionName(arena.region()), 8}, "  ", arena.used_bytes(), " of ",
          arena.capacity_bytes(), " bytes in use\n");
  }
  if (machine_->card() == nullptr) {
    Print(*machine_, "card       not looked for yet\n");
  } else {
    const CardInfo card = machine_->card_info();
    Print(*machine_, "card       ", Clean{card.name}, ", ", card.size_bytes / 1'000'000, " MB, ", card.mode, ", ",
          card.retries, card.retries == 1 ? " read" : " reads", " made again, brought back ", card.reinitialised,
          card.reinitialised == 1 ? " time\n" : " times\n");
  }
  if (model_->is_open()) {
    TellOfModel();
    Print(*machine_, "           in ", model_->pieces(), model_->pieces() == 1 ? " piece" : " pieces",
          model_->is_in_flash() ? " in flash\n" : " on the card\n");
  }
}

void Console::Plan() {
  if (!HasWords(0, 0)) return;
  if (const Result<void> opened = OpenSession(); !opened) return Tell(opened.error());
  const plan::Plan& p = model_->plan();
  Print(*machine_, "context ", p.n_ctx, ", prompts in pieces of ", p.prompt_batch, ", next token by ",
        p.screened ? "the screen" : "a scan of all rows", p.draft_max == 0 ? "" : ", guesses by ",
        p.draft_max == 0 ? "" : plan::DraftModeName(p.options.draft),
        model_->has_plan_file() ? ", by the plan file" : "", "\n");
  if (const model::CacheTypes& cache = p.options.cache; !cache.is_exact()) {
    Print(*machine_, "keys as ", plan::CacheTypeName(cache.k), ", values as ", plan::CacheTypeName(cache.v),
          ": rounded, so texts are not the exact ones\n");
  }
  for (size_t i = 0; i < kNumBuffers; ++i) {
    const plan::Buffer& buffer = p.buffers[i];
    if (buffer.bytes == 0) continue;
    Print(*machine_, Padded{RegionName(buffer.region), 9}, Padded{BufferName(static_cast<BufferId>(i)), 22},
          buffer.bytes, " bytes\n");
  }
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    Print(*machine_, Padded{RegionName(region), 9}, Padded{"all", 22}, p.region_bytes(region), " of ",
          model_->board().capacity(region), " bytes\n");
  }
  Print(*machine_, "a token reads ", p.token_cost.card_bytes,
        model_->is_in_flash() ? " bytes of flash in " : " bytes of the card in ", p.token_cost.reads, " reads\n");
}

void Console::Events() {
  if (!HasWords(0, 1)) return;
  const std::string_view what = line_.word(1);
  if (line_.size() == 1) {
    if (trace_.seen() != 0) return trace_.Show();
    Print(*machine_, "nothing was kept: 'events on', then 'run'\n");
  } else if (what == "on" || what == "off") {
    is_tracing_ = what == "on";
    trace_.Clear();
  } else {
    Print(*machine_, "so: events [on|off]\n");
  }
}

bool Console::HasNetwork() {
  if (network_ != nullptr || help_ != nullptr) return true;
  Print(*machine_, "this firmware was built without a network: menuconfig, Thimble, has it\n");
  return false;
}

void Console::Wifi() {
  if (!HasWords(0, 1) || !HasNetwork()) return;
  if (network_ == nullptr) {
    Print(*machine_, "this board has the network of the computer that plays it\n");
    return;
  }
  const std::string_view what = line_.word(1);
  if (what.empty() || what == "--password") return network_->Tell(what == "--password");
  if (what == "--key") {
    question_ = Question::kServiceKey;
    return;
  }
  if (what == "--forget") {
    if (const Result<void> left = network_->Leave(); !left) Tell(left.error());
    return;
  }
  if (what.size() > ssid_.size()) {
    Print(*machine_, "a network's name has 1 to 32 bytes\n");
    return;
  }
  ssid_bytes_ = what.copy(ssid_.data(), ssid_.size());
  question_ = Question::kNetworkPassword;
}

void Console::JoinNetwork(std::string_view password) {
  const std::string_view ssid(ssid_.data(), ssid_bytes_);
  if (const Result<void> joined = network_->Join(ssid, password); !joined)
    Print(*machine_, "error: ", joined.error(), "\n");
}

void Console::Server() {
  if (!HasWords(0, 2) || !HasNetwork()) return;
  if (help_ == nullptr) {
    Print(*machine_, "this board asks no server\n");
    return;
  }
  const std::string_view what = line_.word(1);
  const std::string_view value = line_.word(2);
  if (what == "--key" && value.empty()) {
    question_ = Question::kServerKey;
    return;
  }
  if (what == "--forget" && value.empty()) {
    help_->Forget();
  } else if (what == "--model" || what == "--wait") {
    if (!help_->Set(what.substr(2), value)) return;
  } else if (what.starts_with('-')) {
    Print(*machine_, "so: server [URL [remote|remote-else-local]], --key, --model NAME, --wait SECONDS, --forget\n");
    return;
  } else if (!what.empty()) {
    if (!help_->Choose(what, value)) return;
  }
  help_->Tell();
}

void Console::TakeSecret(std::string_view line) {
  const Question question = question_;
  ForgetQuestion();
  if (question == Question::kNetworkPassword) return JoinNetwork(line);
  if (question == Question::kServiceKey) {
    if (const Result<void> set = network_->SetKey(line); !set) Tell(set.error());
    return;
  }
  if (help_->Set("key", line)) help_->Tell();
}

// -- Measurements

void Console::Doctor() {
  if (!HasWords(0, 1)) return;
  const bool wants_report = line_.size() == 2;
  if (wants_report && line_.word(1) != "--report") {
    Print(*machine_, "so: doctor [--report]\n");
    return;
  }
  model_->Close();
  uint32_t wrong = 0;
  for (const auto examine : {ExamineStart, ExaminePsram, ExamineFlash, ExamineCard}) {
    if (!machine_->interrupted().load()) wrong += examine(*machine_);
  }
  wrong += ExamineArithmetic(*machine_, /*is_brief=*/false);
  if (machine_->interrupted().load()) {
    Print(*machine_, "^C\n");
    return;
  }
  if (wrong == 0) {
    Print(*machine_, "nothing wrong was found\n");
  } else {
    Print(*machine_, wrong, wrong == 1 ? " thing is" : " things are", " wrong\n");
  }
  if (!wants_report) return;
  if (const Result<void> done = PrintReport(*machine_, workers_); !done) Tell(done.error());
}

void Console::Bench() {
  if (!HasWords(0, 1)) return;
  if (const Result<void> done = BenchAll(line_.word(1)); !done) Tell(done.error());
}

Result<void> Console::BenchAll(std::string_view what) {
  constexpr std::array<std::string_view, 4> kParts = {"card", "psram", "flash", "kernels"};
  if (what == "token") return BenchToken();
  if (!what.empty() && std::ranges::find(kParts, what) == kParts.end()) {
    Print(*machine_, "so: bench [card|psram|flash|kernels|token]\n");
    return {};
  }
  model_->Close();
  const auto is_wanted = [&](std::string_view part) { return what.empty() || what == part; };
  if (is_wanted("card")) THIMBLE_TRY(machine_->MountCard());
  BenchHeader(*machine_);
  BenchLog log(*machine_);
  if (is_wanted("card")) THIMBLE_TRY(BenchCard(*machine_, log));
  for (const std::string_view part : {"psram", "flash"}) {
    if (!is_wanted(part)) continue;
    const Result<void> done = part == "psram" ? BenchPsram(*machine_, log) : BenchFlash(*machine_, log);
    // Of all, what the board has.
    if (!done && (done.error().code != Code::kUnsupported || !what.empty())) return done;
  }
  return is_wanted("kernels") ? BenchKernels(*machine_, log, workers_) : Result<void>();
}

Result<void> Console::BenchToken() {
  THIMBLE_TRY(OpenSession());
  Session& session = model_->session();
  session.Clear();
  const TokenId bos = session.tokenizer_ref().bos;
  const TokenId first = bos < session.shape().vocab_size ? bos : 0;
  THIMBLE_TRY(session.Prefill({&first, 1}));
  const ZoneCounts before = model_->ledger().total();
  for (uint32_t i = 0; i < kBenchTokens && session.n_past() < session.n_ctx(); ++i) {
    const uint64_t begin = machine_->NowUs();
    THIMBLE_ASSIGN(const TokenId id, session.Next({.temperature = 0}));
    Print(*machine_, "token ", i + 1, ": ", Fixed{(machine_->NowUs() - begin) / 10, 2}, " ms, id ", id, "\n");
  }
  const ZoneCounts after = model_->ledger().total();
  Print(*machine_, "read from the card: ", after.card_bytes - before.card_bytes, " bytes in ",
        after.reads - before.reads, " reads\n");
  session.Clear();
  return {};
}

}  // namespace thimble::firmware
