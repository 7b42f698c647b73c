// Bodies of the service's requests: the first byte says which kind.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "service/generation_request.h"
#include "service/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto document = service::ReadBody(body);
  if (!document) {
    if (document.error().status != 400 || document.error().message.empty()) std::abort();
    return 0;
  }
  const auto dialect = static_cast<service::Dialect>(data[0] % 3);
  const auto request = service::ReadGenerationRequest(dialect, document->root(), {});
  if (!request) {
    if (request.error().message.empty()) std::abort();
    (void)service::ToResponse(request.error());
    return 0;
  }
  if (!head::CheckSamplerOptions(request->sampler) || request->n < 1 || request->n > service::kMaxChoices ||
      request->stops.size() > service::kMaxStops || request->messages.size() > service::kMaxMessages) {
    std::abort();
  }
  return 0;
}
