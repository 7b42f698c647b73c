// A stream of server-sent events, read as it arrives (HTML Living Standard, "Server-sent events", section "Interpreting
// an event stream"), as far as servers of models use it.
#ifndef THIMBLE_SERVICE_EVENT_STREAM_H_
#define THIMBLE_SERVICE_EVENT_STREAM_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace thimble::service {

// Lines end with CR, LF or both; "data:" may have a space behind it; several of one event are joined by a newline;
// comments and other fields are passed over. Whatever bytes come in whatever pieces, it holds `max_bytes` twice at
// most.
class EventReader {
 public:
  static constexpr size_t kMaxBytes = size_t{256} << 10;  // where nothing else is said

  // `max_bytes`: of a line, and of the data of one event.
  explicit EventReader(size_t max_bytes = kMaxBytes) : max_bytes_(max_bytes) {}

  enum class Step {
    kEvent,    // one is complete: data()
    kMore,     // all bytes are used
    kTooLong,  // a line or an event is longer than max_bytes; nothing is read after that
  };
  // Takes bytes from the front of `bytes`, up to the end of an event. An event that the stream ends in is none.
  Step Read(std::string_view& bytes);

  // Of the latest event; valid until the next Read(). Never empty.
  std::string_view data() const { return data_; }
  // Whether it came in a field "error", as llama-server's did until 2025, or under that name.
  bool is_error() const { return is_error_; }

 private:
  bool EndLine();

  size_t max_bytes_;
  std::string line_;
  std::string data_;
  bool is_error_ = false;
  bool is_given_ = false;  // data_ was
  bool is_first_ = true;   // line
  bool is_after_cr_ = false;
  bool is_too_long_ = false;
};

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_EVENT_STREAM_H_
