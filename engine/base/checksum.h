// Checksums, as those parts see them that do not know how they are computed.
#ifndef THIMBLE_ENGINE_BASE_CHECKSUM_H_
#define THIMBLE_ENGINE_BASE_CHECKSUM_H_

#include <cstddef>
#include <cstdint>

namespace thimble {

// CRC-32C continued from `crc`: math::Kernels::crc32c.
using Crc32c = uint32_t (*)(uint32_t crc, const std::byte* data, size_t n);

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_CHECKSUM_H_
