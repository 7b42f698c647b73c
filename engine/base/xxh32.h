// XXH32, a fast checksum against accidents, not against attacks: Y. Collet's specification,
// https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md.
#ifndef THIMBLE_ENGINE_BASE_XXH32_H_
#define THIMBLE_ENGINE_BASE_XXH32_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace thimble {

// The checksum of bytes that come piece by piece. Cannot fail; needs no memory but itself.
class Xxh32 {
 public:
  static constexpr uint32_t kPrime1 = 0x9e3779b1;
  static constexpr uint32_t kPrime2 = 0x85ebca77;
  static constexpr uint32_t kPrime3 = 0xc2b2ae3d;
  static constexpr uint32_t kPrime4 = 0x27d4eb2f;
  static constexpr uint32_t kPrime5 = 0x165667b1;
  static constexpr size_t kLanes = 4;
  static constexpr size_t kStripeBytes = 4 * kLanes;

  // Where nearly all of the time goes: math::Kernels::xxh32_stripes.
  using TakeStripes = void (*)(uint32_t* lanes, const std::byte* data, size_t stripes);

  explicit Xxh32(TakeStripes take_stripes, uint32_t seed = 0)
      : take_stripes_(take_stripes),
        seed_(seed),
        lanes_{seed + kPrime1 + kPrime2, seed + kPrime2, seed, seed - kPrime1} {}

  // The checksum of bytes that are all there.
  static uint32_t Of(TakeStripes take_stripes, std::span<const std::byte> data, uint32_t seed = 0) {
    Xxh32 checksum(take_stripes, seed);
    checksum.Update(data);
    return checksum.Digest();
  }

  // Goes on with these bytes. Pieces may have any size and alignment; those aligned to 4 bytes that begin behind a
  // multiple of 16 bytes are the fast ones.
  void Update(std::span<const std::byte> data);

  // Of all bytes so far. More may follow.
  uint32_t Digest() const;

 private:
  size_t waiting_bytes() const { return static_cast<size_t>(total_bytes_ % kStripeBytes); }

  TakeStripes take_stripes_;
  uint32_t seed_;
  uint64_t total_bytes_ = 0;
  std::array<uint32_t, kLanes> lanes_;
  std::array<std::byte, kStripeBytes> waiting_;  // of a stripe that is not whole yet
};

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_XXH32_H_
