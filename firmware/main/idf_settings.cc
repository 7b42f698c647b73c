#include "idf_settings.h"

#include <algorithm>
#include <array>

#include "esp_err.h"
#include "nvs.h"
#include "nvs_flash.h"

namespace thimble::firmware::idf {
namespace {

constexpr char kNamespace[] = "thimble";
constexpr size_t kMaxTextBytes = 255;

bool is_open = false;
nvs_handle_t handle = 0;

std::unexpected<Error> NoSettings() {
  return Fail({.code = Code::kUnsupported, .what = "this board keeps no settings: its partition 'nvs' cannot be used"});
}

Result<void> Check(esp_err_t result) {
  if (result == ESP_OK) return {};
  return Fail({.code = Code::kIo,
               .what = "the setting could not be kept (error {have})",
               .tensor = {},
               .offset = 0,
               .have = static_cast<uint64_t>(result)});
}

}  // namespace

void OpenSettings() {
  esp_err_t result = nvs_flash_init();
  if (result == ESP_ERR_NVS_NO_FREE_PAGES || result == ESP_ERR_NVS_NEW_VERSION_FOUND) {
    result = nvs_flash_erase();
    if (result == ESP_OK) result = nvs_flash_init();
  }
  is_open = result == ESP_OK && nvs_open(kNamespace, NVS_READWRITE, &handle) == ESP_OK;
}

Result<size_t> LoadSetting(const char* key, std::span<char> out) {
  if (!is_open) return NoSettings();
  std::array<char, kMaxTextBytes + 1> text;
  size_t bytes = text.size();
  const esp_err_t result = nvs_get_str(handle, key, text.data(), &bytes);
  if (result == ESP_ERR_NVS_NOT_FOUND) {
    return Fail(Error{.code = Code::kNotFound, .what = "the setting '{name}' was never set"}.Named(key));
  }
  if (result == ESP_ERR_NVS_INVALID_LENGTH || (result == ESP_OK && (bytes == 0 || bytes - 1 > out.size()))) {
    return Fail(Error{.code = Code::kOutOfMemory, .what = "the setting '{name}' is too long"}.Named(key));
  }
  THIMBLE_TRY(Check(result));
  std::copy_n(text.data(), bytes - 1, out.data());
  return bytes - 1;
}

Result<void> SaveSetting(const char* key, std::string_view text) {
  if (!is_open) return NoSettings();
  std::array<char, kMaxTextBytes + 1> terminated = {};
  if (text.size() > kMaxTextBytes) {
    return Fail(Error{.code = Code::kInvalidArgument, .what = "the value of '{name}' is too long"}.Named(key));
  }
  std::copy(text.begin(), text.end(), terminated.begin());
  THIMBLE_TRY(Check(nvs_set_str(handle, key, terminated.data())));
  return Check(nvs_commit(handle));
}

Result<void> ClearSettings() {
  if (!is_open) return NoSettings();
  THIMBLE_TRY(Check(nvs_erase_all(handle)));
  return Check(nvs_commit(handle));
}

}  // namespace thimble::firmware::idf
