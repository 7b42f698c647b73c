#include "host/support/process.h"

#include <fcntl.h>
#include <io.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "host/support/windows/wide.h"

namespace thimble::host {
namespace {

// What the console was before; others use it afterwards.
struct Console {
  UINT output_page = 0;
  DWORD output_mode = 0;
  DWORD error_mode = 0;
};
Console before;

void SetMode(DWORD stream, DWORD& kept) {
  const HANDLE handle = GetStdHandle(stream);
  if (!GetConsoleMode(handle, &kept)) return;
  SetConsoleMode(handle, kept | ENABLE_PROCESSED_OUTPUT | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
}

void RestoreConsole() {
  if (before.output_page != 0) SetConsoleOutputCP(before.output_page);
  if (before.output_mode != 0) SetConsoleMode(GetStdHandle(STD_OUTPUT_HANDLE), before.output_mode);
  if (before.error_mode != 0) SetConsoleMode(GetStdHandle(STD_ERROR_HANDLE), before.error_mode);
}

}  // namespace

std::span<char* const> StartProcess(int, char**) {
  for (const int fd : {0, 1, 2}) _setmode(fd, _O_BINARY);
  before.output_page = GetConsoleOutputCP();
  SetConsoleOutputCP(CP_UTF8);
  SetMode(STD_OUTPUT_HANDLE, before.output_mode);
  SetMode(STD_ERROR_HANDLE, before.error_mode);
  std::atexit(RestoreConsole);

  static std::vector<std::string> words;
  static std::vector<char*> pointers;
  int count = 0;
  wchar_t** const wide = CommandLineToArgvW(GetCommandLineW(), &count);
  for (int i = 0; wide != nullptr && i < count; ++i) words.push_back(Narrow(wide[i]));
  LocalFree(wide);
  for (std::string& word : words) pointers.push_back(word.data());
  return pointers;
}

void EndProcess(std::string_view line, int exit_code) {
  DWORD n = 0;
  WriteFile(GetStdHandle(STD_ERROR_HANDLE), line.data(), static_cast<DWORD>(line.size()), &n, nullptr);
  RestoreConsole();
  TerminateProcess(GetCurrentProcess(), static_cast<UINT>(exit_code));
  std::abort();
}

}  // namespace thimble::host
