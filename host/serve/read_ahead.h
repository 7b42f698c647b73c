// What a connection has received, handed out in small pieces: httplib reads lines byte by byte, and not each byte is
// worth a call to the system.
#ifndef THIMBLE_HOST_SERVE_READ_AHEAD_H_
#define THIMBLE_HOST_SERVE_READ_AHEAD_H_

#include <sys/types.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>

namespace thimble::host {

class ReadAhead {
 public:
  // At most `size` bytes into `out`: how many. When nothing is left, receive(buffer) fetches more; what it gives at the
  // end (0) and on failure (below 0) is given on.
  template <class Receive>
  ssize_t Read(char* out, size_t size, Receive receive) {
    if (!has_more()) {
      const ssize_t n = receive(std::span<char>(buffer_));
      if (n <= 0) return n;
      at_ = 0;
      end_ = static_cast<size_t>(n);
    }
    const size_t n = std::min(size, end_ - at_);
    std::memcpy(out, buffer_.data() + at_, n);
    at_ += n;
    return static_cast<ssize_t>(n);
  }

  bool has_more() const { return at_ < end_; }

 private:
  std::array<char, 4096> buffer_;
  size_t at_ = 0;
  size_t end_ = 0;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SERVE_READ_AHEAD_H_
