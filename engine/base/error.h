// Errors of the engine: values, never exceptions, never on the heap.
//
// Trust boundary: whatever comes from a file, a card or a caller's option is checked where it enters and reported as an
// Error. Past that point a step can fail only by I/O, time-out or cancellation, and kernels cannot fail at all.
#ifndef THIMBLE_ENGINE_BASE_ERROR_H_
#define THIMBLE_ENGINE_BASE_ERROR_H_

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include "engine/base/tensor.h"

namespace thimble {

enum class Code : uint8_t {
  kInvalidArgument,  // The caller asked for something that cannot be done as asked.
  kNotFound,         // A file, key or tensor that must be there is not.
  kCorrupt,          // The bytes contradict their format.
  kUnsupported,      // Well-formed, but nothing this engine runs.
  kOutOfMemory,      // A region of the board has no room for it.
  kIo,               // The device failed after retries and re-initialisation.
  kTimeout,          // The device did not answer.
  kCancelled,        // The caller's cancel flag was set.
  kContextFull,      // No position is left in the KV cache.
};

// What went wrong, where, and what to do. Trivially copyable; owns nothing.
//
// `what` is one plain sentence with static lifetime. It may hold the placeholders {name}, {tensor}, {offset}, {have},
// {need} and {short} (need - have); FormatError() fills them from the fields below.
struct Error {
  Code code = Code::kInvalidArgument;
  const char* what = "";
  TensorId tensor = {};
  uint64_t offset = 0;  // bytes from the start of the file or device that the sentence speaks of
  uint64_t have = 0;
  uint64_t need = 0;
  char name[56] = {};  // a key, tensor or file name as the input spelt it, cut to fit, always NUL-terminated

  // Returns a copy with `name` set to `text`; bytes that are not printable ASCII become '?'.
  Error Named(std::string_view text) const;
};

// Whether the bytes of a file are to blame, as opposed to the device, the memory or the caller.
constexpr bool IsOfContents(Code code) {
  return code == Code::kCorrupt || code == Code::kUnsupported || code == Code::kNotFound;
}

template <class T>
using Result = std::expected<T, Error>;

// Shorthand for `return Fail({.code = ..., .what = ...});`.
inline std::unexpected<Error> Fail(const Error& error) { return std::unexpected<Error>(error); }

// Writes the sentence of `error`, placeholders filled, into `out` as a NUL-terminated string, cut to fit.
// Returns the length without the NUL. `out` must not be empty.
size_t FormatError(const Error& error, std::span<char> out);

// The enumerator in words ("out of memory"), static lifetime.
const char* CodeName(Code code);

}  // namespace thimble

// Propagates the error of a Result<void> expression.
#define THIMBLE_TRY(expression)                                \
  do {                                                         \
    if (auto thimble_result = (expression); !thimble_result) { \
      return std::unexpected(thimble_result.error());          \
    }                                                          \
  } while (false)

// Declares `lhs` from the value of a Result<T> expression, or propagates its error.
#define THIMBLE_CONCAT_INNER(a, b) a##b
#define THIMBLE_CONCAT(a, b) THIMBLE_CONCAT_INNER(a, b)
#define THIMBLE_ASSIGN(lhs, expression) THIMBLE_ASSIGN_INNER(THIMBLE_CONCAT(thimble_result_, __LINE__), lhs, expression)
#define THIMBLE_ASSIGN_INNER(temporary, lhs, expression)     \
  auto temporary = (expression);                             \
  if (!temporary) return std::unexpected(temporary.error()); \
  lhs = std::move(*temporary)

#endif  // THIMBLE_ENGINE_BASE_ERROR_H_
