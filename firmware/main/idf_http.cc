#include "idf_http.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "esp_http_server.h"
#include "esp_timer.h"
#include "firmware/net/board_service.h"
#include "firmware/net/captive_portal.h"
#include "freertos/FreeRTOS.h"
#include "freertos/queue.h"
#include "freertos/task.h"
#include "idf_compat.h"
#include "lwip/sockets.h"
#include "service/api_error.h"
#include "service/http.h"
#if __has_include("mdns.h")
#include "mdns.h"
#endif

namespace thimble::firmware::idf {
namespace {

constexpr uint32_t kServerStackBytes = 5120;  // a small answer's JSON, beside the server's own 4096
constexpr uint32_t kNamesStackBytes = 3072;
constexpr UBaseType_t kServerPriority = 4;  // below `worker` and `session`: a text goes on while a page is fetched
constexpr int64_t kBodyUs = 10'000'000;     // for a body to arrive
constexpr size_t kMaxHeaderBytes = 512;     // of a header that the service looks at

service::Service* service_ = nullptr;
const NetworkControl* network_ = nullptr;
QueueHandle_t jobs_ = nullptr;  // Job*

// A request whose answer the session's task makes.
struct Job {
  httpd_req_t* request;
  TaskHandle_t server;
  service::Request asked;
};

class SocketClient final : public service::Client {
 public:
  explicit SocketClient(httpd_req_t* request) : request_(request) {}
  bool IsThere() override {
    if (!is_there_) return false;
    char byte = 0;
    const ssize_t n = recv(httpd_req_to_sockfd(request_), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
  }
  bool Send(std::string_view bytes) override {
    if (bytes.empty()) return is_there_;  // an empty chunk would be the last
    is_there_ =
        is_there_ && httpd_resp_send_chunk(request_, bytes.data(), static_cast<ssize_t>(bytes.size())) == ESP_OK;
    return is_there_;
  }
  bool is_there() const { return is_there_; }

 private:
  httpd_req_t* request_;
  bool is_there_ = true;
};

std::string HeaderOf(httpd_req_t* request, const char* name) {
  const size_t bytes = httpd_req_get_hdr_value_len(request, name);
  if (bytes == 0 || bytes > kMaxHeaderBytes) return "";
  std::string value(bytes + 1, '\0');
  if (httpd_req_get_hdr_value_str(request, name, value.data(), value.size()) != ESP_OK) return "";
  value.resize(bytes);
  return value;
}

// False once the client is gone. What is set of the answer must stay until it is sent.
bool Give(httpd_req_t* request, const service::Response& response) {
  const std::string status = std::to_string(response.status) + (response.status < 400 ? " OK" : " Refused");
  httpd_resp_set_status(request, status.c_str());
  if (!response.content_type.empty()) httpd_resp_set_type(request, response.content_type.c_str());
  for (const auto& [name, value] : response.headers) httpd_resp_set_hdr(request, name.c_str(), value.c_str());
  if (response.stream) {
    SocketClient client(request);
    response.stream(client);
    return client.is_there() && httpd_resp_send_chunk(request, nullptr, 0) == ESP_OK;
  }
  // Of HEAD there is no body; this server has no answer with the length of one that it does not send.
  const bool has_body = request->method != HTTP_HEAD && !response.body.empty();
  return httpd_resp_send(request, has_body ? response.body.data() : nullptr,
                         has_body ? static_cast<ssize_t>(response.body.size()) : 0) == ESP_OK;
}

bool Refuse(httpd_req_t* request, int status, std::string message, std::string code, uint32_t retry_after_s) {
  return Give(
      request,
      service::ToResponse(
          {.status = status, .message = std::move(message), .code = std::move(code), .retry_after_s = retry_after_s}));
}

service::Request Read(httpd_req_t* request) {
  const std::string_view uri = request->uri;
  return {.method = MethodName(static_cast<httpd_method_t>(request->method)),
          .path = std::string(uri.substr(0, uri.find('?'))),
          .authorization = HeaderOf(request, "Authorization"),
          .origin = HeaderOf(request, "Origin")};
}

// Of the server's task: a slow body keeps others from it, and so has a time.
bool ReadBody(httpd_req_t* request, std::string& body) {
  const int64_t until = esp_timer_get_time() + kBodyUs;
  body.resize(request->content_len);
  for (size_t at = 0; at < body.size();) {
    const int n = httpd_req_recv(request, body.data() + at, body.size() - at);
    if (n > 0) {
      at += static_cast<size_t>(n);
    } else if (n != HTTPD_SOCK_ERR_TIMEOUT) {
      return false;
    }
    if (at < body.size() && esp_timer_get_time() > until) return false;
  }
  return true;
}

esp_err_t Sent(bool is_there) { return is_there ? ESP_OK : ESP_FAIL; }  // ESP_FAIL: the server closes the connection

esp_err_t OnRequest(httpd_req_t* request) {
  service::Request asked = Read(request);
  if (network_->is_portal() && IsConnectivityCheck(asked.path)) {
    service::Response there = {.status = 302, .content_type = "text/plain"};
    there.headers.emplace_back("Location", kPortalUrl);
    return Sent(Give(request, there));
  }
  if (request->method != HTTP_POST) {
    SocketClient client(request);
    return Sent(Give(request, service_->Handle(asked, client)));
  }
  if (request->content_len > kMaxBodyBytes) {
    (void)Refuse(request, 413, "a request may have " + std::to_string(kMaxBodyBytes) + " bytes at most", "", 0);
    return ESP_FAIL;
  }
  if (uxQueueSpacesAvailable(jobs_) == 0) {
    (void)Refuse(request, 503, std::to_string(kMaxWaiting) + " requests wait already: try again later", "queue_full",
                 10);
    return ESP_FAIL;
  }
  if (!ReadBody(request, asked.body)) return ESP_FAIL;
  httpd_req_t* const kept = BeginElsewhere(request);
  if (kept == nullptr) return ESP_FAIL;
  Job* const job = new (std::nothrow) Job{kept, xTaskGetCurrentTaskHandle(), std::move(asked)};
  if (job != nullptr && xQueueSend(jobs_, &job, 0) == pdTRUE) {
    WaitElsewhere();
    return ESP_OK;
  }
  delete job;
  EndElsewhere(kept, xTaskGetCurrentTaskHandle());
  WaitElsewhere();
  return ESP_FAIL;
}

// Names, while the board's own network is open.
[[noreturn]] void AnswerNames(void*) {
  static std::array<uint8_t, kMaxDnsBytes> message, answer;
  const int sock = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP);
  sockaddr_in here = {};
  here.sin_family = AF_INET;
  here.sin_port = htons(53);
  here.sin_addr.s_addr = htonl(INADDR_ANY);
  const bool is_bound = sock >= 0 && bind(sock, reinterpret_cast<const sockaddr*>(&here), sizeof(here)) == 0;
  while (true) {
    sockaddr_in from = {};
    socklen_t from_bytes = sizeof(from);
    const ssize_t n =
        is_bound ? recvfrom(sock, message.data(), message.size(), 0, reinterpret_cast<sockaddr*>(&from), &from_bytes)
                 : -1;
    if (n <= 0) {
      vTaskDelay(pdMS_TO_TICKS(1000));
      continue;
    }
    if (!network_->is_portal()) continue;
    const size_t bytes = AnswerDns(std::span(message).first(static_cast<size_t>(n)), kPortalAddress, answer);
    if (bytes != 0) {
      (void)sendto(sock, answer.data(), bytes, 0, reinterpret_cast<const sockaddr*>(&from), from_bytes);
    }
  }
}

}  // namespace

bool StartHttp(service::Service& service, const NetworkControl& network) {
  service_ = &service;
  network_ = &network;
  jobs_ = xQueueCreate(kMaxWaiting, sizeof(Job*));
  if (jobs_ == nullptr) return false;
  httpd_config_t config = HTTPD_DEFAULT_CONFIG();
  config.stack_size = kServerStackBytes;
  config.task_priority = kServerPriority;
  config.core_id = 0;
  config.max_open_sockets = kMaxConnections;
  config.max_uri_handlers = 4;
  config.lru_purge_enable = true;
  config.recv_wait_timeout = 5;
  config.send_wait_timeout = 5;
  config.uri_match_fn = httpd_uri_match_wildcard;
  httpd_handle_t server = nullptr;
  if (httpd_start(&server, &config) != ESP_OK) return false;
  for (const httpd_method_t method : {HTTP_GET, HTTP_POST, HTTP_HEAD, HTTP_OPTIONS}) {
    httpd_uri_t all = {};
    all.uri = "/*";
    all.method = method;
    all.handler = OnRequest;
    if (httpd_register_uri_handler(server, &all) != ESP_OK) return false;
  }
  if (xTaskCreatePinnedToCore(AnswerNames, "names", kNamesStackBytes, nullptr, kServerPriority, nullptr, 0) != pdPASS) {
    return false;
  }
#if __has_include("mdns.h")
  if (mdns_init() == ESP_OK) {
    (void)mdns_hostname_set("thimble");
    (void)mdns_service_add(nullptr, "_http", "_tcp", 80, nullptr, 0);
  }
#endif
  return true;
}

void AnswerNext() {
  Job* taken = nullptr;
  if (jobs_ == nullptr || xQueueReceive(jobs_, &taken, 0) != pdTRUE) return;
  const std::unique_ptr<Job> job(taken);
  SocketClient client(job->request);
  const bool is_there = Give(job->request, service_->Handle(job->asked, client));
  const httpd_handle_t server = job->request->handle;
  const int sock = httpd_req_to_sockfd(job->request);
  EndElsewhere(job->request, job->server);
  if (!is_there) (void)httpd_sess_trigger_close(server, sock);
}

}  // namespace thimble::firmware::idf
