// What a program of this folder needs of the machine it runs on: a computer, or an emulated processor without an
// operating system. Each folder beside this file is one machine.
#ifndef THIMBLE_EMULATED_MACHINE_H_
#define THIMBLE_EMULATED_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace thimble::emulated {

// The program; called once by the machine, whose exit code the result is. arguments[0] is the program's name.
int Main(std::span<const char* const> arguments);

void Write(std::string_view text);

// A file of the computer that runs or emulates the machine. A negative number if it cannot be opened.
int OpenFile(const char* path);
int64_t FileSizeBytes(int file);  // negative if it cannot be told
bool ReadFile(int file, uint64_t offset_bytes, std::span<std::byte> dst);

// The memory that program and stack leave of the machine's 4 MB, aligned to 16 bytes. A computer gives as much.
std::span<std::byte> FreeMemory();

// Instructions executed so far, by counting each; 0 where the machine cannot tell.
uint64_t Instructions();

// Whether the stack, 8192 bytes, has sufficed so far; tells how much of it was used. True where the machine cannot
// tell.
bool StackSufficed();

// Does what must not pass. "unaligned": loads a word from an odd address; "beyond": stores behind the end of memory;
// "stack": calls until the stack overflows, which is found out by StackSufficed(); "psram": calls a kernel when the
// stack has reached what stands for PSRAM. False if the machine does not know this fault.
bool CommitFault(std::string_view fault);

}  // namespace thimble::emulated

#endif  // THIMBLE_EMULATED_MACHINE_H_
