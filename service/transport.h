// What carries a request to a server: cpp-httplib's client on computers, a fake in tests.
#ifndef THIMBLE_SERVICE_TRANSPORT_H_
#define THIMBLE_SERVICE_TRANSPORT_H_

#include <chrono>
#include <cstddef>
#include <span>
#include <string>

#include "service/server_url.h"

namespace thimble::service {

// A request by POST with a body of JSON.
struct OutgoingRequest {
  ServerUrl url = {};
  std::string path = {};  // behind the URL's: "/completion"
  std::string key = {};   // for "Authorization: Bearer"; empty: not sent
  std::string body = {};
};

// What an answer begins with. The transport keeps it within its limits.
struct ResponseHead {
  int status = 0;
  std::string content_type = {};  // as sent; empty: none
  std::string location = {};      // of a redirect, which no transport follows
};

// One request at a time, by one thread.
class Transport {
 public:
  virtual ~Transport() = default;

  // Begins to connect and to send; does not wait. Another request is cancelled. `most`: after which a connection that
  // is not there yet may be given up.
  virtual void Start(const OutgoingRequest& request, std::chrono::milliseconds most) = 0;

  enum class Wait {
    kDone,     // what was waited for is there
    kNothing,  // the time is over
    kEnd,      // of the answer, as its head says where that is
    kFailed,   // no connection, or none any more: failure()
  };
  // Waits for the head of the answer, then for bytes of its body, `most` at most. Read() gives at least one byte:
  // `count` of them.
  virtual Wait AwaitHead(ResponseHead& head, std::chrono::milliseconds most) = 0;
  virtual Wait Read(std::span<char> out, size_t& count, std::chrono::milliseconds most) = 0;
  // What went wrong, as in "the server SENTENCE": "cannot be reached: nobody listens there".
  virtual std::string failure() const = 0;

  // Gives the request up. Does not wait for the server.
  virtual void Cancel() = 0;

  // A clock that only goes forward.
  virtual std::chrono::milliseconds now() const = 0;
};

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_TRANSPORT_H_
