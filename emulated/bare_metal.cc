#include "emulated/bare_metal.h"

#include <algorithm>

#include "emulated/machine.h"
#include "emulated/text.h"
#include "engine/math/kernels.h"

namespace thimble::emulated {
namespace {

constexpr int kExceptionCode = 100;
constexpr int kAbortCode = 101;

constexpr uint32_t kPaint = 0x5afe5afe;

std::span<volatile uint32_t> Words(std::byte* first, std::byte* end) {
  return {reinterpret_cast<volatile uint32_t*>(first), static_cast<size_t>(end - first) / sizeof(uint32_t)};
}

void PaintStack() {
  auto* const here = static_cast<std::byte*>(__builtin_frame_address(0));
  for (volatile uint32_t& word : Words(__free_end, here - 64)) word = kPaint;
}

// Calls itself until a frame lies below `end`, then `last`.
__attribute__((noinline)) uint32_t FillStack(std::byte* end, void (*last)()) {
  volatile uint32_t frame[16];
  frame[0] = AddressOf(frame);
  if (frame[0] >= AddressOf(end)) return FillStack(end, last) + frame[0];
  last();
  return frame[0];
}

void MultiplyOne() {
  const float one = 1.0f;
  float product = 0.0f;
  math::BestKernels().matvec_f32(&product, &one, &one, 1, 1);
}

}  // namespace

std::span<std::byte> FreeMemory() { return {__free_start, __free_end}; }

bool StackSufficed() {
  const auto words = Words(__free_end, __stack_top);
  const auto used = std::ranges::find_if(words, [](volatile uint32_t& word) { return word != kPaint; });
  const auto free_bytes = static_cast<size_t>(used - words.begin()) * sizeof(uint32_t);
  const auto guard_bytes = static_cast<size_t>(__stack_bottom - __free_end);
  Text().Add("count stack ").Number(static_cast<size_t>(__stack_top - __free_end) - free_bytes).Add("\n").Print();
  if (free_bytes >= guard_bytes) return true;
  Write("FAIL: the stack overflowed\n");
  return false;
}

bool CommitFault(std::string_view fault) {
  if (fault == "unaligned") {
    static uint32_t words[2] = {};
    *reinterpret_cast<volatile uint32_t*>(AddressOf(words) + 1);
    return true;
  }
  if (fault == "beyond") {
    *reinterpret_cast<volatile uint32_t*>(AddressOf(__stack_top)) = 1;
    return true;
  }
  if (fault == "stack") return FillStack(__stack_bottom, [] {}) != 0;
  if (fault == "psram") return FillStack(__free_end, MultiplyOne) != 0;
  return false;
}

}  // namespace thimble::emulated

using namespace thimble::emulated;

extern "C" {
extern void (*__init_array_start[])();
extern void (*__init_array_end[])();

void thimble_start() {
  PaintStack();
  std::fill(__bss_start, __bss_end, std::byte{0});
  std::for_each(__init_array_start, __init_array_end, [](auto construct) { construct(); });
  Exit(Main(Arguments()));
}

void thimble_report_exception(uint32_t cause, uint32_t pc, uint32_t address) {
  Text text;
  text.Add("FAIL: exception ").Number(cause).Add(" at ").Hex(pc).Add(", address ").Hex(address).Add("\n").Print();
  Exit(kExceptionCode);
}

void abort() {
  Write("FAIL: abort\n");
  Exit(kAbortCode);
}
void __cxa_pure_virtual() { abort(); }
}

namespace std {
void __throw_out_of_range_fmt(const char*, ...) { abort(); }
}  // namespace std
