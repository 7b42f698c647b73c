// The second core, which computes beside the session's task.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_WORKERS_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_WORKERS_H_

#include <cstdint>

#include "engine/base/workers.h"
#include "freertos/FreeRTOS.h"
#include "idf_helper_task.h"

namespace thimble::firmware::idf {

// Half of the rows are the caller's, the others those of a task on the other core. Static.
class SecondCore final : public Workers {
 public:
  // Starts that task on `core`; the caller of Run() is on another one. False if there is no memory for it.
  bool Start(BaseType_t core);

  void Run(uint32_t rows, Part part, const void* context) override;

 private:
  // What is to be done.
  Part part_ = nullptr;
  const void* context_ = nullptr;
  uint32_t begin_ = 0;
  uint32_t end_ = 0;

  HelperTask task_;
};

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_WORKERS_H_
