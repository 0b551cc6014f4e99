// Sums over a row's (weight, offset) entries.
#pragma once

#include "kernels/vector.h"

namespace sctool {
namespace {

// Independent sums a row: the latency of a fused multiply-add is hidden by eight of them.
template <int T>
constexpr int sets_of() {
  return T >= 6 ? 1 : T >= 3 ? 2 : T == 2 ? 4 : 6;
}

template <int T, int S>
SCTOOL_INLINE void add_entries(Vector (&sum)[T], const float* values, const std::uint16_t* offsets, std::size_t step,
                               std::uint32_t count, const float* input, std::size_t unit) {
  Vector extra[S][T] = {};
  std::uint32_t e = 0;
  for (; e + S <= count; e += S) {
    SCTOOL_UNROLL for (int s = 0; s < S; ++s) {
      const Vector w = splat(values[s * step]);
      const float* from = input + offsets[s * step] * unit;
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) {
        if (s == 0) sum[t] += w * load(from + t * kWidth);
        else extra[s][t] += w * load(from + t * kWidth);
      }
    }
    values += S * step;
    offsets += S * step;
  }
  for (; e < count; ++e, values += step, offsets += step) {
    const Vector w = splat(*values);
    const float* from = input + *offsets * unit;
    SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[t] += w * load(from + t * kWidth);
  }
  SCTOOL_UNROLL for (int s = 1; s < S; ++s) {
    SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[t] += extra[s][t];
  }
}

}  // namespace
}  // namespace sctool
