// What a path names.
#ifndef THIMBLE_HOST_SUPPORT_PATHS_H_
#define THIMBLE_HOST_SUPPORT_PATHS_H_

#include <string>
#include <string_view>
#include <vector>

#include "host/support/errors.h"

namespace thimble::host {

// Whether the letter stands between the parts of a path.
bool IsSeparator(char c);

// What is called `name` in the folder, "" being the current one.
std::string Joined(const std::string& folder, std::string_view name);

// The path without separators at its end, unless it is nothing else.
std::string WithoutLastSeparators(std::string path);

// A path's last part.
std::string NameOf(const std::string& path);

// The same without what follows its last point.
std::string StemOf(const std::string& path);

// Whether something (file, folder, link, even one that leads nowhere) of this name exists, or may: false only if the
// system says that nothing does, so that whoever opens it hears why that fails.
bool Exists(const std::string& path);
bool IsFolder(const std::string& path);
bool IsDevice(const std::string& path);

// The names of what a folder holds, in the order of their bytes.
Expected<std::vector<std::string>> NamesIn(const std::string& folder);

// The folder that it lies in, "" for the current one.
std::string FolderOf(const std::string& path);

// The path from the root, without ".." but with links as they are.
std::string Absolute(const std::string& path);

// The path without links and "..", as far as it exists.
std::string Canonical(const std::string& path);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_PATHS_H_
