// The serial port as a terminal: what is typed goes to firmware/app/terminal.h, at the prompt and while a command runs.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_TERMINAL_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_TERMINAL_H_

#include <string_view>

#include "firmware/app/terminal.h"

namespace thimble::firmware::idf {

// Installs the driver of the console's serial port. Once, before the others.
void OpenTerminal();

// Shows `text`; what Machine::Write() does. From any task.
void WriteTerminal(std::string_view text);

// Has `terminal` do one line after the other. Of the task whose stack is said in Console.
[[noreturn]] void RunTerminal(Terminal& terminal);

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_TERMINAL_H_
