#include "host/support/paths.h"

#include <algorithm>
#include <filesystem>

#include "host/support/windows/wide.h"

namespace thimble::host {
namespace {

bool IsNothing(DWORD error) {
  return error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND || error == ERROR_INVALID_NAME ||
         error == ERROR_BAD_NETPATH || error == ERROR_BAD_NET_NAME || error == ERROR_INVALID_DRIVE;
}

}  // namespace

bool IsSeparator(char c) { return c == '/' || c == '\\'; }

std::string NameOf(const std::string& path) {
  const std::filesystem::path whole(Wide(path));
  return Narrow((whole.has_filename() ? whole : whole.parent_path()).filename().native());
}

std::string StemOf(const std::string& path) { return Narrow(std::filesystem::path(Wide(path)).stem().native()); }

std::string FolderOf(const std::string& path) {
  return Narrow(std::filesystem::path(Wide(path)).parent_path().native());
}

std::string Absolute(const std::string& path) { return ShownPath(WholePath(path)); }

std::string Canonical(const std::string& path) {
  const Handle handle = OpenShared(WholePath(path), 0, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS);
  if (!handle.is_open()) return Absolute(path);
  std::wstring whole(32768, L'\0');
  const DWORD n = GetFinalPathNameByHandleW(handle.get(), whole.data(), static_cast<DWORD>(whole.size()), 0);
  if (n == 0 || n >= whole.size()) return Absolute(path);
  whole.resize(n);
  return ShownPath(whole);
}

bool Exists(const std::string& path) {
  return GetFileAttributesW(WholePath(path).c_str()) != INVALID_FILE_ATTRIBUTES || !IsNothing(GetLastError());
}

bool IsFolder(const std::string& path) {
  const DWORD attributes = GetFileAttributesW(WholePath(path).c_str());
  return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
}

bool IsDevice(const std::string& path) { return IsDevicePath(path); }

Expected<std::vector<std::string>> NamesIn(const std::string& folder) {
  const auto failed = [&] { return Sentence("cannot list " + folder + ": " + LastErrorText()); };
  std::wstring pattern = WholePath(folder);
  pattern += pattern.ends_with(L'\\') ? L"*" : L"\\*";
  WIN32_FIND_DATAW found = {};
  const HANDLE search = FindFirstFileW(pattern.c_str(), &found);
  if (search == INVALID_HANDLE_VALUE) return failed();
  std::vector<std::string> names;
  do {
    std::string name = Narrow(found.cFileName);
    if (name != "." && name != "..") names.push_back(std::move(name));
  } while (FindNextFileW(search, &found));
  const bool at_end = GetLastError() == ERROR_NO_MORE_FILES;
  const auto why = failed();
  FindClose(search);
  if (!at_end) return why;
  std::ranges::sort(names);
  return names;
}

}  // namespace thimble::host
