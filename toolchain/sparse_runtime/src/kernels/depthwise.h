// One filter over one channel.
#pragma once

#include "kernels/epilogue.h"
#include "kernels/lanes.h"
#include "kernels/pieces.h"

namespace sctool {
namespace {

template <int T>
SCTOOL_INLINE void depthwise_vectors(const DepthwiseTile& tile, std::size_t at) {
  Vector sum[T];
  SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[t] = splat(tile.bias);
  for (std::uint32_t k = 0; k < tile.taps; ++k) {
    const Vector w = splat(tile.weights[k]);
    const float* from = tile.input + tile.offsets[k] + at;
    SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[t] += w * load(from + t * kWidth);
  }
  finish<T>(sum, tile.output + at, tile.residual != nullptr ? tile.residual + at : nullptr, tile.activation);
}

void depthwise_tile(const DepthwiseTile& tile) {
#define SCTOOL_CASE(T) case T: depthwise_vectors<T>(tile, at); break;
  SCTOOL_FOR_PIECES(tile.vectors, 8u,
                    SCTOOL_CASE(1) SCTOOL_CASE(2) SCTOOL_CASE(3) SCTOOL_CASE(4) SCTOOL_CASE(5) SCTOOL_CASE(6)
                    SCTOOL_CASE(7) SCTOOL_CASE(8))
#undef SCTOOL_CASE
}

void depthwise_shifted(const DepthwiseShifted& call) {
  const Shifts& shifts = call.shifts;
  for (std::uint32_t v = 0; v < shifts.vectors; ++v) {
    const std::uint16_t* mask_of = shifts.mask_of + static_cast<std::size_t>(v) * shifts.taps;
    const std::size_t at = static_cast<std::size_t>(v) * kWidth;
    Vector sum = splat(call.bias), other = {};
    std::uint32_t t = 0;
    for (; t + 2 <= shifts.taps; t += 2) {
      sum += splat(call.weights[t]) *
             masked(call.source + at + shifts.shifts[t], shifts.masks + static_cast<std::size_t>(mask_of[t]) * kWidth);
      other += splat(call.weights[t + 1]) * masked(call.source + at + shifts.shifts[t + 1],
                                                   shifts.masks + static_cast<std::size_t>(mask_of[t + 1]) * kWidth);
    }
    if (t < shifts.taps) {
      sum += splat(call.weights[t]) *
             masked(call.source + at + shifts.shifts[t], shifts.masks + static_cast<std::size_t>(mask_of[t]) * kWidth);
    }
    Vector result[1] = {sum + other};
    finish<1>(result, call.output + at, call.residual != nullptr ? call.residual + at : nullptr, call.activation);
  }
}

// Every input row is loaded three times, shifted, and gives each of the three output rows around it its share.
void depthwise_three(const DepthwiseThree& call) {
  const std::int32_t width = call.width, height = call.height;
  const Vector ones = reinterpret_cast<Vector>(Lanes{} - 1);
  Vector weights[9];
  SCTOOL_UNROLL for (int t = 0; t < 9; ++t) weights[t] = splat(call.weights[t]);
  const Vector bias = splat(call.bias), zero = {};
  for (std::int32_t begin = 0; begin < width; begin += kWidth) {
    // The last vector of a row ends with it where that is possible: none writes into the row after.
    const std::int32_t x = begin + kWidth <= width || width < kWidth ? begin : width - kWidth;
    const Lanes left = reinterpret_cast<Lanes>(keep(ones, x, 1, width));
    const Lanes right = reinterpret_cast<Lanes>(keep(ones, x, 0, width - 1));
    Vector two_above = zero, above = zero, here = zero;  // what the rows y - 2 and y - 1 give to the ones after, and y - 1 to itself
    for (std::int32_t y = 0; y <= height; ++y) {
      Vector top = zero, middle = zero, bottom = zero;
      if (y < height) {
        const float* from = call.channel + static_cast<std::ptrdiff_t>(y) * width + x;
        const Vector a = reinterpret_cast<Vector>(reinterpret_cast<Lanes>(load(from - 1)) & left);
        const Vector b = load(from);
        const Vector c = reinterpret_cast<Vector>(reinterpret_cast<Lanes>(load(from + 1)) & right);
        top = weights[0] * a + weights[1] * b + weights[2] * c;
        middle = weights[3] * a + weights[4] * b + weights[5] * c;
        bottom = weights[6] * a + weights[7] * b + weights[8] * c;
      }
      if (y > 0) {
        const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(y - 1) * width + x;
        Vector result[1] = {(two_above + here) + (bottom + bias)};
        finish<1>(result, call.output + at, call.residual != nullptr ? call.residual + at : nullptr, call.activation);
      }
      two_above = above;
      above = top;
      here = middle;
    }
  }
}

// The same with stride 2: of three input rows the pixels left of, at and right of every second column.
void depthwise_three_halved(const DepthwiseThree& call) {
  const std::int32_t width = (call.width + 1) / 2, height = (call.height + 1) / 2;
  const Vector ones = reinterpret_cast<Vector>(Lanes{} - 1);
  Vector weights[9];
  SCTOOL_UNROLL for (int t = 0; t < 9; ++t) weights[t] = splat(call.weights[t]);
  const Vector bias = splat(call.bias);
  for (std::int32_t begin = 0; begin < width; begin += kWidth) {
    const std::int32_t x = begin + kWidth <= width || width < kWidth ? begin : width - kWidth;
    const Lanes left = reinterpret_cast<Lanes>(keep(ones, x, 1, call.width / 2 + 1));
    const Lanes here = reinterpret_cast<Lanes>(keep(ones, x, 0, width));
    const Lanes right = reinterpret_cast<Lanes>(keep(ones, x, 0, call.width / 2));
    for (std::int32_t y = 0; y < height; ++y) {
      Vector sum[2] = {bias, {}};
      SCTOOL_UNROLL for (int r = 0; r < 3; ++r) {
        const std::int32_t row = 2 * y - 1 + r;
        if (row < 0 || row >= call.height) continue;
        const float* from = call.channel + static_cast<std::ptrdiff_t>(row) * call.width + 2 * x;
        sum[0] += weights[3 * r] * reinterpret_cast<Vector>(reinterpret_cast<Lanes>(even_floats(from - 1)) & left);
        sum[1] += weights[3 * r + 1] * reinterpret_cast<Vector>(reinterpret_cast<Lanes>(even_floats(from)) & here);
        sum[0] += weights[3 * r + 2] * reinterpret_cast<Vector>(reinterpret_cast<Lanes>(even_floats(from + 1)) & right);
      }
      Vector result[1] = {sum[0] + sum[1]};
      const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(y) * width + x;
      finish<1>(result, call.output + at, call.residual != nullptr ? call.residual + at : nullptr, call.activation);
    }
  }
}

}  // namespace
}  // namespace sctool
