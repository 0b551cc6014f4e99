// Sparse matrix times a tile of pixels, for one column of a kernel: the sums move, not the pixels.
#pragma once

#include "kernels/entries.h"
#include "kernels/epilogue.h"
#include "kernels/lanes.h"
#include "kernels/pieces.h"

namespace sctool {
namespace {

// The last lane of `before`, then all but the last of `value`.
SCTOOL_INLINE Vector shift_up(Vector before, Vector value) {
#if SCTOOL_WIDTH == 16
  return reinterpret_cast<Vector>(_mm512_alignr_epi32(reinterpret_cast<__m512i>(value), reinterpret_cast<__m512i>(before), 15));
#elif SCTOOL_WIDTH == 8
  return __builtin_shufflevector(before, value, 7, 8, 9, 10, 11, 12, 13, 14);
#else
  return __builtin_shufflevector(before, value, 3, 4, 5, 6);
#endif
}

// All but the first lane of `value`, then the first of `after`.
SCTOOL_INLINE Vector shift_down(Vector value, Vector after) {
#if SCTOOL_WIDTH == 16
  return reinterpret_cast<Vector>(_mm512_alignr_epi32(reinterpret_cast<__m512i>(after), reinterpret_cast<__m512i>(value), 1));
#elif SCTOOL_WIDTH == 8
  return __builtin_shufflevector(value, after, 1, 2, 3, 4, 5, 6, 7, 8);
#else
  return __builtin_shufflevector(value, after, 1, 2, 3, 4);
#endif
}

template <int T>
void shifted_vectors(const ShiftedTile& call) {
  const SparseTile& tile = call.tile;
  const Epilogue& epilogue = tile.epilogue;
  const float* values = tile.values;
  const std::uint16_t* offsets = tile.offsets;
  Lanes keep[T];  // registers where there are enough of them
  SCTOOL_UNROLL for (int t = 0; t < T; ++t) keep[t] = load_lanes(call.keep + t * kWidth);
  for (std::uint32_t visit = 0; visit < tile.rows; ++visit) {
    const std::size_t row = tile.order[visit];
    float* out = tile.output + row * tile.output_stride;
    const std::uint32_t count = tile.counts[visit];
    if (count == 0 && !tile.first && !tile.last) continue;
    Vector sum[T] = {};
    add_entries<T, 1>(sum, values, offsets, count, tile.input, 1);
    values += count;
    offsets += count;
    const Vector start = splat(epilogue.bias != nullptr && tile.first ? epilogue.bias[row] : 0.0f);
    if (call.shift > 0) {
      SCTOOL_UNROLL for (int t = T - 1; t >= 0; --t) sum[t] = shift_up(t > 0 ? sum[t > 0 ? t - 1 : 0] : Vector{}, sum[t]);
    } else {
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[t] = shift_down(sum[t], t + 1 < T ? sum[t + 1 < T ? t + 1 : t] : Vector{});
    }
    SCTOOL_UNROLL for (int t = 0; t < T; ++t) {
      sum[t] = keep_lanes(sum[t], keep[t]) + (tile.first ? start : load(out + t * kWidth));
    }
    if (tile.last) {
      const float* residual = epilogue.residual != nullptr ? epilogue.residual + row * epilogue.residual_stride : nullptr;
      finish<T>(sum, out, residual, epilogue.activation);
    } else {
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) store(out + t * kWidth, sum[t]);
    }
  }
}

constexpr int kShiftedAccumulators = SCTOOL_SHIFTED_ACCUMULATORS;

void shifted_tile(const ShiftedTile& call) {
#define SCTOOL_CASE(T) case T: shifted_vectors<(T <= kShiftedAccumulators ? T : 1)>(call); break;
  switch (call.tile.vectors) {
    SCTOOL_CASE(1) SCTOOL_CASE(2) SCTOOL_CASE(3) SCTOOL_CASE(4) SCTOOL_CASE(5) SCTOOL_CASE(6) SCTOOL_CASE(7)
    SCTOOL_CASE(8)
    default: break;
  }
#undef SCTOOL_CASE
}

}  // namespace
}  // namespace sctool
