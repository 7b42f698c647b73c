// What a path names.
#ifndef THIMBLE_HOST_SUPPORT_PATHS_H_
#define THIMBLE_HOST_SUPPORT_PATHS_H_

#include <string>
#include <vector>

#include "host/support/errors.h"

namespace thimble::host {

// A path's last part.
std::string NameOf(const std::string& path);

// The same without what follows its last point.
std::string StemOf(const std::string& path);

// Whether something (file, folder, ...) of this name exists.
bool Exists(const std::string& path);
bool IsFolder(const std::string& path);
bool IsDevice(const std::string& path);

// The names of what a folder holds, in no order.
Expected<std::vector<std::string>> NamesIn(const std::string& folder);

// The folder that it lies in, "" for the current one.
std::string FolderOf(const std::string& path);

// The path from the root, without ".." but with links as they are.
std::string Absolute(const std::string& path);

// The path without links and "..", as far as it exists.
std::string Canonical(const std::string& path);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_PATHS_H_
