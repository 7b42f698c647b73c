#include "engine/base/events.h"

namespace thimble {

const char* ZoneName(Zone zone) {
  switch (zone) {
    case Zone::kOpen:
      return "open";
    case Zone::kEmbedding:
      return "embedding";
    case Zone::kAttention:
      return "attention";
    case Zone::kFfn:
      return "mlp";
    case Zone::kHead:
      return "head";
    case Zone::kText:
      return "text";
    case Zone::kDraft:
      return "draft";
  }
  return "";
}

const char* KernelName(Kernel kernel) {
  switch (kernel) {
    case Kernel::kMatvecF32:
      return "matvec_f32";
    case Kernel::kMatvecF16:
      return "matvec_f16";
    case Kernel::kMatvecBF16:
      return "matvec_bf16";
    case Kernel::kMatvecQ8_0:
      return "matvec_q8_0";
    case Kernel::kMatvecQ4_0:
      return "matvec_q4_0";
    case Kernel::kMatvecQ4_1:
      return "matvec_q4_1";
    case Kernel::kMatvecQ5_0:
      return "matvec_q5_0";
    case Kernel::kMatvecQ5_1:
      return "matvec_q5_1";
    case Kernel::kMatvecQ4_K:
      return "matvec_q4_k";
    case Kernel::kMatvecQ5_K:
      return "matvec_q5_k";
    case Kernel::kMatvecQ6_K:
      return "matvec_q6_k";
    case Kernel::kMatvecIQ4_NL:
      return "matvec_iq4_nl";
    case Kernel::kWeightedSum:
      return "weighted_sum";
    case Kernel::kSumCodes:
      return "sum_codes";
    case Kernel::kCodeTables:
      return "code_tables";
    case Kernel::kSweep:
      return "sweep";
    case Kernel::kNoise:
      return "noise";
    case Kernel::kScreen:
      return "screen";
    case Kernel::kXxh32:
      return "xxh32";
    case Kernel::kExpand:
      return "expand";
    case Kernel::kQuantize:
      return "quantize";
    case Kernel::kRmsNorm:
      return "rmsnorm";
    case Kernel::kSoftmax:
      return "softmax";
    case Kernel::kSiluMul:
      return "silu_mul";
    case Kernel::kAdd:
      return "add";
    case Kernel::kRope:
      return "rope";
    case Kernel::kRotaryAngles:
      return "rotary_angles";
    case Kernel::kCopy:
      return "copy";
    case Kernel::kChoose:
      return "choose";
  }
  return "";
}

}  // namespace thimble
