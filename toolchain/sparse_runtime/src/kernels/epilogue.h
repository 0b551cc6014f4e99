// What happens to finished sums.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vector.h"

namespace sctool {
namespace {

// NaN stays NaN, as in PyTorch: every comparison is written so that it keeps what it cannot order.
SCTOOL_INLINE Vector apply(Activation activation, Vector x) {
  const Vector zero = splat(0.0f), six = splat(6.0f);
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kRelu: return x < zero ? zero : x;
    case Activation::kRelu6: x = x < zero ? zero : x; return x > six ? six : x;
    case Activation::kHardSwish: {
      Vector gate = x + splat(3.0f);
      gate = gate < zero ? zero : gate;
      gate = gate > six ? six : gate;
      return x * gate * splat(1.0f / 6.0f);
    }
  }
  return x;
}

SCTOOL_INLINE float apply_one(Activation activation, float x) {
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kRelu: return x < 0.0f ? 0.0f : x;
    case Activation::kRelu6: x = x < 0.0f ? 0.0f : x; return x > 6.0f ? 6.0f : x;
    case Activation::kHardSwish: {
      float gate = x + 3.0f;
      gate = gate < 0.0f ? 0.0f : gate;
      gate = gate > 6.0f ? 6.0f : gate;
      return x * gate * (1.0f / 6.0f);
    }
  }
  return x;
}

template <int T>
SCTOOL_INLINE void finish(Vector (&sum)[T], float* out, const float* residual, Activation activation) {
  if (residual != nullptr) {
    SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[t] += load(residual + t * kWidth);
  }
  switch (activation) {
    case Activation::kNone:
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) store(out + t * kWidth, sum[t]);
      break;
    case Activation::kRelu:
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) store(out + t * kWidth, apply(Activation::kRelu, sum[t]));
      break;
    case Activation::kRelu6:
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) store(out + t * kWidth, apply(Activation::kRelu6, sum[t]));
      break;
    default:
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) store(out + t * kWidth, apply(activation, sum[t]));
  }
}

}  // namespace
}  // namespace sctool
