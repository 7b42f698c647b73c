// The numbers contract (docs/numbers.md) in the sources themselves: whatever project compiles them, and with whatever
// flags, no multiplication and addition after this line become one operation with one rounding, unless Fma() is
// written.
//
// Included by each source file that computes with floating point, and by the headers that only those include: so it
// changes nothing in the code of others. tests/check_exact looks at that, and at what compilers make of it.
#ifndef THIMBLE_ENGINE_BASE_EXACT_H_
#define THIMBLE_ENGINE_BASE_EXACT_H_

#if defined(__FAST_MATH__)
#error "Thimble's engine computes exactly: compile it without -ffast-math"
#endif

// Where a build passes -ffp-contract=off itself, it defines THIMBLE_FP_CONTRACT_OFF: gcc inlines nothing across its
// pragma, which doubles the instructions of some kernels.
#if defined(THIMBLE_FP_CONTRACT_OFF)
#elif defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#else
#error "say here how this compiler is told not to fuse multiplications and additions"
#endif

#endif  // THIMBLE_ENGINE_BASE_EXACT_H_
