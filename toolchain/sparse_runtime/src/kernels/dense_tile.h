// Dense matrix times a tile of pixels.
#pragma once

#include "kernels/epilogue.h"
#include "kernels/pieces.h"

namespace sctool {
namespace {

template <int R, int T>
SCTOOL_INLINE void dense_group(const DenseTile& tile, const float* weights, std::uint32_t row, std::size_t at) {
  const Epilogue& epilogue = tile.epilogue;
  const float* input = tile.input + at;
  float* out = tile.output + row * tile.output_stride + at;
  Vector sum[R][T];
  SCTOOL_UNROLL for (int r = 0; r < R; ++r) {
    const Vector start = splat(tile.first && epilogue.bias != nullptr ? epilogue.bias[row + r] : 0.0f);
    SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[r][t] = tile.first ? start : load(out + r * tile.output_stride + t * kWidth);
  }
  for (std::uint32_t k = 0; k < tile.taps; ++k, weights += tile.tap_step) {
    const float* from = input + tile.offsets[k] * tile.unit;
    Vector x[T];
    SCTOOL_UNROLL for (int t = 0; t < T; ++t) x[t] = load(from + t * kWidth);
    SCTOOL_UNROLL for (int r = 0; r < R; ++r) {
      const Vector w = splat(weights[r * tile.row_step]);
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[r][t] += w * x[t];
    }
  }
  SCTOOL_UNROLL for (int r = 0; r < R; ++r) {
    if (tile.last) {
      const float* residual =
          epilogue.residual != nullptr ? epilogue.residual + (row + r) * epilogue.residual_stride + at : nullptr;
      finish<T>(sum[r], out + r * tile.output_stride, residual, epilogue.activation);
    } else {
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) store(out + r * tile.output_stride + t * kWidth, sum[r][t]);
    }
  }
}

// Sixteen rows of one vector.
SCTOOL_INLINE void dense_column(const DenseTile& tile, const float* weights, std::uint32_t row, std::size_t at) {
  constexpr int R = kDenseRows;
  const Epilogue& epilogue = tile.epilogue;
  const float* input = tile.input + at;
  float* out = tile.output + row * tile.output_stride + at;
  Vector sum[4][R];
  SCTOOL_UNROLL for (int g = 0; g < 4; ++g) {
    SCTOOL_UNROLL for (int r = 0; r < R; ++r) {
      const std::size_t place = static_cast<std::size_t>(g) * R + r;
      sum[g][r] = !tile.first ? load(out + place * tile.output_stride)
                              : splat(epilogue.bias != nullptr ? epilogue.bias[row + place] : 0.0f);
    }
  }
  for (std::uint32_t k = 0; k < tile.taps; ++k, weights += tile.tap_step) {
    const Vector x = load(input + tile.offsets[k] * tile.unit);
    SCTOOL_UNROLL for (int g = 0; g < 4; ++g) {
      SCTOOL_UNROLL for (int r = 0; r < R; ++r) {
        sum[g][r] += splat(weights[g * tile.group_step + r * tile.row_step]) * x;
      }
    }
  }
  SCTOOL_UNROLL for (int g = 0; g < 4; ++g) {
    SCTOOL_UNROLL for (int r = 0; r < R; ++r) {
      const std::size_t place = static_cast<std::size_t>(g) * R + r;
      float* to = out + place * tile.output_stride;
      Vector one[1] = {sum[g][r]};
      if (!tile.last) {
        store(to, one[0]);
        continue;
      }
      const float* residual =
          epilogue.residual != nullptr ? epilogue.residual + (row + place) * epilogue.residual_stride + at : nullptr;
      finish<1>(one, to, residual, epilogue.activation);
    }
  }
}

template <int T>
void dense_vectors(const DenseTile& tile, std::size_t at) {
  const float* weights = tile.weights;
  std::uint32_t row = 0;
  if (T == 1) {  // four groups at once: one alone would wait for its own sums
    for (; row + 4 * kDenseRows <= tile.rows; row += 4 * kDenseRows, weights += 4 * tile.group_step) {
      dense_column(tile, weights, row, at);
    }
  }
  for (; row + kDenseRows <= tile.rows; row += kDenseRows, weights += tile.group_step) {
    dense_group<kDenseRows, T>(tile, weights, row, at);
  }
  switch (tile.rows - row) {
    case 3: dense_group<3, T>(tile, weights, row, at); break;
    case 2: dense_group<2, T>(tile, weights, row, at); break;
    case 1: dense_group<1, T>(tile, weights, row, at); break;
    default: break;
  }
}

constexpr int kDenseVectors = SCTOOL_DENSE_VECTORS;

void dense_tile(const DenseTile& tile) {
#define SCTOOL_CASE(T) case T: dense_vectors<T <= kDenseVectors ? T : 1>(tile, at); break;
  SCTOOL_FOR_PIECES(tile.vectors, static_cast<std::uint32_t>(kDenseVectors),
                    SCTOOL_CASE(1) SCTOOL_CASE(2) SCTOOL_CASE(3) SCTOOL_CASE(4) SCTOOL_CASE(5) SCTOOL_CASE(6))
#undef SCTOOL_CASE
}

}  // namespace
}  // namespace sctool
