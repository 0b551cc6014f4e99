// Matrices times one vector.
#pragma once

#include "kernels/epilogue.h"

namespace sctool {
namespace {

// Eight rows at once, whatever the vector: the sums live in one vector, two or none too wide.
typedef float Slice __attribute__((vector_size(32), aligned(4), may_alias));

void sliced_rows(const SlicedRows& call) {
  const float* values = call.values;
  const std::uint16_t* columns = call.columns;
  const float* x = call.input;
  for (std::uint32_t slice = 0; slice < call.slices; ++slice) {
#if SCTOOL_WIDTH >= 8
    Slice sum = {}, other = {};
    const std::uint32_t steps = call.steps[slice];
    std::uint32_t j = 0;
    for (; j + 2 <= steps; j += 2, values += 2 * kSlice, columns += 2 * kSlice) {
      const Slice a = {x[columns[0]], x[columns[1]], x[columns[2]], x[columns[3]],
                       x[columns[4]], x[columns[5]], x[columns[6]], x[columns[7]]};
      const Slice b = {x[columns[8]],  x[columns[9]],  x[columns[10]], x[columns[11]],
                       x[columns[12]], x[columns[13]], x[columns[14]], x[columns[15]]};
      sum += a * *reinterpret_cast<const Slice*>(values);
      other += b * *reinterpret_cast<const Slice*>(values + kSlice);
    }
    for (; j < steps; ++j, values += kSlice, columns += kSlice) {
      const Slice a = {x[columns[0]], x[columns[1]], x[columns[2]], x[columns[3]],
                       x[columns[4]], x[columns[5]], x[columns[6]], x[columns[7]]};
      sum += a * *reinterpret_cast<const Slice*>(values);
    }
    sum += other;
    float sums[kSlice];
    *reinterpret_cast<Slice*>(sums) = sum;
#else
    float sums[kSlice] = {};
    for (std::uint32_t j = 0; j < call.steps[slice]; ++j, values += kSlice, columns += kSlice) {
      for (std::uint32_t r = 0; r < kSlice; ++r) sums[r] += values[r] * x[columns[r]];
    }
#endif
    const std::uint32_t* rows = call.rows + static_cast<std::size_t>(slice) * kSlice;
    for (std::uint32_t r = 0; r < kSlice; ++r) {
      if (rows[r] == ~0u) continue;
      const float bias = call.bias != nullptr ? call.bias[rows[r]] : 0.0f;
      call.output[rows[r]] = apply_one(call.activation, sums[r] + bias);
    }
  }
}

void dense_rows(const DenseRows& call) {
  for (std::uint32_t row = 0; row < call.rows; ++row) {
    const float* weights = call.weights + static_cast<std::size_t>(row) * call.columns;
    Vector sum[4] = {};
    std::uint32_t c = 0;
    for (; c + 4 * kWidth <= call.columns; c += 4 * kWidth) {
      SCTOOL_UNROLL for (int s = 0; s < 4; ++s) sum[s] += load(weights + c + s * kWidth) * load(call.input + c + s * kWidth);
    }
    for (; c + kWidth <= call.columns; c += kWidth) sum[0] += load(weights + c) * load(call.input + c);
    float rest = total((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (; c < call.columns; ++c) rest += weights[c] * call.input[c];
    call.output[row] = apply_one(call.activation, rest + (call.bias != nullptr ? call.bias[row] : 0.0f));
  }
}

}  // namespace
}  // namespace sctool
