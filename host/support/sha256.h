// SHA-256, so that a model on a card can be compared with what `sha256sum` or a download page says of it.
#ifndef THIMBLE_HOST_SUPPORT_SHA256_H_
#define THIMBLE_HOST_SUPPORT_SHA256_H_

#include <sha2.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace thimble::host {

// libmd's, with a digest for people.
class Sha256 {
 public:
  Sha256() { SHA256Init(&context_); }

  // Takes the next bytes of the message, in pieces of any size.
  void Add(std::span<const std::byte> bytes) {
    SHA256Update(&context_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }

  // The digest of all that was added, as 64 hexadecimal digits in small letters. Nothing may be added afterwards.
  std::string Finish() {
    std::array<uint8_t, SHA256_DIGEST_LENGTH> digest;
    SHA256Final(digest.data(), &context_);
    std::string text;
    for (const uint8_t byte : digest) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    return text;
  }

 private:
  SHA2_CTX context_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_SHA256_H_
