#include "host/formats/tensor_name.h"

namespace thimble::host {

std::string TensorName(TensorId id) {
  char name[48];
  return std::string(name, FormatTensorName(id, name));
}

}  // namespace thimble::host
