// The address of a server that helps.
#ifndef THIMBLE_SERVICE_SERVER_URL_H_
#define THIMBLE_SERVICE_SERVER_URL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "service/model.h"

namespace thimble::service {

struct ServerUrl {
  bool is_https = false;
  std::string host = {};  // a name or an address; one of IPv6 without its brackets
  uint16_t port = 80;
  std::string path = {};  // before the endpoints': empty, or "/a/b"

  // "http://host:8080/a", as it may be shown: there are no credentials in it. The scheme's own port is left out.
  std::string Text() const;
  // Whether it is this computer, by name.
  bool is_local() const { return host == "localhost" || host == "::1" || host.starts_with("127."); }
};

// Reads http://HOST, with a port and a path or without; a "/v1" or "/" at the end is left out, since the endpoints
// bring it. Anything else, a name or a password among it, is refused with a sentence that repeats nothing of the text.
Answer<ServerUrl> ReadServerUrl(std::string_view text);

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_SERVER_URL_H_
