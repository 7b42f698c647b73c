// A task that makes one piece of work at a time for another one.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_HELPER_TASK_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_HELPER_TASK_H_

#include <cstdint>

#include "freertos/FreeRTOS.h"
#include "freertos/semphr.h"
#include "freertos/task.h"

namespace thimble::firmware::idf {

// It sleeps until Begin(). What was written before Begin() it sees, what it wrote is seen after Wait(). Static.
class HelperTask {
 public:
  // One piece of work of `owner`.
  using Piece = void (*)(void* owner);

  // On `core`. False if there is no memory for it.
  bool Start(const char* name, uint32_t stack_bytes, UBaseType_t priority, BaseType_t core, Piece piece, void* owner) {
    piece_ = piece;
    owner_ = owner;
    wanted_ = xSemaphoreCreateBinaryStatic(&wanted_memory_);
    done_ = xSemaphoreCreateBinaryStatic(&done_memory_);
    return xTaskCreatePinnedToCore(Work, name, stack_bytes, this, priority, nullptr, core) == pdPASS;
  }

  // Once, then Wait() once, and so on.
  void Begin() { xSemaphoreGive(wanted_); }
  void Wait() { xSemaphoreTake(done_, portMAX_DELAY); }

 private:
  static void Work(void* self) {
    HelperTask& task = *static_cast<HelperTask*>(self);
    while (true) {
      xSemaphoreTake(task.wanted_, portMAX_DELAY);
      task.piece_(task.owner_);
      xSemaphoreGive(task.done_);
    }
  }

  Piece piece_ = nullptr;
  void* owner_ = nullptr;
  SemaphoreHandle_t wanted_ = nullptr;
  SemaphoreHandle_t done_ = nullptr;
  StaticSemaphore_t wanted_memory_ = {};
  StaticSemaphore_t done_memory_ = {};
};

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_HELPER_TASK_H_
