// The service on this computer's network: a transport over cpp-httplib.
#ifndef THIMBLE_HOST_SERVE_HTTP_SERVER_H_
#define THIMBLE_HOST_SERVE_HTTP_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "host/support/errors.h"
#include "service/service.h"

namespace thimble::host {

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;                     // 0: any that is free
  uint32_t max_connections = 128;           // at once, a thread for each; more are answered with 503
  size_t max_body_bytes = size_t{4} << 20;  // of a request; more: 413
  uint32_t request_s = 30;                  // for a request to arrive, from its first byte to its last
  uint32_t idle_s = 5;                      // a connection may wait for another request
  uint32_t send_s = 30;                     // without a byte taken, after which a client counts as gone
};

class HttpServer {
 public:
  // Bound and listening; connections wait until Run(). `service` outlives this. A sentence if the address cannot be
  // had.
  static Expected<std::unique_ptr<HttpServer>> Listen(const HttpOptions& options, service::Service& service);
  virtual ~HttpServer() = default;

  virtual uint16_t port() const = 0;
  // Answers until Stop(), then waits for the answers that are under way: Service::Stop() makes them short.
  virtual void Run() = 0;
  // Safe from any thread.
  virtual void Stop() = 0;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SERVE_HTTP_SERVER_H_
