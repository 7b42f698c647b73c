#include "host/support/process.h"

#include <unistd.h>

#include <cstddef>

namespace thimble::host {

std::span<char* const> StartProcess(int argc, char** argv) { return {argv, static_cast<size_t>(argc)}; }

void EndProcess(std::string_view line, int exit_code) {
  (void)!write(STDERR_FILENO, line.data(), line.size());
  _exit(exit_code);
}

}  // namespace thimble::host
