#include "host/support/line_reader.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <cstdint>
#include <cstdio>
#include <cwchar>

#include "engine/text/utf8.h"

namespace thimble::host {
namespace {

constexpr int kLinesKept = 500;
constexpr int kWaitMilliseconds = 100;

// One or more bytes as they come: how many, 0 at the end, -1 when it is interrupted.
ssize_t ReadSome(const std::atomic<bool>& interrupted, char* out, size_t size) {
  while (true) {
    if (interrupted) return -1;
    pollfd input = {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (poll(&input, 1, kWaitMilliseconds) <= 0) continue;  // also for what set `interrupted`
    const ssize_t n = read(STDIN_FILENO, out, size);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    return n < 0 ? 0 : n;
  }
}

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

}  // namespace

struct LineReader::Editor {
  explicit Editor(const std::atomic<bool>& flag) : interrupted(flag) {
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
  ~Editor() {
    if (line != nullptr) el_end(line);
    history_wend(history);
  }

  static Editor& Of(EditLine* editing) {
    void* self = nullptr;
    el_wget(editing, EL_CLIENTDATA, &self);
    return *static_cast<Editor*>(self);
  }

  // 1 with a character, 0 at the end, -1 when it is interrupted. What is no UTF-8 is U+FFFD.
  int ReadCharacter(wchar_t* out) const {
    std::array<char, 4> bytes;
    size_t n = 0;
    while (true) {
      const ssize_t got = ReadSome(interrupted, &bytes[n], 1);
      if (got <= 0) return static_cast<int>(got);
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

  const std::atomic<bool>& interrupted;
  HistoryW* history = nullptr;
  EditLine* line = nullptr;
  std::string prompt;
};

LineReader::LineReader(const std::atomic<bool>& interrupted) : interrupted_(interrupted) {
  if (isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1) return;
  editor_ = std::make_unique<Editor>(interrupted_);
  if (editor_->line == nullptr) editor_.reset();
}

LineReader::~LineReader() = default;

LineReader::Outcome LineReader::Read(const std::string& prompt, std::string& line) {
  line.clear();
  if (editor_ == nullptr) return ReadPlain(line);
  editor_->prompt = prompt;
  el_resize(editor_->line);
  // Before the prompt: the library would show it first, and Ctrl-D typed in between would be lost.
  el_wset(editor_->line, EL_PREP_TERM, 1);
  int count = 0;
  const wchar_t* const typed = el_wgets(editor_->line, &count);
  if (interrupted_) return Outcome::kInterrupted;
  if (typed == nullptr || count <= 0) return Outcome::kEnd;
  line = Utf8Of(typed);
  if (line.ends_with('\n')) line.pop_back();
  HistEventW event;
  if (!line.empty()) history_w(editor_->history, &event, H_ENTER, typed);
  return Outcome::kLine;
}

LineReader::Outcome LineReader::ReadPlain(std::string& line) {
  bool is_too_long = false;
  size_t looked_at = 0;
  while (true) {
    if (const size_t end = buffer_.find('\n', looked_at); end != buffer_.npos) {
      line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      if (line.ends_with('\r')) line.pop_back();
      return is_too_long ? Outcome::kTooLong : Outcome::kLine;
    }
    if (at_end_) {
      if (buffer_.empty()) return is_too_long ? Outcome::kTooLong : Outcome::kEnd;
      line.swap(buffer_);
      buffer_.clear();
      return is_too_long ? Outcome::kTooLong : Outcome::kLine;
    }
    if (buffer_.size() > kMaxLineBytes) {
      is_too_long = true;
      buffer_.clear();
    }
    looked_at = buffer_.size();
    std::array<char, 4096> piece;
    const ssize_t n = ReadSome(interrupted_, piece.data(), piece.size());
    if (n < 0) return Outcome::kInterrupted;
    at_end_ = n == 0;
    buffer_.append(piece.data(), static_cast<size_t>(n));
  }
}

}  // namespace thimble::host
