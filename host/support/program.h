// Other programs.
#ifndef THIMBLE_HOST_SUPPORT_PROGRAM_H_
#define THIMBLE_HOST_SUPPORT_PROGRAM_H_

#include <string>
#include <vector>

#include "host/support/errors.h"

namespace thimble::host {

// The folders in which programs are looked for, separated by colons: $PATH and where administration tools usually are.
std::string UsualProgramFolders();

// The path of the program in the first of `folders` that has it. `packages` is what the sentence says to install.
Expected<std::string> FindProgram(const std::string& folders, const std::string& name, const std::string& packages);

// Starts the program at `path` and leaves it alone: it has a session of its own, nothing to read, and nobody reads what
// it writes. False if it cannot be started.
bool StartProgram(const std::string& path, std::vector<std::string> arguments);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_PROGRAM_H_
