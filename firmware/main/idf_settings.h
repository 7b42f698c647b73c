// Settings in NVS: what Machine's calls of these names need.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_SETTINGS_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_SETTINGS_H_

#include <cstddef>
#include <span>
#include <string_view>

#include "engine/base/error.h"

namespace thimble::firmware::idf {

// Once, before the others. A partition that is full of another version's is emptied. Without it the others fail with
// kUnsupported.
void OpenSettings();

Result<size_t> LoadSetting(const char* key, std::span<char> out);
Result<void> SaveSetting(const char* key, std::string_view text);
Result<void> ClearSettings();

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_SETTINGS_H_
