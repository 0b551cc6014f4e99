// Integer arithmetic by dot products of four bytes: uint8 inputs, int8 weights, int32 sums. One table, for processors with
// AVX-512 VNNI (vpdpbusd) and VBMI (vpermi2b); elsewhere quantised.cpp gives the same bits by other means. The rules of
// kernels.h hold here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace sctool {

constexpr std::uint32_t kPixels = 16;      // outputs side by side in one tile
constexpr std::uint32_t kLookup = 128;     // bytes that a step looks up in
constexpr std::uint32_t kQuadRows = 16, kQuad = 4;
constexpr std::uint32_t kStepBytes = kQuadRows * kQuad;

// What the numbers of an input lie between, zero among them; `broken` is zero, or NaN where one is infinite or NaN.
struct Range {
  float low, high, broken;
};

// Sixteen pixels, or records, as bytes: to[places[p] + channel] = round(from[channel * stride + p] * inverse[p]) + zero[p],
// held within 0 ... 255.
struct QuantisePixels {
  const float* from;
  std::size_t stride;
  std::uint32_t channels;
  const float* inverse;        // [kPixels]
  const float* zero;           // [kPixels], whole numbers
  std::uint8_t* to;
  const std::uint32_t* places; // [pixels]
  std::uint32_t pixels;        // at most kPixels; so many floats more can be read
};

// Sixteen rows, step by step: in step s, lane l adds weights[s][l][i] * input[begins[s] + picks[s][l][i]] over i < 4. A slot
// without an entry has weight 0.
struct QuadGroup {
  const std::uint8_t* picks;
  const std::int8_t* weights;
  const std::uint32_t* begins;  // kLookup bytes from there can be read
  std::uint32_t steps, paired;  // of the first `paired` steps, each two look up in the same window
  const float* totals;          // [kQuadRows]: the sum of each row's weights
  const float* scales;          // [kQuadRows]
  const float* bias;            // [kQuadRows]
  const std::uint32_t* rows;    // [kQuadRows]: which output; the first `used` are there
  std::uint32_t used;
};

// Sixteen pixels in runs of as many each: pixel p of a run begins at run + p * step. Where they go: a run's first at outputs[run], and
// only those of `kept` (bit p of all sixteen).
constexpr std::uint32_t kMostRuns = 4;
struct TileRuns {
  std::uint32_t inputs[kMostRuns];
  std::uint32_t outputs[kMostRuns];
  std::uint32_t kept;
};

// output[row][p] = activation((sum - zero[p] * total) * (scale[row] * scales[p]) + bias[row] + residual[row][p]) of sixteen
// pixels. Each step by itself rounds as IEEE 754 says: no multiply-add is fused.
struct QuadTile {
  QuadGroup group;
  const std::uint8_t* input;
  std::uint32_t runs;           // 1, 2 or 4
  std::size_t step;
  const TileRuns* at;
  const float* zero;            // [kPixels], whole numbers
  const float* scales;          // [kPixels]
  float* output;
  std::size_t output_stride;
  const float* residual;        // like the output, or null
  Activation activation;
};

// One record: output[row] is a float.
struct QuadRows {
  QuadGroup group;
  const std::uint8_t* input;
  float zero, scale;
  float* output;
  Activation activation;
};

struct QuantisedKernels {
  Range (*range)(const float* from, std::size_t stride, std::uint32_t channels, std::uint32_t count);
  // The ranges of sixteen columns, [kPixels] each.
  void (*column_ranges)(const float* from, std::size_t stride, std::uint32_t channels, Range* ranges);
  void (*quantise_pixels)(const QuantisePixels&);
  // One record without gaps.
  void (*quantise)(const float* from, std::uint32_t count, float inverse, float zero, std::uint8_t* to);
  void (*quad_tile)(const QuadTile&);
  void (*quad_rows)(const QuadRows&);
};

// Those of the same instruction set; null where this processor has no such dot products.
const QuantisedKernels* find_quantised(const Kernels& kernels);

#if defined(SCTOOL_HAVE_X86_KERNELS)
const QuantisedKernels& avx512_quantised();
#endif

}  // namespace sctool
