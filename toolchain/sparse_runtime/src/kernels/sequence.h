// Kernels of what stands between the weighted layers of mobile networks and text models: gates, GELU, layer norm. One table
// of them for each instruction set, as in kernels.h, whose rules hold here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace sctool {

enum class Unary : std::uint8_t { kHardSigmoid = 0, kGelu = 1, kGeluTanh = 2 };

// Every column of [channels][stride] on its own: (x - mean) / sqrt(variance + epsilon) * scale + shift. With stride 1 there
// is one column.
struct LayerNorm {
  const float* input;
  float* output;
  std::size_t channels, columns, stride;
  float epsilon;
  const float* scale;  // [channels]
  const float* shift;  // [channels]
};

struct SequenceKernels {
  void (*unary)(const float* in, float* out, std::size_t count, Unary function);
  void (*multiply)(const float* a, const float* b, float* out, std::size_t count);
  void (*scale)(const float* in, float factor, float* out, std::size_t count);
  void (*layer_norm)(const LayerNorm&);
};

const SequenceKernels& portable_sequence();
#if defined(SCTOOL_HAVE_X86_KERNELS)
const SequenceKernels& avx2_sequence();
const SequenceKernels& avx512_sequence();
#endif

// Those of the same instruction set.
const SequenceKernels& find_sequence(const Kernels& kernels);

}  // namespace sctool
