// The terminal's other end: takes what is typed, at whatever pace, and has the console do one line after the other.
//
//   while (true) {
//     while (!terminal.HasLine()) terminal.OnTyped(what the port has);
//     terminal.ExecuteLine();   meanwhile, in another task: terminal.OnTypedMeanwhile(what the port has)
//   }
#ifndef THIMBLE_FIRMWARE_APP_TERMINAL_H_
#define THIMBLE_FIRMWARE_APP_TERMINAL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "firmware/app/console.h"
#include "firmware/app/line_editor.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

// Every line that is typed is done once, whole and in its order, or refused with a sentence: if it is longer than
// kMaxLineBytes, or if it was typed while a command ran and there was no room to keep it. None is cut. Allocates
// nothing; some 2 KB. Refers to what it is given, which outlives it.
class Terminal {
 public:
  // What is kept of what is typed ahead.
  static constexpr size_t kAheadBytes = 1024;

  Terminal(Console& console, Machine& machine) : console_(&console), machine_(&machine) {}

  // -- Of the console's task.

  // How much can be given to OnTyped() at once. Not 0 after a HasLine() that was false.
  size_t room() const { return kAheadBytes - size_; }

  // What was typed while no command ran, in its order; more than there is room for is lost as it is meanwhile.
  void OnTyped(std::string_view typed);

  // Asks for a line, shows what was typed of it, and tells of lines that were lost. False if its end is still missing.
  bool HasLine();

  // After a HasLine() that was true: what Console::Execute() does.
  void ExecuteLine();

  // -- Of another task, and only during ExecuteLine(): keeps what is typed until the command has ended. Ctrl-C ends the
  // command and is not kept. What finds no room is lost: the line that it belongs to is told of, whole, by HasLine().
  void OnTypedMeanwhile(std::string_view typed);

 private:
  void Keep(char typed);
  char TakeKept();
  void LoseLine();
  void Ask();

  Console* console_;
  Machine* machine_;
  LineEditor editor_;
  std::array<char, kAheadBytes> ahead_ = {};  // a ring; Enter is "\n"
  size_t first_ = 0;
  size_t size_ = 0;
  uint64_t lost_lines_ = 0;
  bool is_losing_ = false;   // until the end of the line
  bool was_return_ = false;  // the last byte was "\r": "\n" after it is the same Enter
  bool has_line_ = false;    // the editor's, to be executed
  bool is_asking_ = false;   // the prompt is shown
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_TERMINAL_H_
