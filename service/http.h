// What a transport hands to the service and gets from it: cpp-httplib on computers, esp_http_server on boards, a fake
// in tests.
#ifndef THIMBLE_SERVICE_HTTP_H_
#define THIMBLE_SERVICE_HTTP_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace thimble::service {

// A request that was read to its end. The transport keeps header and body within its limits.
struct Request {
  std::string method = {};         // "GET"
  std::string path = {};           // decoded, without the query
  std::string authorization = {};  // values of headers; empty: not sent
  std::string origin = {};
  std::string body = {};
};

// Whoever waits for the answer.
class Client {
 public:
  // False once it went away; then nothing that is written arrives.
  virtual bool IsThere() = 0;
  // Sends a part of a streamed body. False once the client went away.
  virtual bool Send(std::string_view bytes) = 0;

 protected:
  ~Client() = default;
};

// An answer. Either `body` is all of it, with its length, or `stream` makes it: called once, on the thread that called
// the service, after status and headers were sent.
struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string body = {};
  std::function<void(Client&)> stream = {};
};

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_HTTP_H_
