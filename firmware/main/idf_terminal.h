// The serial port as a terminal: what is typed goes to firmware/app/terminal.h, at the prompt and while a command runs.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_TERMINAL_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_TERMINAL_H_

#include <span>
#include <string_view>

#include "firmware/app/terminal.h"

namespace thimble::firmware::idf {

// Installs the driver of the console's serial port. Once, before the others.
void OpenTerminal();

// Shows `text`; what Machine::Write() does. From any task.
void WriteTerminal(std::string_view text);

// Somebody else at the serial port, and with work for the terminal's task; all of it is called by that task, at the
// prompt.
class TerminalGuest {
 public:
  // Of what was typed, what is the terminal's; at most 6 bytes more, in `out`.
  virtual std::string_view OnTyped(std::string_view typed, std::span<char> out) = 0;
  // Some 50 times a second, while nothing is typed.
  virtual void Look() = 0;

 protected:
  ~TerminalGuest() = default;
};

// Has `terminal` do one line after the other. Of the task whose stack is said in Console. `guest`: null: none.
[[noreturn]] void RunTerminal(Terminal& terminal, TerminalGuest* guest);

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_TERMINAL_H_
