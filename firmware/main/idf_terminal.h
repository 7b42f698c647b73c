// The serial port as a terminal: lines with editing, history and completion, and Ctrl-C while a command runs.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_TERMINAL_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_TERMINAL_H_

#include <string_view>

#include "firmware/app/console.h"
#include "firmware/app/machine.h"

namespace thimble::firmware::idf {

// Installs the driver of the console's serial port. Once, before the others.
void OpenTerminal();

// Shows `text`; what Machine::Write() does. From any task.
void WriteTerminal(std::string_view text);

// Asks for one line after the other, and lets `console` do them. Of the task whose stack is said in Console.
[[noreturn]] void RunTerminal(Console& console, Machine& machine);

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_TERMINAL_H_
