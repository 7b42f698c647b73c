// With NetBSD's editline library.
#include "host/support/line_editor.h"

#include <histedit.h>
#include <unistd.h>

#include <array>
#include <clocale>
#include <cstdint>
#include <cstdio>
#include <cwchar>
#include <string_view>

#include "engine/text/utf8.h"

namespace thimble::host {
namespace {

constexpr int kLinesKept = 500;

std::string Utf8Of(const wchar_t* text) {
  std::string out;
  for (; *text != 0; ++text) {
    const auto code = static_cast<uint32_t>(*text);
    const auto rest = [&](int shift) { return static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += {static_cast<char>(0xC0 | (code >> 6)), rest(0)};
    } else if (code < 0x10000) {
      out += {static_cast<char>(0xE0 | (code >> 12)), rest(6), rest(0)};
    } else {
      out += {static_cast<char>(0xF0 | (code >> 18)), rest(12), rest(6), rest(0)};
    }
  }
  return out;
}

class EditLineEditor final : public LineEditor {
 public:
  explicit EditLineEditor(const std::atomic<bool>& flag) : interrupted(flag) {
    // The library shows characters by the C library's idea of them.
    std::setlocale(LC_CTYPE, "C.UTF-8");
    history = history_winit();
    HistEventW event;
    history_w(history, &event, H_SETSIZE, kLinesKept);
    history_w(history, &event, H_SETUNIQUE, 1);
    line = el_init("thimble", stdin, stderr, stderr);
    if (line == nullptr) return;
    el_wset(line, EL_CLIENTDATA, this);
    el_wset(line, EL_EDITOR, L"emacs");
    el_wset(line, EL_HIST, history_w, history);
    el_set(line, EL_PROMPT, +[](EditLine* editing) { return const_cast<char*>(Of(editing).prompt.c_str()); });
    el_wset(line, EL_GETCFN, +[](EditLine* editing, wchar_t* out) { return Of(editing).ReadCharacter(out); });
  }
  ~EditLineEditor() override {
    if (line != nullptr) el_end(line);
    history_wend(history);
  }

  static EditLineEditor& Of(EditLine* editing) {
    void* self = nullptr;
    el_wget(editing, EL_CLIENTDATA, &self);
    return *static_cast<EditLineEditor*>(self);
  }

  // 1 with a character, 0 at the end, -1 when it is interrupted. What is no UTF-8 is U+FFFD.
  int ReadCharacter(wchar_t* out) const {
    std::array<char, 4> bytes;
    size_t n = 0;
    while (true) {
      const std::optional<size_t> got = ReadInput(interrupted, std::span(bytes).subspan(n, 1));
      if (!got) return -1;
      if (*got == 0) return 0;
      const std::string_view text(bytes.data(), ++n);
      const text::Utf8Step step = text::NextUtf8(text);
      if (step.kind == text::Utf8::kIncomplete) continue;
      uint32_t code = 0xFFFD;
      if (step.kind == text::Utf8::kWhole) {
        code = static_cast<uint8_t>(bytes[0]) & (n == 1 ? 0x7Fu : 0x7Fu >> n);
        for (size_t i = 1; i < n; ++i) code = code << 6 | (static_cast<uint8_t>(bytes[i]) & 0x3F);
      }
      *out = static_cast<wchar_t>(code);
      return 1;
    }
  }

  bool is_open() const { return line != nullptr; }

  bool Read(const std::string& shown, std::string& out) override {
    prompt = shown;
    el_resize(line);
    // Before the prompt: the library would show it first, and Ctrl-D typed in between would be lost.
    el_wset(line, EL_PREP_TERM, 1);
    int count = 0;
    const wchar_t* const typed = el_wgets(line, &count);
    if (interrupted) return true;
    if (typed == nullptr || count <= 0) return false;
    out = Utf8Of(typed);
    if (out.ends_with('\n')) out.pop_back();
    HistEventW event;
    if (!out.empty()) history_w(history, &event, H_ENTER, typed);
    return true;
  }

 private:
  const std::atomic<bool>& interrupted;
  HistoryW* history = nullptr;
  EditLine* line = nullptr;
  std::string prompt;
};

}  // namespace

std::unique_ptr<LineEditor> LineEditor::Open(const std::atomic<bool>& interrupted) {
  if (isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1) return nullptr;
  auto editor = std::make_unique<EditLineEditor>(interrupted);
  if (!editor->is_open()) return nullptr;
  return editor;
}

}  // namespace thimble::host
