// Whether this program's compiler left the engine's arithmetic as it is written (docs/numbers.md).
#ifndef THIMBLE_ENGINE_MATH_EXACTNESS_H_
#define THIMBLE_ENGINE_MATH_EXACTNESS_H_

namespace thimble::math {

// False if a multiplication and an addition became one operation with one rounding, sums were put in another order, or
// numbers below the normal ones are taken for 0: engine/base/exact.h forbids the compiler the first two, and a program
// may still be made with options that allow them. Nobody may call texts exact then.
bool ComputesExactly();

}  // namespace thimble::math

#endif  // THIMBLE_ENGINE_MATH_EXACTNESS_H_
