#include <string_view>

#include "emulated/commands.h"
#include "emulated/machine.h"

namespace thimble::emulated {
namespace {

bool Run(std::span<const char* const> arguments) {
  const std::string_view command = arguments.empty() ? "" : arguments[0];
  if (command == "kernels") return CheckKernels();
  if (command == "count") return CountKernels();
  if (command == "generate") return GenerateFromCard(arguments.subspan(1));
  if (command == "fault" && arguments.size() == 2) return CommitFault(arguments[1]);
  Write("FAIL: no such command or fault\n");
  return false;
}

}  // namespace

int Main(std::span<const char* const> arguments) {
  const bool passed = Run(arguments.empty() ? arguments : arguments.subspan(1)) && StackSufficed();
  if (passed) Write("PASS\n");
  return passed ? 0 : 1;
}

}  // namespace thimble::emulated
