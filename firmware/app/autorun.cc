#include "firmware/app/autorun.h"

#include <algorithm>

#include "engine/base/key_values.h"
#include "engine/formats/card_models.h"
#include "engine/generate.h"
#include "firmware/app/print.h"

namespace thimble::firmware {
namespace {

class AutorunSink final : public TextSink {
 public:
  AutorunSink(Machine& machine, const Session& session) : machine_(&machine), session_(&session) {}

  void OnToken(TokenId id) override {
    const std::span<const float> logits = session_->logits();
    const std::span<const float> seen =
        logits.empty() ? std::span(session_->hidden(), session_->shape().hidden_size) : logits;
    const std::span<const std::byte> bytes = std::as_bytes(seen);
    const auto crc32c = machine_->kernels().crc32c;
    all_ = crc32c(all_, bytes.data(), bytes.size());
    Print(*machine_, "autorun token ", id, " of ", seen.size(), " floats ", Hex{crc32c(0, bytes.data(), bytes.size())},
          "\n");
  }
  void OnText(std::string_view text) override { Print(*machine_, "autorun text ", Clean{text}, "\n"); }

  uint32_t all() const { return all_; }

 private:
  Machine* machine_;
  const Session* session_;
  uint32_t all_ = 0;
};

Result<void> Run(CardModel& model, Machine& machine, const AutorunOptions& options) {
  THIMBLE_TRY(model.Open(options.model));
  StartOptions start = options.run.start;
  start.keep_logits = start.head == plan::HeadMode::kFull;
  THIMBLE_TRY(model.Start(start));
  Print(machine, "autorun begin ", Clean{model.name().text.data()}, "\n");
  THIMBLE_ASSIGN(const std::span<const TokenId> prompt, model.session().Tokenize(options.prompt));
  for (const TokenId id : prompt) Print(machine, "autorun prompt ", id, "\n");
  THIMBLE_TRY(model.session().Prefill(prompt));
  AutorunSink output(machine, model.session());
  const GenerateOptions generate = {.sampler = start.sampler, .n_predict = options.run.n, .stops = {}};
  THIMBLE_ASSIGN(const GenerateResult result, Generate(model.session(), generate, output));
  Print(machine, "autorun stop ", StopReasonName(result.reason), "\n");
  Print(machine, "autorun tokens ", result.n_predicted, " hash ", Hex{output.all()}, "\n");
  return {};
}

bool Finish(Machine& machine, const Result<void>& result) {
  if (result) {
    Print(machine, "autorun PASS\n");
    return true;
  }
  Print(machine, "autorun FAIL: ", result.error(), "\n");
  return false;
}

}  // namespace

Result<AutorunOptions> ParseAutorun(std::string_view text) {
  AutorunOptions options;
  KeyValues lines(text);
  for (KeyValueLine line; lines.Next(line);) {
    const auto fail = [&](const char* what) {
      return Fail(Error{.code = Code::kCorrupt, .what = what, .have = line.number}.Named(line.text));
    };
    if (!line.has_key) return fail("line {have} of the automatic run, '{name}', is not 'key = value'");
    if (line.key == "model") {
      options.model = line.value;
    } else if (line.key == "prompt") {
      options.prompt = line.value;
    } else if (const Result<void> set = SetRunSetting(options.run, line.key, line.value); !set) {
      return fail(set.error().code == Code::kNotFound
                      ? "line {have} of the automatic run has the unknown key '{name}'"
                      : "line {have} of the automatic run has a value that is none for its key: '{name}'");
    }
  }
  return options;
}

bool Autorun(CardModel& model, Machine& machine, const AutorunOptions& options) {
  return Finish(machine, Run(model, machine, options));
}

bool AutorunIfAsked(CardModel& model, Machine& machine, std::string_view preset, bool& passed) {
  std::array<char, formats::kMaxAutorunBytes> memory;
  std::string_view text;
  // Where the card cannot be looked at, nobody is known to have asked: whoever wants it, is told what is wrong with it.
  const Result<bool> has_file = model.HasFile(formats::kAutorunFile);
  if (has_file && *has_file) {
    const Result<std::string_view> file = model.ReadText(formats::kAutorunFile, memory);
    if (!file) {
      passed = Finish(machine, std::unexpected(file.error()));
      return true;
    }
    text = *file;
  } else {
    const size_t size = std::min(preset.size(), memory.size());
    std::ranges::replace_copy(preset.substr(0, size), memory.data(), ';', '\n');
    text = {memory.data(), size};
  }
  if (text.empty()) return false;
  const Result<AutorunOptions> options = ParseAutorun(text);
  passed = options ? Autorun(model, machine, *options) : Finish(machine, std::unexpected(options.error()));
  return true;
}

}  // namespace thimble::firmware
