// Windows' own calls, and its texts: UTF-16 there, UTF-8 in all of this tool.
#ifndef THIMBLE_HOST_SUPPORT_WINDOWS_WIDE_H_
#define THIMBLE_HOST_SUPPORT_WINDOWS_WIDE_H_

#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
//
#include <shellapi.h>
#include <winioctl.h>

#include <string>
#include <string_view>
#include <utility>

namespace thimble::host {

// What is not well formed becomes U+FFFD.
std::wstring Wide(std::string_view utf8);
std::string Narrow(std::wstring_view wide);

// The path from the root, without "..", in the form that has no limit of 260 characters where it needs that.
std::wstring WholePath(const std::string& path);

// The same for people: without the prefix of that form.
std::string ShownPath(std::wstring_view whole);

// Whether it names a device, as \\.\PhysicalDrive1 does, and NUL and CON.
bool IsDevicePath(const std::string& path);

// The words for GetLastError(), without a full stop. Good until the thread's next call of it.
const char* LastErrorText();

// One that is closed at the end.
class Handle {
 public:
  explicit Handle(HANDLE handle) : handle_(handle) {}
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, INVALID_HANDLE_VALUE)) {}
  Handle& operator=(Handle&&) = delete;
  ~Handle() {
    if (is_open()) CloseHandle(handle_);
  }
  bool is_open() const { return handle_ != INVALID_HANDLE_VALUE; }
  HANDLE get() const { return handle_; }
  HANDLE Release() { return std::exchange(handle_, INVALID_HANDLE_VALUE); }

 private:
  HANDLE handle_;
};

// Opens a file or folder that others may go on to read, write, rename and remove, as Unix has it.
Handle OpenShared(const std::wstring& path, DWORD access, DWORD disposition, DWORD flags = 0);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_WINDOWS_WIDE_H_
