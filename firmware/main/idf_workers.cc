#include "idf_workers.h"

namespace thimble::firmware::idf {
namespace {

constexpr uint32_t kStackBytes = 3072;  // a run used 1596 of it
constexpr UBaseType_t kPriority = 5;    // as the session's task

}  // namespace

bool SecondCore::Start(BaseType_t core) {
  const auto compute = [](void* self) {
    const SecondCore& workers = *static_cast<SecondCore*>(self);
    workers.part_(workers.context_, workers.begin_, workers.end_);
  };
  return task_.Start("worker", kStackBytes, kPriority, core, compute, this);
}

void SecondCore::Run(uint32_t rows, Part part, const void* context) {
  const uint32_t half = HalfOf(rows);
  part_ = part;
  context_ = context;
  begin_ = half;
  end_ = rows;
  task_.Begin();
  part(context, 0, half);
  task_.Wait();
}

}  // namespace thimble::firmware::idf
