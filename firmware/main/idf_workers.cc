#include "idf_workers.h"

namespace thimble::firmware::idf {
namespace {

constexpr uint32_t kStackBytes = 4096;
constexpr UBaseType_t kPriority = 5;  // as the session's task

}  // namespace

bool SecondCore::Start(BaseType_t core) {
  wanted_ = xSemaphoreCreateBinaryStatic(&wanted_memory_);
  done_ = xSemaphoreCreateBinaryStatic(&done_memory_);
  return xTaskCreatePinnedToCore(Work, "worker", kStackBytes, this, kPriority, nullptr, core) == pdPASS;
}

void SecondCore::Work(void* self) {
  SecondCore& workers = *static_cast<SecondCore*>(self);
  while (true) {
    xSemaphoreTake(workers.wanted_, portMAX_DELAY);
    workers.part_(workers.context_, workers.begin_, workers.end_);
    xSemaphoreGive(workers.done_);
  }
}

void SecondCore::Run(uint32_t rows, Part part, const void* context) {
  const uint32_t half = HalfOf(rows);
  part_ = part;
  context_ = context;
  begin_ = half;
  end_ = rows;
  xSemaphoreGive(wanted_);
  part(context, 0, half);
  xSemaphoreTake(done_, portMAX_DELAY);
}

}  // namespace thimble::firmware::idf
