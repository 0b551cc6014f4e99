// Sparse matrix times a tile of pixels.
#pragma once

#include "kernels/entries.h"
#include "kernels/epilogue.h"
#include "kernels/pieces.h"

namespace sctool {
namespace {

constexpr int kAccumulators = SCTOOL_ACCUMULATORS;

template <int T, int Unit>
void sparse_vectors(const SparseTile& tile, std::size_t at) {
  const float* values = tile.values;
  const std::uint16_t* offsets = tile.offsets;
  const float* input = tile.input + at;
  const Epilogue& epilogue = tile.epilogue;
  for (std::uint32_t visit = 0; visit < tile.rows; ++visit) {
    const std::size_t row = tile.order[visit];
    float* out = tile.output + row * tile.output_stride + at;
    const std::uint32_t count = tile.counts[visit];
    if (count == 0 && !tile.first && !tile.last) continue;
    Vector sum[T];
    if (tile.first) {
      const Vector start = splat(epilogue.bias != nullptr ? epilogue.bias[row] : 0.0f);
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[t] = start;
    } else {
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[t] = load(out + t * kWidth);
    }
    add_entries<T, Unit>(sum, values, offsets, count, input, tile.unit);
    values += count;
    offsets += count;
    if (tile.last) {
      const float* residual =
          epilogue.residual != nullptr ? epilogue.residual + row * epilogue.residual_stride + at : nullptr;
      finish<T>(sum, out, residual, epilogue.activation);
    } else {
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) store(out + t * kWidth, sum[t]);
    }
  }
}

void sparse_tile(const SparseTile& tile) {
#define SCTOOL_CASE(T) case T: (tile.unit == 1 ? sparse_vectors<T <= kAccumulators ? T : 1, 1> : sparse_vectors<T <= kAccumulators ? T : 1, 0>)(tile, at); break;
  SCTOOL_FOR_PIECES(tile.vectors, static_cast<std::uint32_t>(kAccumulators),
                    SCTOOL_CASE(1) SCTOOL_CASE(2) SCTOOL_CASE(3) SCTOOL_CASE(4) SCTOOL_CASE(5) SCTOOL_CASE(6)
                    SCTOOL_CASE(7) SCTOOL_CASE(8) SCTOOL_CASE(9) SCTOOL_CASE(10) SCTOOL_CASE(11) SCTOOL_CASE(12)
                    SCTOOL_CASE(13) SCTOOL_CASE(14) SCTOOL_CASE(15) SCTOOL_CASE(16))
#undef SCTOOL_CASE
}

}  // namespace
}  // namespace sctool
