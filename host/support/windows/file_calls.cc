#include "host/support/file_calls.h"

#include <fcntl.h>
#include <io.h>

#include <algorithm>

#include "host/support/windows/wide.h"

namespace thimble::host {
namespace {

constexpr int kStandardInput = 0;
constexpr size_t kMaxBytesAtOnce = size_t{1} << 30;

std::unexpected<const char*> Why() { return std::unexpected<const char*>(LastErrorText()); }

HANDLE HandleOf(int fd) { return reinterpret_cast<HANDLE>(_get_osfhandle(fd)); }

// What a call at a place of the file is given.
OVERLAPPED At(uint64_t offset) {
  OVERLAPPED at = {};
  at.Offset = static_cast<DWORD>(offset);
  at.OffsetHigh = static_cast<DWORD>(offset >> 32);
  return at;
}

DWORD SizeOf(size_t bytes) { return static_cast<DWORD>(std::min(bytes, kMaxBytesAtOnce)); }

CallResult<size_t> Read(int fd, std::span<std::byte> out, OVERLAPPED* at) {
  DWORD n = 0;
  if (ReadFile(HandleOf(fd), out.data(), SizeOf(out.size()), &n, at)) return n;
  const DWORD error = GetLastError();
  if (error == ERROR_HANDLE_EOF || error == ERROR_BROKEN_PIPE) return 0;
  return Why();
}

CallResult<FileStatus> StatusOfHandle(HANDLE handle) {
  FileStatus status;
  if (GetFileType(handle) != FILE_TYPE_DISK) return status;
  BY_HANDLE_FILE_INFORMATION info = {};
  if (!GetFileInformationByHandle(handle, &info)) return Why();
  status.kind = (info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0 ? FileKind::kFolder : FileKind::kFile;
  status.identity = {.device = info.dwVolumeSerialNumber,
                     .number = uint64_t{info.nFileIndexHigh} << 32 | info.nFileIndexLow};
  status.size_bytes = uint64_t{info.nFileSizeHigh} << 32 | info.nFileSizeLow;
  return status;
}

}  // namespace

CallResult<int> OpenForReading(const std::string& path) {
  // With this flag a folder opens, too.
  Handle handle = OpenShared(WholePath(path), GENERIC_READ, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS);
  if (!handle.is_open()) return Why();
  return _open_osfhandle(reinterpret_cast<intptr_t>(handle.Release()), _O_RDONLY | _O_BINARY);
}

CallResult<int> OpenStream(const std::string& path) {
  if (path == "-") return kStandardInput;
  return OpenForReading(path);
}

bool CloseFile(int fd) { return fd == kStandardInput || _close(fd) == 0; }

CallResult<FileStatus> StatusOf(int fd, const std::string& path) {
  if (path != "-" && IsDevicePath(path)) {
    DWORD n = 0;
    GET_LENGTH_INFORMATION length = {};
    FileStatus status;
    if (DeviceIoControl(HandleOf(fd), IOCTL_DISK_GET_LENGTH_INFO, nullptr, 0, &length, sizeof(length), &n, nullptr)) {
      status.kind = FileKind::kBlockDevice;
    }
    status.has_name = false;
    return status;
  }
  const auto status = StatusOfHandle(HandleOf(fd));
  // Whoever started this process may have given it what can be read and no more.
  if (!status && path == "-") return FileStatus{};
  return status;
}

CallResult<std::optional<FileStatus>> StatusAt(const std::string& path) {
  if (IsDevicePath(path)) return FileStatus{};
  const Handle handle = OpenShared(WholePath(path), 0, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS);
  if (!handle.is_open()) {
    const DWORD error = GetLastError();
    if (error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND || error == ERROR_INVALID_NAME) {
      return std::nullopt;
    }
    return Why();
  }
  return StatusOfHandle(handle.get());
}

CallResult<uint64_t> DeviceBytes(int fd) {
  DWORD n = 0;
  GET_LENGTH_INFORMATION length = {};
  if (!DeviceIoControl(HandleOf(fd), IOCTL_DISK_GET_LENGTH_INFO, nullptr, 0, &length, sizeof(length), &n, nullptr)) {
    return Why();
  }
  return static_cast<uint64_t>(length.Length.QuadPart);
}

CallResult<size_t> ReadFrom(int fd, uint64_t offset, std::span<std::byte> out) {
  OVERLAPPED at = At(offset);
  return Read(fd, out, &at);
}

CallResult<size_t> ReadNext(int fd, std::span<std::byte> out) { return Read(fd, out, nullptr); }

CallResult<size_t> WriteTo(int fd, uint64_t offset, std::span<const std::byte> bytes) {
  OVERLAPPED at = At(offset);
  DWORD n = 0;
  if (!WriteFile(HandleOf(fd), bytes.data(), SizeOf(bytes.size()), &n, &at)) return Why();
  return n;
}

CallResult<void> SetFileSize(int fd, uint64_t bytes) {
  // Room for what is not written is not taken, where the file system can do that.
  DWORD n = 0;
  DeviceIoControl(HandleOf(fd), FSCTL_SET_SPARSE, nullptr, 0, nullptr, 0, &n, nullptr);
  FILE_END_OF_FILE_INFO end = {};
  end.EndOfFile.QuadPart = static_cast<LONGLONG>(bytes);
  if (!SetFileInformationByHandle(HandleOf(fd), FileEndOfFileInfo, &end, sizeof(end))) return Why();
  return {};
}

}  // namespace thimble::host
