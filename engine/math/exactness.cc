#include "engine/math/exactness.h"

#include "engine/base/exact.h"

namespace thimble::math {
namespace {

// Operands that the compiler does not know.
template <class T>
T Hidden(T value) {
  volatile T hidden = value;
  return hidden;
}

// (1 + e)^2 - (1 + 2e) is 0 where the product is rounded to 1 + 2e first, and e^2 where it is not.
template <class T>
bool Rounds(T e) {
  const T a = Hidden(1 + e);
  const T b = Hidden(-(1 + 2 * e));
  return Hidden(a * a + b) == 0 && Hidden(b + a * a) == 0 && Hidden(a * a - -b) == 0;
}

// (a + 1) - a is 0 where a is so large that 1 is lost, and 1 where the two a were taken away before.
template <class T>
bool KeepsOrder(T large) {
  const T a = Hidden(large);
  const T one = Hidden(T{1});
  const T sum = a + one;
  return Hidden(sum - a) == 0;
}

}  // namespace

bool ComputesExactly() {
  constexpr float kSmall = 0x1p-20f;
  constexpr double kTiny = 0x1p-40;
  const float below_normal = Hidden(0x1p-120f) * Hidden(0x1p-20f);
  return Rounds(kSmall) && Rounds(kTiny) && KeepsOrder(0x1p30f) && KeepsOrder(0x1p60) && Hidden(below_normal) != 0;
}

}  // namespace thimble::math
