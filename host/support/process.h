// What a process begins and ends with.
#ifndef THIMBLE_HOST_SUPPORT_PROCESS_H_
#define THIMBLE_HOST_SUPPORT_PROCESS_H_

#include <span>
#include <string_view>

namespace thimble::host {

// Called once, first of all in main(). Returns the words of the command line in UTF-8. On Windows it also makes
// standard input and output carry bytes as they are, and a console UTF-8 and the lines of a terminal until the process
// ends.
std::span<char* const> StartProcess(int argc, char** argv);

// Ends the process at once, after a line to standard error. Needs no memory.
[[noreturn]] void EndProcess(std::string_view line, int exit_code);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_PROCESS_H_
