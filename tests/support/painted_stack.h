// How much stack something uses, measured on a painted one.
#ifndef THIMBLE_TESTS_SUPPORT_PAINTED_STACK_H_
#define THIMBLE_TESTS_SUPPORT_PAINTED_STACK_H_

#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace thimble::tests {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;  // whose frames are larger, or not on the stack at all
#elif defined(__has_feature)
inline constexpr bool kSanitized = __has_feature(address_sanitizer);
#else
inline constexpr bool kSanitized = false;
#endif

using Work = void (*)(void*);

struct Call {
  Work work;
  void* data;
};
inline Call* current_call = nullptr;

// Bytes of stack that `work(data)` touches.
inline size_t StackOf(Work work, void* data) {
  constexpr std::byte kPaint{0xA5};
  std::vector<std::byte> stack(1 << 18, kPaint);
  Call call = {work, data};
  current_call = &call;
  ucontext_t caller, callee;
  getcontext(&callee);
  callee.uc_stack.ss_sp = stack.data();
  callee.uc_stack.ss_size = stack.size();
  callee.uc_link = &caller;
  makecontext(&callee, [] { current_call->work(current_call->data); }, 0);
  swapcontext(&caller, &callee);
  const auto touched = std::ranges::find_if(stack, [&](std::byte b) { return b != kPaint; });
  return static_cast<size_t>(stack.end() - touched);
}

template <class F>
size_t StackOf(F work) {
  return StackOf([](void* f) { (*static_cast<F*>(f))(); }, &work);
}

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_PAINTED_STACK_H_
