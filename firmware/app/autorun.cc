#include "firmware/app/autorun.h"

#include <algorithm>

#include "engine/base/key_values.h"
#include "engine/base/text_buffer.h"
#include "engine/generate.h"

namespace thimble::firmware {
namespace {

// One line at a time.
class Line {
 public:
  explicit Line(Machine& machine) : machine_(&machine), text_(chars_) { text_.Append("autorun "); }
  Line& Add(std::string_view text) {
    text_.Append(text);
    return *this;
  }
  Line& Number(uint64_t value) {
    text_.Append(value);
    return *this;
  }
  Line& Hex(uint32_t value, uint32_t digits = 8) {
    while (digits-- > 0) text_.Append(std::string_view("0123456789abcdef").substr(value >> (4 * digits) & 15, 1));
    return *this;
  }
  // So that it stays one line.
  Line& Escaped(std::string_view text) {
    for (const char& c : text) {
      if (c == '\n') {
        Add("\\n");
      } else if (c == '\\') {
        Add("\\\\");
      } else if (static_cast<unsigned char>(c) < 0x20) {
        Add("\\x").Hex(static_cast<unsigned char>(c), 2);
      } else {
        Add({&c, 1});
      }
    }
    return *this;
  }
  void Print() {
    text_.Append("\n");
    machine_->Write({chars_.data(), text_.size()});
  }

 private:
  Machine* machine_;
  std::array<char, 400> chars_ = {};
  TextBuffer text_;
};

class Output final : public TextSink {
 public:
  Output(Machine& machine, const Session& session) : machine_(&machine), session_(&session) {}

  void OnToken(TokenId id) override {
    const std::span<const float> logits = session_->logits();
    const std::span<const float> seen =
        logits.empty() ? std::span(session_->hidden(), session_->shape().hidden_size) : logits;
    const std::span<const std::byte> bytes = std::as_bytes(seen);
    const auto crc32c = machine_->kernels().crc32c;
    all_ = crc32c(all_, bytes.data(), bytes.size());
    Line(*machine_)
        .Add("token ")
        .Number(id)
        .Add(" of ")
        .Number(seen.size())
        .Add(" floats ")
        .Hex(crc32c(0, bytes.data(), bytes.size()))
        .Print();
  }
  void OnText(std::string_view text) override { Line(*machine_).Add("text ").Escaped(text).Print(); }

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
  Line(machine).Add("begin ").Escaped(model.name().text.data()).Print();
  THIMBLE_ASSIGN(const std::span<const TokenId> prompt, model.session().Tokenize(options.prompt));
  for (const TokenId id : prompt) Line(machine).Add("prompt ").Number(id).Print();
  THIMBLE_TRY(model.session().Prefill(prompt));
  Output output(machine, model.session());
  const GenerateOptions generate = {.sampler = start.sampler, .n_predict = options.run.n, .stops = {}};
  THIMBLE_ASSIGN(const GenerateResult result, Generate(model.session(), generate, output));
  Line(machine).Add("stop ").Add(StopReasonName(result.reason)).Print();
  Line(machine).Add("tokens ").Number(result.n_predicted).Add(" hash ").Hex(output.all()).Print();
  return {};
}

bool Finish(Machine& machine, const Result<void>& result) {
  if (result) {
    Line(machine).Add("PASS").Print();
    return true;
  }
  std::array<char, 300> sentence;
  Line(machine).Add("FAIL: ").Add({sentence.data(), FormatError(result.error(), sentence)}).Print();
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
                      ? "line {have} of the automatic run has a key that there is not: '{name}'"
                      : "line {have} of the automatic run has a value that is none for its key: '{name}'");
    }
  }
  return options;
}

bool Autorun(CardModel& model, Machine& machine, const AutorunOptions& options) {
  return Finish(machine, Run(model, machine, options));
}

bool AutorunIfAsked(CardModel& model, Machine& machine, std::string_view preset, bool& passed) {
  std::array<char, kMaxAutorunBytes> memory;
  std::string_view text;
  const Result<std::string_view> file = model.ReadText(kAutorunFile, memory);
  if (!file && file.error().code == Code::kUnsupported) {
    passed = Finish(machine, std::unexpected(file.error()));
    return true;
  }
  if (file) {
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
