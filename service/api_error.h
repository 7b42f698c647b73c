// A refusal, as OpenAI's API spells it.
#ifndef THIMBLE_SERVICE_API_ERROR_H_
#define THIMBLE_SERVICE_API_ERROR_H_

#include <cstdint>
#include <expected>
#include <string>

#include "service/http.h"
#include "service/json.h"

namespace thimble::service {

struct ApiError {
  int status = 400;
  std::string message;         // a sentence
  std::string param = {};      // the field that is meant; empty: none
  std::string code = {};       // for programs, as "context_length_exceeded"; empty: none
  uint32_t retry_after_s = 0;  // with 503
};

template <class T>
using ApiResult = std::expected<T, ApiError>;

inline std::unexpected<ApiError> Refuse(std::string message, std::string param = {}) {
  return std::unexpected(ApiError{.message = std::move(message), .param = std::move(param)});
}

// {"error": {"message", "type", "param", "code"}}; the type follows from the status.
JsonValue ToJson(const ApiError& error);
Response ToResponse(const ApiError& error);

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_API_ERROR_H_
