#include "host/support/paths.h"

#include <string_view>

namespace thimble::host {
namespace {

// The path's last part, and what stands before it and its slashes.
struct Parts {
  std::string_view folder;
  std::string_view name;
};

Parts PartsOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == path.npos) return {"", path};
  const size_t end = path.find_last_not_of('/', slash);
  return {end == path.npos ? path.substr(0, 1) : path.substr(0, end + 1), path.substr(slash + 1)};
}

}  // namespace

bool IsSeparator(char c) { return c == '/'; }

std::string NameOf(const std::string& path) {
  const Parts parts = PartsOf(path);
  return std::string(parts.name.empty() ? PartsOf(parts.folder).name : parts.name);
}

std::string StemOf(const std::string& path) {
  const std::string_view name = PartsOf(path).name;
  const size_t dot = name.rfind('.');
  return std::string(dot == 0 || name == ".." ? name : name.substr(0, dot));
}

std::string FolderOf(const std::string& path) { return std::string(PartsOf(path).folder); }

// There are no links, and the current folder is the root.
std::string Absolute(const std::string& path) {
  std::string absolute;
  for (std::string_view left = path; !left.empty();) {
    const std::string_view part = left.substr(0, left.find('/'));
    left.remove_prefix(part.size() < left.size() ? part.size() + 1 : part.size());
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      absolute.resize(absolute.rfind('/') == absolute.npos ? 0 : absolute.rfind('/'));
    } else {
      absolute += "/" + std::string(part);
    }
  }
  return absolute.empty() ? "/" : absolute;
}

std::string Canonical(const std::string& path) { return Absolute(path); }

}  // namespace thimble::host
