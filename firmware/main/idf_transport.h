// Requests to a server that helps (service/offload.h), over HTTP and HTTPS by esp_http_client.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_TRANSPORT_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_TRANSPORT_H_

#include <memory>

#include "service/transport.h"

namespace thimble::firmware::idf {

// A task for each request, on core 0, whose stack comes from internal memory while there is one. Certificates are held
// against ESP-IDF's bundle and the host's name, but for their dates: a board does not know the day. No redirect is
// followed. A request that was given up while it connects ends by itself; meanwhile there may be one other.
std::unique_ptr<service::Transport> MakeTransport();

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_TRANSPORT_H_
