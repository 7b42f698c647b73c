// The types of ggml whose blocks are expanded to float32: where each number's code stands, and what it is worth. One
// layout for all kernels; docs/numbers.md has it as text. Source: ggml, ggml-quants.c, dequantize_row_*.
//
// A number is scale * (code - kBias) or, where kHasOffset, scale * code + offset. A binary16 has 11 significant bits,
// the number that a block of 256 multiplies it with 7, a code less its bias 6, or 7 where there is no such number. So
// all products are exact and the addition alone rounds: a fused multiply-add gives the same bits.
//
// Bytes reads what has any alignment: U32(at), little-endian, and Half(at), a binary16 as float32.
#ifndef THIMBLE_ENGINE_MATH_BLOCK_TYPES_INL_H_
#define THIMBLE_ENGINE_MATH_BLOCK_TYPES_INL_H_

#include <cstddef>
#include <cstdint>

#include "engine/base/exact.h"
#include "engine/base/tensor.h"

namespace thimble::math {

// Where the codes of eight numbers that lie side by side stand.
struct CodePlaces {
  const std::byte* low = nullptr;   // of each a byte, whose 4 bits from low_shift on are the code's lower ones
  uint32_t low_shift = 0;           // 0 or 4
  const std::byte* high = nullptr;  // of what BlockTypes calls kHigh
  uint32_t high_shift = 0;
};

// How a code's bits above the lower four are stored.
enum class HighBits : uint8_t {
  kNone,
  kBitOfByte,  // `high` is a byte with a bit for each of the eight numbers
  kOneOfEach,  // `high` is a byte for each, which has one at high_shift
  kTwoOfEach,  // ... two from high_shift on
};

struct ScaleAndOffset {
  float scale, offset;
};

// The values of IQ4_NL, plus 128.
inline constexpr uint8_t kIq4NlCodes[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

template <class Bytes>
struct BlockTypes {
  // Blocks of 32: codes j and j + 16 share a byte. kAt: where the 16 bytes begin.
  template <DType kT, uint32_t kAt>
  struct Of32 {
    static constexpr DType kType = kT;
    static constexpr uint32_t kElements = BlockElements(kT);
    static constexpr uint32_t kBytes = BlockBytes(kT);
    static constexpr uint32_t kGroupsOfScale = 4;  // groups of eight numbers
    static constexpr HighBits kHigh = HighBits::kNone;
    static constexpr uint32_t kBias = 0;
    static constexpr bool kHasOffset = false;
    static constexpr bool kHasTable = false;  // the 4 bits choose of kIq4NlCodes
    static constexpr uint32_t kSharing = 2;   // a group and the one so many further share bytes, by low_shift 0 and 4

    // What all scales of a block are made of.
    static ScaleAndOffset Head(const std::byte* block) { return {Bytes::Half(block), 0.0f}; }
    static ScaleAndOffset Scale(const std::byte*, ScaleAndOffset head, uint32_t) { return head; }
    // Of the numbers 8*group to 8*group + 7.
    static CodePlaces Places(const std::byte* block, uint32_t group) {
      return {.low = block + kAt + 8 * (group % 2), .low_shift = 4 * (group / 2)};
    }
  };
  // The same with an offset after the scale.
  template <DType kT, uint32_t kAt>
  struct Of32WithOffset : Of32<kT, kAt> {
    static constexpr bool kHasOffset = true;
    static ScaleAndOffset Head(const std::byte* block) { return {Bytes::Half(block), Bytes::Half(block + 2)}; }
  };

  struct Q4_0 : Of32<DType::kQ4_0, 2> {
    static constexpr uint32_t kBias = 8;
  };
  struct Q4_1 : Of32WithOffset<DType::kQ4_1, 4> {};
  struct Q5_0 : Of32<DType::kQ5_0, 6> {
    static constexpr HighBits kHigh = HighBits::kBitOfByte;
    static constexpr uint32_t kBias = 16;
    static CodePlaces Places(const std::byte* block, uint32_t group) {
      CodePlaces places = Of32<DType::kQ5_0, 6>::Places(block, group);
      places.high = block + 2 + group;
      return places;
    }
  };
  struct Q5_1 : Of32WithOffset<DType::kQ5_1, 8> {
    static constexpr HighBits kHigh = HighBits::kBitOfByte;
    static CodePlaces Places(const std::byte* block, uint32_t group) {
      CodePlaces places = Of32<DType::kQ5_1, 8>::Places(block, group);
      places.high = block + 4 + group;
      return places;
    }
  };
  struct IQ4_NL : Of32<DType::kIQ4_NL, 2> {
    static constexpr uint32_t kBias = 128;
    static constexpr bool kHasTable = true;
  };

  // Blocks of 256. Q4_K and Q5_K have a scale and an offset for each 32, of 6 bits in 12 bytes: in the lower bits of
  // bytes 0 to 3 and 4 to 7 those of the first four; those of the others have 4 bits in bytes 8 to 11, two above those.
  template <DType kT, uint32_t kAt>
  struct Of256 : Of32<kT, kAt> {
    static constexpr bool kHasOffset = true;
    static constexpr uint32_t kSharing = 4;
    static ScaleAndOffset Head(const std::byte* block) { return {Bytes::Half(block), Bytes::Half(block + 2)}; }
    static ScaleAndOffset Scale(const std::byte* block, ScaleAndOffset head, uint32_t i) {
      const std::byte* at = block + 4 + i % 4;
      const auto first = static_cast<uint32_t>(at[0]);
      const auto second = static_cast<uint32_t>(at[4]);
      const auto third = static_cast<uint32_t>(at[8]);
      const uint32_t scale = i < 4 ? first & 63 : (third & 15) | (first >> 6 << 4);
      const uint32_t offset = i < 4 ? second & 63 : third >> 4 | (second >> 6 << 4);
      return {head.scale * static_cast<float>(static_cast<int32_t>(scale)),
              -(head.offset * static_cast<float>(static_cast<int32_t>(offset)))};
    }
    // Codes j and j + 32 of each 64 share a byte.
    static CodePlaces Places(const std::byte* block, uint32_t group) {
      return {.low = block + kAt + 32 * (group / 8) + 8 * (group % 4), .low_shift = group % 8 / 4 * 4};
    }
  };
  struct Q4_K : Of256<DType::kQ4_K, 16> {};
  struct Q5_K : Of256<DType::kQ5_K, 48> {
    static constexpr HighBits kHigh = HighBits::kOneOfEach;
    static CodePlaces Places(const std::byte* block, uint32_t group) {
      CodePlaces places = Of256<DType::kQ5_K, 48>::Places(block, group);
      places.high = block + 16 + 8 * (group % 4);
      places.high_shift = group / 4;
      return places;
    }
  };
  // Codes j and j + 64 of each 128 share a byte, and so do the upper two bits of j, j + 32, j + 64 and j + 96.
  struct Q6_K : Of32<DType::kQ6_K, 0> {
    static constexpr uint32_t kGroupsOfScale = 2;
    static constexpr uint32_t kSharing = 8;
    static constexpr HighBits kHigh = HighBits::kTwoOfEach;
    static constexpr uint32_t kBias = 32;
    static ScaleAndOffset Head(const std::byte* block) { return {Bytes::Half(block + 208), 0.0f}; }
    static ScaleAndOffset Scale(const std::byte* block, ScaleAndOffset head, uint32_t i) {
      return {head.scale * static_cast<float>(static_cast<int8_t>(block[192 + i])), 0.0f};
    }
    static CodePlaces Places(const std::byte* block, uint32_t group) {
      const uint32_t in_half = group % 16;
      return {.low = block + 64 * (group / 16) + 8 * (in_half % 8),
              .low_shift = in_half / 8 * 4,
              .high = block + 128 + 32 * (group / 16) + 8 * (in_half % 4),
              .high_shift = in_half / 4 * 2};
    }
  };

  // What codes 4*half to 4*half + 3 of the eight have above their lower 4 bits, a byte each, the first in the lowest.
  template <class Type>
  static uint32_t FourHighBits(const CodePlaces& places, uint32_t half) {
    if constexpr (Type::kHigh == HighBits::kNone) {
      return 0;
    } else if constexpr (Type::kHigh == HighBits::kBitOfByte) {
      const uint32_t bits = static_cast<uint32_t>(*places.high) >> (4 * half) & 15;
      return (bits * 0x00204081u & 0x01010101u) << 4;
    } else {
      constexpr uint32_t kMask = Type::kHigh == HighBits::kOneOfEach ? 0x01010101 : 0x03030303;
      return (Bytes::U32(places.high + 4 * half) >> places.high_shift & kMask) << 4;
    }
  }
  // Those codes.
  template <class Type>
  static uint32_t FourCodes(const CodePlaces& places, uint32_t half) {
    const uint32_t low = Bytes::U32(places.low + 4 * half) >> places.low_shift & 0x0f0f0f0f;
    if constexpr (Type::kHasTable) {
      return uint32_t{kIq4NlCodes[low & 15]} | uint32_t{kIq4NlCodes[low >> 8 & 15]} << 8 |
             uint32_t{kIq4NlCodes[low >> 16 & 15]} << 16 | uint32_t{kIq4NlCodes[low >> 24]} << 24;
    } else {
      return low | FourHighBits<Type>(places, half);
    }
  }

  template <class Type>
  static float Number(ScaleAndOffset scale, uint32_t code) {
    const float value = static_cast<float>(static_cast<int32_t>(code) - static_cast<int32_t>(Type::kBias));
    if constexpr (Type::kHasOffset) return scale.scale * value + scale.offset;
    return scale.scale * value;
  }

  // run.operator()<Type>(), if it is one of these.
  template <class Run>
  static void With(DType type, const Run& run) {
    switch (type) {
      case DType::kF32:
      case DType::kF16:
      case DType::kBF16:
      case DType::kQ8_0:
        return;
      case DType::kQ4_0:
        return run.template operator()<Q4_0>();
      case DType::kQ4_1:
        return run.template operator()<Q4_1>();
      case DType::kQ5_0:
        return run.template operator()<Q5_0>();
      case DType::kQ5_1:
        return run.template operator()<Q5_1>();
      case DType::kQ4_K:
        return run.template operator()<Q4_K>();
      case DType::kQ5_K:
        return run.template operator()<Q5_K>();
      case DType::kQ6_K:
        return run.template operator()<Q6_K>();
      case DType::kIQ4_NL:
        return run.template operator()<IQ4_NL>();
    }
  }
};

}  // namespace thimble::math

#endif  // THIMBLE_ENGINE_MATH_BLOCK_TYPES_INL_H_
