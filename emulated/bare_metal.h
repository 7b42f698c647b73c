// What machines without an operating system share.
#ifndef THIMBLE_EMULATED_BARE_METAL_H_
#define THIMBLE_EMULATED_BARE_METAL_H_

#include <cstddef>
#include <cstdint>
#include <span>

extern "C" {
// Of memory.ld.
extern std::byte __bss_start[], __bss_end[], __free_start[], __free_end[], __stack_bottom[], __stack_top[];

// Where a machine's start-up code goes once there is a stack: runs the program and ends the machine.
[[noreturn]] void thimble_start();
// Where its exceptions go, on an empty stack.
[[noreturn]] void thimble_report_exception(uint32_t cause, uint32_t pc, uint32_t address);
}

namespace thimble::emulated {

// Each machine's own.
[[noreturn]] void Exit(int code);
std::span<const char* const> Arguments();

inline uint32_t AddressOf(const volatile void* p) { return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p)); }

}  // namespace thimble::emulated

#endif  // THIMBLE_EMULATED_BARE_METAL_H_
