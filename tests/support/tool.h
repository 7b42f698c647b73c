// The command-line tool as a user runs it.
#ifndef THIMBLE_TESTS_SUPPORT_TOOL_H_
#define THIMBLE_TESTS_SUPPORT_TOOL_H_

#include <cstdint>
#include <string>
#include <vector>

namespace thimble::tests {

struct ToolRun {
  int exit_code = -1;  // -1 if the tool could not be started or did not end by itself
  std::string out;     // all it wrote to stdout
  std::string error;   // all it wrote to stderr
};

// Runs the tool of this build with these arguments and this standard input. `out_path`: a file that is its standard
// output instead; empty: what it writes there is in the result. `address_space_bytes`: what it may map (ulimit -v), 0:
// as much as this process.
ToolRun RunTool(const std::vector<std::string>& arguments, const std::string& input = "",
                const std::string& out_path = "", uint64_t address_space_bytes = 0);

// The same with a terminal as its standard output and standard error, which is in `out` byte by byte as the tool wrote
// it. Standard input is empty.
ToolRun RunToolOnTerminal(const std::vector<std::string>& arguments);

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_TOOL_H_
