#include "firmware/main/idf_workers.h"

namespace thimble::firmware {
namespace {

constexpr UBaseType_t kPriority = 5;  // as the session's task

}  // namespace

void IdfWorkers::Start(BaseType_t core) {
  wanted_ = xSemaphoreCreateBinaryStatic(&wanted_memory_);
  done_ = xSemaphoreCreateBinaryStatic(&done_memory_);
  xTaskCreateStaticPinnedToCore(Work, "worker", kStackBytes, this, kPriority, stack_, &task_, core);
}

void IdfWorkers::Work(void* self) {
  IdfWorkers& workers = *static_cast<IdfWorkers*>(self);
  while (true) {
    xSemaphoreTake(workers.wanted_, portMAX_DELAY);
    workers.part_(workers.context_, workers.begin_, workers.end_);
    xSemaphoreGive(workers.done_);
  }
}

void IdfWorkers::Run(uint32_t rows, Part part, const void* context) {
  const uint32_t half = HalfOf(rows);
  part_ = part;
  context_ = context;
  begin_ = half;
  end_ = rows;
  xSemaphoreGive(wanted_);
  part(context, 0, half);
  xSemaphoreTake(done_, portMAX_DELAY);
}

}  // namespace thimble::firmware
