#include "host/support/windows/wide.h"

namespace thimble::host {
namespace {

constexpr std::wstring_view kNoLimit = LR"(\\?\)";
constexpr std::wstring_view kNoLimitShare = LR"(\\?\UNC\)";
constexpr std::wstring_view kDevice = LR"(\\.\)";

// The path from the root, as Windows reads it. Empty: it does not.
std::wstring FullPath(const std::wstring& path) {
  const DWORD size = GetFullPathNameW(path.c_str(), 0, nullptr, nullptr);
  std::wstring full(size, L'\0');
  const DWORD n = size == 0 ? 0 : GetFullPathNameW(path.c_str(), size, full.data(), nullptr);
  full.resize(n < size ? n : 0);
  return full;
}

}  // namespace

std::wstring Wide(std::string_view utf8) {
  const auto size = static_cast<int>(utf8.size());
  std::wstring wide(utf8.size(), L'\0');  // never more units than bytes
  const int n = size == 0 ? 0 : MultiByteToWideChar(CP_UTF8, 0, utf8.data(), size, wide.data(), size);
  wide.resize(static_cast<size_t>(n));
  return wide;
}

std::string Narrow(std::wstring_view wide) {
  const auto size = static_cast<int>(wide.size());
  std::string utf8(wide.size() * 3, '\0');  // three bytes a unit, four for two
  const int n = size == 0 ? 0
                          : WideCharToMultiByte(CP_UTF8, 0, wide.data(), size, utf8.data(),
                                                static_cast<int>(utf8.size()), nullptr, nullptr);
  utf8.resize(static_cast<size_t>(n));
  return utf8;
}

std::wstring WholePath(const std::string& path) {
  const std::wstring wide = Wide(path);
  std::wstring full = FullPath(wide);
  if (full.empty()) return wide;
  if (full.size() < MAX_PATH - 12 || full.starts_with(kNoLimit) || full.starts_with(kDevice)) return full;
  if (full.starts_with(LR"(\\)")) return std::wstring(kNoLimitShare) + full.substr(2);
  return std::wstring(kNoLimit) + full;
}

std::string ShownPath(std::wstring_view whole) {
  if (whole.starts_with(kNoLimitShare)) return R"(\\)" + Narrow(whole.substr(kNoLimitShare.size()));
  if (whole.starts_with(kNoLimit)) whole.remove_prefix(kNoLimit.size());
  return Narrow(whole);
}

bool IsDevicePath(const std::string& path) { return FullPath(Wide(path)).starts_with(kDevice); }

const char* LastErrorText() {
  const DWORD error = GetLastError();  // before a thread's first text, which forgets it
  thread_local std::string text;
  wchar_t* words = nullptr;
  const DWORD n =
      FormatMessageW(FORMAT_MESSAGE_ALLOCATE_BUFFER | FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS,
                     nullptr, error, 0, reinterpret_cast<wchar_t*>(&words), 0, nullptr);
  text = n == 0 ? "error " + std::to_string(error) : Narrow({words, n});
  LocalFree(words);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == '.' || text.back() == ' ')) {
    text.pop_back();
  }
  SetLastError(error);
  return text.c_str();
}

Handle OpenShared(const std::wstring& path, DWORD access, DWORD disposition, DWORD flags) {
  return Handle(CreateFileW(path.c_str(), access, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr,
                            disposition, flags, nullptr));
}

}  // namespace thimble::host
