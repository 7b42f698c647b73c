#include "tests/support/tool.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

namespace thimble::tests {
namespace {

std::string Contents(FILE* file) {
  std::string text;
  std::array<char, 4096> piece;
  std::rewind(file);
  while (const size_t n = std::fread(piece.data(), 1, piece.size(), file)) text.append(piece.data(), n);
  std::fclose(file);
  return text;
}

}  // namespace

ToolRun RunTool(const std::vector<std::string>& arguments, const std::string& input, const std::string& out_path,
                uint64_t address_space_bytes) {
  std::vector<const char*> argv = {THIMBLE_TOOL};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  argv.push_back(nullptr);

  FILE* const in = std::tmpfile();
  std::fwrite(input.data(), 1, input.size(), in);
  std::rewind(in);
  FILE* const out = out_path.empty() ? std::tmpfile() : std::fopen(out_path.c_str(), "r+");
  FILE* const error = std::tmpfile();
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit = {.rlim_cur = address_space_bytes, .rlim_max = address_space_bytes};
    if (address_space_bytes != 0 && setrlimit(RLIMIT_AS, &limit) != 0) _exit(127);
    if (dup2(fileno(in), 0) == 0 && dup2(fileno(out), 1) == 1 && dup2(fileno(error), 2) == 2) {
      execv(argv[0], const_cast<char**>(argv.data()));
    }
    _exit(127);
  }
  int status = -1;
  const bool ended = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status);
  std::fclose(in);
  if (!out_path.empty()) std::fclose(out);
  return {.exit_code = ended ? WEXITSTATUS(status) : -1,
          .out = out_path.empty() ? Contents(out) : "",
          .error = Contents(error)};
}

ToolRun RunToolOnTerminal(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {THIMBLE_TOOL};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  argv.push_back(nullptr);

  const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) return {};
  const int terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  termios raw;
  tcgetattr(terminal, &raw);
  cfmakeraw(&raw);
  tcsetattr(terminal, TCSANOW, &raw);
  const pid_t child = fork();
  if (child == 0) {
    if (dup2(nothing, 0) == 0 && dup2(terminal, 1) == 1 && dup2(terminal, 2) == 2) {
      execv(argv[0], const_cast<char**>(argv.data()));
    }
    _exit(127);
  }
  close(terminal);
  close(nothing);
  ToolRun run;
  std::array<char, 4096> piece;
  // The end of a terminal without a program is an error.
  for (ssize_t n; (n = read(master, piece.data(), piece.size())) > 0;) {
    run.out.append(piece.data(), static_cast<size_t>(n));
  }
  close(master);
  int status = -1;
  if (child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status)) run.exit_code = WEXITSTATUS(status);
  return run;
}

}  // namespace thimble::tests
