#include "idf_transport.h"

#include <strings.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "esp_crt_bundle.h"
#include "esp_http_client.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "mbedtls/x509.h"
#include "service/background_transport.h"

namespace thimble::firmware::idf {
namespace {

constexpr uint32_t kStackBytes = 8192;  // of TLS's handshake; an estimate
constexpr UBaseType_t kPriority = 4;    // as the server's
constexpr uint32_t kMaxTasks = 2;
constexpr size_t kMaxHeldBytes = 4096;
constexpr size_t kMaxHeaderBytes = 512;  // of a header that is looked at
constexpr int kSendBytes = 1024;         // for the request's line, or a header
constexpr int kSliceMs = 250;            // after which it is noticed that a request was given up
// esp_http_client_read() waits until it has all it was asked for, or nothing came for a slice: so little of a text.
constexpr size_t kReadBytes = 128;

std::atomic<uint32_t> tasks = 0;

// A client and its connection, which end with it.
using Client = std::unique_ptr<esp_http_client, decltype(&esp_http_client_cleanup)>;

esp_err_t OnEvent(esp_http_client_event_t* event) {
  if (event->event_id != HTTP_EVENT_ON_HEADER) return ESP_OK;
  service::ResponseHead& head = *static_cast<service::ResponseHead*>(event->user_data);
  const std::string_view value = std::string_view(event->header_value).substr(0, kMaxHeaderBytes);
  if (strcasecmp(event->header_key, "Content-Type") == 0) head.content_type = value;
  if (strcasecmp(event->header_key, "Location") == 0) head.location = value;
  return ESP_OK;
}

const char* WhyNotOpen(esp_http_client_handle_t client) {
  int error = 0;
  int flags = 0;
  (void)esp_http_client_get_and_clear_last_tls_error(client, &error, &flags);
  error = std::abs(error);
  if (flags != 0 || error == -MBEDTLS_ERR_X509_CERT_VERIFY_FAILED || error == -MBEDTLS_ERR_X509_FATAL_ERROR) {
    return "cannot be trusted: its certificate is of another name, or of nobody whom this board trusts";
  }
  return "cannot be reached: nobody listens there, or the network does not know it";
}

// As Exchange::End() wants it.
std::string Ask(service::Exchange& exchange) {
  const service::OutgoingRequest& asked = exchange.request();
  const std::string path = asked.url.path + asked.path;
  const std::string authorization = "Bearer " + asked.key;
  service::ResponseHead head;
  esp_http_client_config_t config = {};
  config.host = asked.url.host.c_str();
  config.port = asked.url.port;
  config.path = path.c_str();
  config.transport_type = asked.url.is_https ? HTTP_TRANSPORT_OVER_SSL : HTTP_TRANSPORT_OVER_TCP;
  config.method = HTTP_METHOD_POST;
  config.user_agent = "thimble";
  config.timeout_ms = static_cast<int>(exchange.most().count());
  config.disable_auto_redirect = true;
  config.buffer_size_tx = kSendBytes;
  config.crt_bundle_attach = esp_crt_bundle_attach;
  config.event_handler = OnEvent;
  config.user_data = &head;
  const Client client(esp_http_client_init(&config), esp_http_client_cleanup);
  bool is_set = client != nullptr &&
                esp_http_client_set_header(client.get(), "Accept", "text/event-stream, application/json") == ESP_OK &&
                esp_http_client_set_header(client.get(), "Content-Type", "application/json") == ESP_OK;
  if (is_set && !asked.key.empty()) {
    is_set = esp_http_client_set_header(client.get(), "Authorization", authorization.c_str()) == ESP_OK;
  }
  if (!is_set) return "cannot be reached: there is too little memory here to ask it";
  if (esp_http_client_open(client.get(), static_cast<int>(asked.body.size())) != ESP_OK) {
    return WhyNotOpen(client.get());
  }
  for (size_t at = 0; at < asked.body.size() && !exchange.is_cancelled();) {
    const int n = esp_http_client_write(client.get(), asked.body.data() + at, static_cast<int>(asked.body.size() - at));
    if (n <= 0) return "hung up while it was asked";
    at += static_cast<size_t>(n);
  }
  (void)esp_http_client_set_timeout_ms(client.get(), kSliceMs);
  while (true) {
    if (exchange.is_cancelled()) return "";
    const int64_t bytes = esp_http_client_fetch_headers(client.get());
    if (bytes >= 0) break;
    if (bytes != -ESP_ERR_HTTP_EAGAIN) return "hung up, or sent what is no HTTP";
  }
  head.status = esp_http_client_get_status_code(client.get());
  exchange.BeginAnswer(head);
  std::array<char, kReadBytes> bytes;
  while (!exchange.is_cancelled()) {
    const int n = esp_http_client_read(client.get(), bytes.data(), static_cast<int>(bytes.size()));
    if (n > 0) {
      (void)exchange.Give({bytes.data(), static_cast<size_t>(n)});
    } else if (n != -ESP_ERR_HTTP_EAGAIN) {
      return n == 0 && esp_http_client_is_complete_data_received(client.get()) ? "" : "hung up in mid-answer";
    }
  }
  return "";
}

[[noreturn]] void Run(void* argument) {
  {
    const std::unique_ptr<std::shared_ptr<service::Exchange>> exchange(
        static_cast<std::shared_ptr<service::Exchange>*>(argument));
    (*exchange)->End(Ask(**exchange));
  }
  --tasks;
  vTaskDelete(nullptr);
  std::abort();  // never reached
}

class Tasks final : public service::Carrier {
 public:
  bool Carry(std::shared_ptr<service::Exchange> exchange) override {
    if (tasks.load() >= kMaxTasks) return false;
    auto* const argument = new (std::nothrow) std::shared_ptr<service::Exchange>(std::move(exchange));
    if (argument == nullptr) return false;
    ++tasks;
    if (xTaskCreatePinnedToCore(Run, "help", kStackBytes, argument, kPriority, nullptr, 0) == pdPASS) return true;
    --tasks;
    delete argument;
    return false;
  }
};

}  // namespace

std::unique_ptr<service::Transport> MakeTransport() {
  return std::make_unique<service::BackgroundTransport>(std::make_unique<Tasks>(), kMaxHeldBytes);
}

}  // namespace thimble::firmware::idf
