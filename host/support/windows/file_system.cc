#include "host/support/file_system.h"

#include <fmt/format.h>

#include "host/support/file_calls.h"
#include "host/support/paths.h"
#include "host/support/windows/wide.h"

namespace thimble::host {
namespace {

// The paths of folders with a separator at their end.
std::wstring WithSeparator(std::wstring path) {
  if (!path.ends_with(L'\\')) path += L'\\';
  return path;
}

}  // namespace

Expected<FileSystem> FileSystemOf(const std::string& folder) {
  const auto failed = [&] { return Sentence(fmt::format("cannot look at {}: {}", folder, LastErrorText())); };
  const std::wstring whole = WithSeparator(Wide(Canonical(folder)));
  std::wstring top(whole.size() + MAX_PATH, L'\0');
  if (!GetVolumePathNameW(whole.c_str(), top.data(), static_cast<DWORD>(top.size()))) return failed();
  top.resize(top.find(L'\0'));
  wchar_t name[MAX_PATH + 1] = {};
  DWORD sectors_per_cluster = 0;
  DWORD sector_bytes = 0;
  DWORD free_clusters = 0;
  DWORD clusters = 0;
  ULARGE_INTEGER free_bytes = {};
  if (!GetVolumeInformationW(top.c_str(), nullptr, 0, nullptr, nullptr, nullptr, name, MAX_PATH + 1) ||
      !GetDiskFreeSpaceW(top.c_str(), &sectors_per_cluster, &sector_bytes, &free_clusters, &clusters) ||
      !GetDiskFreeSpaceExW(top.c_str(), &free_bytes, nullptr, nullptr)) {
    return failed();
  }
  FileSystem system;
  const std::wstring_view type = name;
  if (type.starts_with(L"FAT")) system.kind = FileSystem::Kind::kFat;
  if (type == L"exFAT") system.kind = FileSystem::Kind::kExFat;
  if (type == L"NTFS") system.kind = FileSystem::Kind::kNtfs;
  system.block_bytes = uint64_t{sectors_per_cluster} * sector_bytes;
  system.blocks = clusters;
  system.free_bytes = free_bytes.QuadPart;
  system.is_top = CompareStringOrdinal(whole.c_str(), -1, WithSeparator(top).c_str(), -1, TRUE) == CSTR_EQUAL;
  return system;
}

// Whoever writes hears it: only that tells.
Status CheckWritable(const std::string&) { return {}; }

// Each file was flushed, and each name written through. Of all of a volume only administrators may ask that.
Status FlushFileSystem(const std::string&) { return {}; }

uint64_t FileBytesOf(const std::string& path) {
  const auto status = StatusAt(path);
  return status && *status ? (*status)->size_bytes : 0;
}

std::optional<size_t> CountPieces(const std::string&, uint64_t) { return std::nullopt; }

}  // namespace thimble::host
