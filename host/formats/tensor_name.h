// Names of tensors.
#ifndef THIMBLE_HOST_FORMATS_TENSOR_NAME_H_
#define THIMBLE_HOST_FORMATS_TENSOR_NAME_H_

#include <string>

#include "engine/base/tensor.h"

namespace thimble::host {

// The tensor's name as GGUF spells it.
std::string TensorName(TensorId id);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_TENSOR_NAME_H_
