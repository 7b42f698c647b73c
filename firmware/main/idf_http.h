// The service's transport on the board: esp_http_server. Requests that ask for a text, or for texts taken apart, are
// read by the server's task and answered by the session's, which is the only one that has the model; all others are
// answered at once.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_HTTP_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_HTTP_H_

#include "firmware/net/network_control.h"
#include "service/service.h"

namespace thimble::firmware::idf {

// Listens on port 80, and on UDP port 53 for names while the board's own network is open. Both outlive it. False: the
// system has no memory for it. Once.
bool StartHttp(service::Service& service, const NetworkControl& network);

// Answers the next request that waits for the session's task, if there is one.
void AnswerNext();

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_HTTP_H_
