#include "service/api_error.h"

namespace thimble::service {
namespace {

const char* TypeOf(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 404:
    case 405:
      return "not_found_error";
    case 503:
      return "unavailable_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

JsonValue TextOrNull(const std::string& text) { return text.empty() ? JsonValue() : JsonValue(text); }

}  // namespace

JsonValue ToJson(const ApiError& error) {
  JsonValue inner = JsonValue::Object();
  inner.Set("message", error.message)
      .Set("type", TypeOf(error.status))
      .Set("param", TextOrNull(error.param))
      .Set("code", TextOrNull(error.code));
  JsonValue outer = JsonValue::Object();
  outer.Set("error", std::move(inner));
  return outer;
}

Response ToResponse(const ApiError& error) {
  Response response = {.status = error.status, .body = ToJson(error).Dump()};
  if (error.retry_after_s != 0) response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace thimble::service
