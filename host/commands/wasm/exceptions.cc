// Debian's C++ runtime for WebAssembly has no exceptions. The code that uses them is compiled so that nothing is
// caught: what is thrown ends the program here, as it would in main().
#include <cstdlib>
#include <exception>
#include <new>

#include "host/commands/command.h"
#include "host/support/messages.h"

extern "C" {

void* __cxa_allocate_exception(size_t bytes) noexcept { return ::operator new(bytes); }

void __cxa_free_exception(void* thrown) noexcept { ::operator delete(thrown); }

// All that is thrown here derives from std::exception and nothing else, so that it begins with one.
[[noreturn]] void __cxa_throw(void* thrown, void*, void (*)(void*)) {
  const int exit_code = thimble::host::AnswerThrown(*static_cast<const std::exception*>(thrown));
  thimble::host::FlushResult();
  std::_Exit(exit_code);
}
}
