// Other programs.
#ifndef THIMBLE_HOST_SUPPORT_PROGRAM_H_
#define THIMBLE_HOST_SUPPORT_PROGRAM_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "host/support/errors.h"

namespace thimble::host {

// The folders in which programs are looked for, separated by colons: $PATH and where administration tools usually are.
std::string UsualProgramFolders();

// The path of the program in the first of `folders` that has it. `packages` is what the sentence says to install.
Expected<std::string> FindProgram(const std::string& folders, const std::string& name, const std::string& packages);

// Runs the program at `path` to its end, with nothing to read. Its environment is this process's, in UTF-8, with
// `settings` ("NAME=VALUE") and without variables that begin with `without`, which is not empty. `while_it_runs` is
// called now and then. Fails with what the program said.
Status RunProgram(const std::string& path, std::vector<std::string> arguments, std::vector<std::string> settings,
                  std::string_view without, const std::function<void()>& while_it_runs);

// Starts the program at `path` and leaves it alone: it has a session of its own, nothing to read, and nobody reads what
// it writes. False if it cannot be started.
bool StartProgram(const std::string& path, std::vector<std::string> arguments);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_PROGRAM_H_
