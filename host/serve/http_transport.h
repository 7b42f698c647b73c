// Requests to a server over HTTP and HTTPS, by cpp-httplib's client.
#ifndef THIMBLE_HOST_SERVE_HTTP_TRANSPORT_H_
#define THIMBLE_HOST_SERVE_HTTP_TRANSPORT_H_

#include <memory>

#include "service/transport.h"

namespace thimble::host {

// A thread for each request, which holds 64 KiB of the body until they are read. Certificates are held against those
// that this computer trusts (OpenSSL's; SSL_CERT_FILE names others) and against the host's name. No redirect is
// followed, no proxy and no cookie used. A name that the network takes long to find is not waited for longer than
// service::Transport's callers do.
std::unique_ptr<service::Transport> MakeHttpTransport();

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SERVE_HTTP_TRANSPORT_H_
