// Numbers in files.
#ifndef THIMBLE_HOST_SUPPORT_LITTLE_ENDIAN_H_
#define THIMBLE_HOST_SUPPORT_LITTLE_ENDIAN_H_

#include <bit>
#include <cstddef>
#include <cstring>

namespace thimble::host {

// The number whose bytes begin at `at`, the lowest first.
template <class T>
T LoadLittleEndian(const std::byte* at) {
  static_assert(std::endian::native == std::endian::little);
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_LITTLE_ENDIAN_H_
