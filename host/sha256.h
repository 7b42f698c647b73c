// SHA-256 (FIPS 180-4), so that a model on a card can be compared with what `sha256sum` or a download page says of it.
#ifndef THIMBLE_HOST_SHA256_H_
#define THIMBLE_HOST_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace thimble::host {

class Sha256 {
 public:
  // Takes the next bytes of the message, in pieces of any size.
  void Add(std::span<const std::byte> bytes);

  // The digest of all that was added, as 64 hexadecimal digits in small letters. Nothing may be added afterwards.
  std::string Finish();

 private:
  static constexpr size_t kBlockBytes = 64;

  void Compress(std::span<const std::byte> block);

  // FIPS 180-4, 5.3.3.
  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, kBlockBytes> rest_ = {};  // the beginning of a block
  size_t num_rest_ = 0;
  uint64_t total_bytes_ = 0;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SHA256_H_
