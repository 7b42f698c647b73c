#include "host/support/paths.h"

namespace thimble::host {

std::string Joined(const std::string& folder, std::string_view name) {
  const bool has_separator = folder.empty() || IsSeparator(folder.back());
  return folder + (has_separator ? "" : "/") + std::string(name);
}

std::string WithoutLastSeparators(std::string path) {
  while (path.size() > 1 && IsSeparator(path.back())) path.pop_back();
  return path;
}

}  // namespace thimble::host
