#include "engine/base/xxh32.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace thimble {

static_assert(std::endian::native == std::endian::little);

void Xxh32::Update(std::span<const std::byte> data) {
  const size_t waiting = waiting_bytes();
  total_bytes_ += data.size();
  if (waiting > 0) {
    const std::span<const std::byte> first = data.first(std::min(data.size(), kStripeBytes - waiting));
    std::ranges::copy(first, waiting_.begin() + waiting);
    if (waiting + first.size() < kStripeBytes) return;
    take_stripes_(lanes_.data(), waiting_.data(), 1);
    data = data.subspan(first.size());
  }
  const size_t stripes = data.size() / kStripeBytes;
  if (stripes > 0) take_stripes_(lanes_.data(), data.data(), stripes);
  std::ranges::copy(data.subspan(stripes * kStripeBytes), waiting_.begin());
}

uint32_t Xxh32::Digest() const {
  uint32_t hash = seed_ + kPrime5;
  if (total_bytes_ >= kStripeBytes) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
  }
  hash += static_cast<uint32_t>(total_bytes_);
  const size_t waiting = waiting_bytes();
  size_t i = 0;
  for (; i + 4 <= waiting; i += 4) {
    uint32_t word;
    std::memcpy(&word, &waiting_[i], sizeof(word));
    hash = std::rotl(hash + word * kPrime3, 17) * kPrime4;
  }
  for (; i < waiting; ++i) hash = std::rotl(hash + static_cast<uint32_t>(waiting_[i]) * kPrime5, 11) * kPrime1;
  hash = (hash ^ hash >> 15) * kPrime2;
  hash = (hash ^ hash >> 13) * kPrime3;
  return hash ^ hash >> 16;
}

}  // namespace thimble
