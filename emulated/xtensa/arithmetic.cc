// What the compiler calls for operations that the processor lacks; names and results after GCC's "libgcc" manual. The
// C library for this processor's family leaves them to the boot ROM of its chips.
#include <bit>
#include <cstdint>

#include "emulated/xtensa/soft_double.h"

namespace soft = thimble::emulated::soft;

namespace {
soft::Bits B(double x) { return std::bit_cast<soft::Bits>(x); }
double D(soft::Bits x) { return std::bit_cast<double>(x); }
uint64_t Absolute(int64_t x) { return x < 0 ? -static_cast<uint64_t>(x) : static_cast<uint64_t>(x); }
}  // namespace

extern "C" {
double __adddf3(double a, double b) { return D(soft::Add(B(a), B(b))); }
double __subdf3(double a, double b) { return D(soft::Subtract(B(a), B(b))); }
double __muldf3(double a, double b) { return D(soft::MultiplyDoubles(B(a), B(b))); }
double __divdf3(double a, double b) { return D(soft::DivideDoubles(B(a), B(b))); }

double __extendsfdf2(float x) { return D(soft::FromFloat(std::bit_cast<uint32_t>(x))); }
float __truncdfsf2(double x) { return std::bit_cast<float>(soft::ToFloat(B(x))); }
double __floatsidf(int32_t x) { return D(soft::FromSigned(x)); }
double __floatunsidf(uint32_t x) { return D(soft::FromUnsigned(x)); }
double __floatdidf(int64_t x) { return D(soft::FromSigned(x)); }
double __floatundidf(uint64_t x) { return D(soft::FromUnsigned(x)); }
int32_t __fixdfsi(double x) { return static_cast<int32_t>(soft::ToSigned(B(x))); }
uint32_t __fixunsdfsi(double x) { return static_cast<uint32_t>(soft::Magnitude(B(x))); }
uint64_t __fixunsdfdi(double x) { return soft::Magnitude(B(x)); }

int __eqdf2(double a, double b) { return soft::Compare(B(a), B(b), 1); }
int __nedf2(double a, double b) { return soft::Compare(B(a), B(b), 1); }
int __ltdf2(double a, double b) { return soft::Compare(B(a), B(b), 1); }
int __ledf2(double a, double b) { return soft::Compare(B(a), B(b), 1); }
int __gtdf2(double a, double b) { return soft::Compare(B(a), B(b), -1); }
int __gedf2(double a, double b) { return soft::Compare(B(a), B(b), -1); }

// Of two numbers of 24 bits the quotient rounded to 53 and then to 24 bits is the quotient rounded once (S. Figueroa,
// "When is double rounding innocuous?", ACM SIGNUM Newsletter 30(3), 1995), subnormal results excepted.
float __divsf3(float a, float b) { return __truncdfsf2(__divdf3(__extendsfdf2(a), __extendsfdf2(b))); }

uint64_t __muldi3(uint64_t a, uint64_t b) { return soft::Multiply(a, b).low; }
uint64_t __udivdi3(uint64_t a, uint64_t b) { return soft::Divide(a, b).quotient; }
uint64_t __umoddi3(uint64_t a, uint64_t b) { return soft::Divide(a, b).remainder; }
int64_t __divdi3(int64_t a, int64_t b) {
  const uint64_t quotient = soft::Divide(Absolute(a), Absolute(b)).quotient;
  return static_cast<int64_t>((a < 0) != (b < 0) ? -quotient : quotient);
}
}
