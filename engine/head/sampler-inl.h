// TokenChoice::Rules::Score(), for the files that compute with it: out of sampler.h, which others include
// (engine/base/exact.h).
#ifndef THIMBLE_ENGINE_HEAD_SAMPLER_INL_H_
#define THIMBLE_ENGINE_HEAD_SAMPLER_INL_H_

#include "engine/base/exact.h"
#include "engine/head/sampler.h"

namespace thimble::head {

inline float TokenChoice::Rules::Score(float logit, float noise) const { return logit * inverse_temperature + noise; }

}  // namespace thimble::head

#endif  // THIMBLE_ENGINE_HEAD_SAMPLER_INL_H_
