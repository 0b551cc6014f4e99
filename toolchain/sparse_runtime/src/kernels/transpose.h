// Records into columns and back.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vector.h"

namespace sctool {
namespace {

typedef float Quad __attribute__((vector_size(16)));
typedef float LooseQuad __attribute__((vector_size(16), aligned(4), may_alias));

// to[c][r] = from[r][c], in blocks of four by four.
void transpose(const float* from, std::size_t rows, std::size_t columns, std::size_t from_stride, float* to,
               std::size_t to_stride) {
  std::size_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    std::size_t c = 0;
    for (; c + 4 <= columns; c += 4) {
      const float* at = from + r * from_stride + c;
      const Quad a = *reinterpret_cast<const LooseQuad*>(at);
      const Quad b = *reinterpret_cast<const LooseQuad*>(at + from_stride);
      const Quad d = *reinterpret_cast<const LooseQuad*>(at + 2 * from_stride);
      const Quad e = *reinterpret_cast<const LooseQuad*>(at + 3 * from_stride);
      const Quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const Quad de = __builtin_shufflevector(d, e, 0, 4, 1, 5), de2 = __builtin_shufflevector(d, e, 2, 6, 3, 7);
      float* out = to + c * to_stride + r;
      *reinterpret_cast<LooseQuad*>(out) = __builtin_shufflevector(ab, de, 0, 1, 4, 5);
      *reinterpret_cast<LooseQuad*>(out + to_stride) = __builtin_shufflevector(ab, de, 2, 3, 6, 7);
      *reinterpret_cast<LooseQuad*>(out + 2 * to_stride) = __builtin_shufflevector(ab2, de2, 0, 1, 4, 5);
      *reinterpret_cast<LooseQuad*>(out + 3 * to_stride) = __builtin_shufflevector(ab2, de2, 2, 3, 6, 7);
    }
    for (; c < columns; ++c) {
      for (std::size_t i = 0; i < 4; ++i) to[c * to_stride + r + i] = from[(r + i) * from_stride + c];
    }
  }
  for (; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

void copy(const float* from, float* to, std::size_t vectors) {
  for (std::size_t v = 0; v < vectors; ++v) store(to + v * kWidth, load(from + v * kWidth));
}

}  // namespace
}  // namespace sctool
