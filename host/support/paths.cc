#include "host/support/paths.h"

#include <filesystem>
#include <system_error>

namespace thimble::host {

bool IsSeparator(char c) { return c == '/'; }

std::string NameOf(const std::string& path) {
  const std::filesystem::path whole(path);
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

std::string StemOf(const std::string& path) { return std::filesystem::path(path).stem().string(); }

std::string FolderOf(const std::string& path) { return std::filesystem::path(path).parent_path().string(); }

std::string Absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.lexically_normal().string();
}

std::string Canonical(const std::string& path) {
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::weakly_canonical(path, error);
  return error ? path : canonical.string();
}

}  // namespace thimble::host
