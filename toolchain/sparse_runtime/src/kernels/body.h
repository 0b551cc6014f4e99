// The kernels of one instruction set, written over the vector type. A kernel file defines SCTOOL_WIDTH,
// SCTOOL_ACCUMULATORS, SCTOOL_NAME and SCTOOL_TABLE and includes this.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vector.h"

namespace sctool {
namespace {

constexpr int kAccumulators = SCTOOL_ACCUMULATORS;
#define SCTOOL_INLINE inline __attribute__((always_inline))
#define SCTOOL_UNROLL _Pragma("GCC unroll 16")

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
    default:
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) store(out + t * kWidth, apply(activation, sum[t]));
  }
}

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

template <int T>
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
    add_entries<T, sets_of<T>()>(sum, values, offsets, 1, count, input, tile.unit);
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

// Calls `run<T>(at)` for pieces of at most kAccumulators vectors, all but the last as large as they get.
#define SCTOOL_FOR_PIECES(vectors, limit, CALL)                      \
  for (std::uint32_t done_ = 0; done_ < (vectors);) {                \
    const std::uint32_t left_ = (vectors) - done_;                   \
    const std::uint32_t piece_ = left_ < (limit) ? left_ : (limit);  \
    const std::size_t at = static_cast<std::size_t>(done_) * kWidth; \
    switch (piece_) { CALL }                                         \
    done_ += piece_;                                                 \
  }

void sparse_tile(const SparseTile& tile) {
#define SCTOOL_CASE(T) case T: sparse_vectors<T <= kAccumulators ? T : 1>(tile, at); break;
  SCTOOL_FOR_PIECES(tile.vectors, static_cast<std::uint32_t>(kAccumulators),
                    SCTOOL_CASE(1) SCTOOL_CASE(2) SCTOOL_CASE(3) SCTOOL_CASE(4) SCTOOL_CASE(5) SCTOOL_CASE(6)
                    SCTOOL_CASE(7) SCTOOL_CASE(8) SCTOOL_CASE(9) SCTOOL_CASE(10) SCTOOL_CASE(11) SCTOOL_CASE(12)
                    SCTOOL_CASE(13) SCTOOL_CASE(14) SCTOOL_CASE(15) SCTOOL_CASE(16))
#undef SCTOOL_CASE
}

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

// Every second float of two vectors.
SCTOOL_INLINE Vector even_floats(const float* from) {
  const Vector low = load(from), high = load(from + kWidth);
#if SCTOOL_WIDTH == 16
  return __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#elif SCTOOL_WIDTH == 8
  return __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14);
#else
  return __builtin_shufflevector(low, high, 0, 2, 4, 6);
#endif
}

typedef std::int32_t Lanes __attribute__((vector_size(SCTOOL_WIDTH * 4)));

// `value` where first <= at + lane < end, zero elsewhere: a NaN outside does not come through.
SCTOOL_INLINE Vector keep(Vector value, std::int32_t at, std::int32_t first, std::int32_t end) {
#if SCTOOL_WIDTH == 16
  const Lanes lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif SCTOOL_WIDTH == 8
  const Lanes lanes = {0, 1, 2, 3, 4, 5, 6, 7};
#else
  const Lanes lanes = {0, 1, 2, 3};
#endif
  const Lanes inside = (lanes >= first - at) & (lanes < end - at);
  return reinterpret_cast<Vector>(reinterpret_cast<Lanes>(value) & inside);
}

template <int Stride>
SCTOOL_INLINE Vector every(const float* from) {
  if (Stride == 1) return load(from);
  return even_floats(from);
}

// Rows of whole vectors, one after the other in the channel too: the masks of their ends stay in registers.
template <int Stride>
SCTOOL_INLINE float* pack_rows(const float* from, std::ptrdiff_t step, float* to, std::int32_t rows, std::int32_t width,
                               std::int32_t low, std::int32_t high) {
  const Vector ones = reinterpret_cast<Vector>(Lanes{} - 1);
  const Lanes first = reinterpret_cast<Lanes>(keep(ones, 0, low, high));
  const Lanes last = reinterpret_cast<Lanes>(keep(ones, width - kWidth, low, high));
  for (std::int32_t row = 0; row < rows; ++row, from += step, to += width) {
    store(to, reinterpret_cast<Vector>(reinterpret_cast<Lanes>(every<Stride>(from)) & first));
    if (width == kWidth) continue;
    std::int32_t x = kWidth;
    for (; x < width - kWidth; x += kWidth) store(to + x, every<Stride>(from + Stride * x));
    store(to + x, reinterpret_cast<Vector>(reinterpret_cast<Lanes>(every<Stride>(from + Stride * x)) & last));
  }
  return to;
}

// One row of a plane; columns [low, high) lie inside the input.
template <int Stride>
SCTOOL_INLINE void pack_row(const float* from, float* to, std::int32_t width, std::int32_t low, std::int32_t high) {
  for (std::int32_t x = 0; x < width; x += kWidth) {
    const Vector value = every<Stride>(from + Stride * x);
    store(to + x, x >= low && x + kWidth <= high ? value : keep(value, x, low, high));
  }
}

void pack_planes(const PackPlanes& call) {
  float* to = call.planes;
  const std::int32_t width = call.out_width, stride = call.stride;
  for (std::int32_t column = 0; column < call.kernel_width; ++column) {
    const std::int32_t start = column - call.pad_left;
    std::int32_t low = start >= 0 ? 0 : (-start + stride - 1) / stride;
    std::int32_t high = call.width - start <= 0 ? 0 : (call.width - start + stride - 1) / stride;
    if (low > width) low = width;
    if (high > width) high = width;
    if (high < low) high = low;
    const bool whole = width % kWidth == 0 && stride <= 2 && low <= kWidth && width - high <= kWidth && low < high;
    for (std::int32_t phase = 0; phase < call.phases; ++phase) {
      std::int32_t row = 0;
      if (whole) {
        const std::int32_t top = call.first_row * stride + phase - call.pad_top;
        std::int32_t above = top < 0 ? (-top + stride - 1) / stride : 0;
        std::int32_t inside = call.height <= top ? 0 : (call.height - top + stride - 1) / stride;
        if (inside > call.rows) inside = call.rows;
        if (above > inside) above = inside;
        for (std::int32_t x = 0; x < above * width; x += kWidth) store(to + x, Vector{});
        to += above * width;
        const float* from = call.channel + static_cast<std::ptrdiff_t>(top + above * stride) * call.width + start;
        const std::ptrdiff_t step = static_cast<std::ptrdiff_t>(call.width) * stride;
        to = stride == 1 ? pack_rows<1>(from, step, to, inside - above, width, low, high)
                         : pack_rows<2>(from, step, to, inside - above, width, low, high);
        for (std::int32_t x = 0; x < (call.rows - inside) * width; x += kWidth) store(to + x, Vector{});
        to += (call.rows - inside) * width;
        row = call.rows;
      }
      for (; row < call.rows; ++row, to += width) {
        const std::int32_t y = (call.first_row + row) * stride + phase - call.pad_top;
        if (y < 0 || y >= call.height || low == high) {
          for (std::int32_t x = 0; x < width; x += kWidth) store(to + x, Vector{});
          continue;
        }
        const float* from = call.channel + static_cast<std::ptrdiff_t>(y) * call.width + start;
        if (stride == 1) {
          pack_row<1>(from, to, width, low, high);
        } else if (stride == 2) {
          pack_row<2>(from, to, width, low, high);
        } else {
          for (std::int32_t x = 0; x < width; ++x) {
            to[x] = x >= low && x < high ? from[static_cast<std::ptrdiff_t>(x) * stride] : 0.0f;
          }
        }
      }
    }
  }
}

typedef std::int32_t LooseLanes __attribute__((vector_size(SCTOOL_WIDTH * 4), aligned(4), may_alias));

SCTOOL_INLINE Vector masked(const float* from, const std::int32_t* mask) {
  return reinterpret_cast<Vector>(reinterpret_cast<Lanes>(load(from)) &
                                  static_cast<Lanes>(*reinterpret_cast<const LooseLanes*>(mask)));
}

void pack_taps(const PackTaps& call) {
  const Shifts& shifts = call.shifts;
  for (std::uint32_t v = 0; v < shifts.vectors; ++v) {
    const std::uint16_t* mask_of = shifts.mask_of + static_cast<std::size_t>(v) * shifts.taps;
    const float* source = call.source + static_cast<std::size_t>(v) * kWidth;
    float* to = call.to + static_cast<std::size_t>(v) * kWidth;
    for (std::uint32_t t = 0; t < shifts.taps; ++t, to += static_cast<std::size_t>(shifts.vectors) * kWidth) {
      store(to, masked(source + shifts.shifts[t], shifts.masks + static_cast<std::size_t>(mask_of[t]) * kWidth));
    }
  }
}

SCTOOL_INLINE Vector odd_floats(const float* from) { return even_floats(from + 1); }

void split_phases(const SplitPhases& call) {
  const std::uint32_t half = call.width / 2;
  for (std::uint32_t y = 0; y < call.height; ++y) {
    const float* from = call.channel + static_cast<std::size_t>(y) * call.width;
    float* even = call.planes + (y % 2) * 2 * call.plane + static_cast<std::size_t>(y / 2) * half;
    for (std::uint32_t x = 0; x < half; x += kWidth) store(even + x, even_floats(from + 2 * x));
    for (std::uint32_t x = 0; x < half; x += kWidth) store(even + call.plane + x, odd_floats(from + 2 * x));
  }
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

template <int T>
void sliced_vectors(const SlicedColumns& call, std::size_t at) {
  const float* values = call.values;
  const std::uint16_t* columns = call.columns;
  for (std::uint32_t slice = 0; slice < call.slices; ++slice) {
    for (std::uint32_t r = 0; r < kSlice; ++r) {
      const std::size_t place = static_cast<std::size_t>(slice) * kSlice + r;
      const std::uint32_t row = call.rows[place];
      if (row == ~0u) continue;
      Vector sum[T];
      const Vector start = splat(call.bias != nullptr ? call.bias[row] : 0.0f);
      SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[t] = start;
      add_entries<T, sets_of<T>()>(sum, values + r, columns + r, kSlice, call.lengths[place], call.input + at,
                                   call.stride);
      finish<T>(sum, call.output + row * call.stride + at, nullptr, call.activation);
    }
    values += static_cast<std::size_t>(call.steps[slice]) * kSlice;
    columns += static_cast<std::size_t>(call.steps[slice]) * kSlice;
  }
}

void sliced_columns(const SlicedColumns& call) {
#define SCTOOL_CASE(T) case T: sliced_vectors<T>(call, at); break;
  SCTOOL_FOR_PIECES(call.vectors, 8u,
                    SCTOOL_CASE(1) SCTOOL_CASE(2) SCTOOL_CASE(3) SCTOOL_CASE(4) SCTOOL_CASE(5) SCTOOL_CASE(6)
                    SCTOOL_CASE(7) SCTOOL_CASE(8))
#undef SCTOOL_CASE
}

SCTOOL_INLINE float total(Vector value) {
  float sum = 0.0f;
  for (int lane = 0; lane < kWidth; ++lane) sum += value[lane];
  return sum;
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

void add(const float* a, const float* b, float* out, std::size_t count, Activation activation) {
  std::size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(out + i, apply(activation, load(a + i) + load(b + i)));
  for (; i < count; ++i) out[i] = apply_one(activation, a[i] + b[i]);
}

void activate(const float* in, float* out, std::size_t count, Activation activation) {
  std::size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(out + i, apply(activation, load(in + i)));
  for (; i < count; ++i) out[i] = apply_one(activation, in[i]);
}

float sum(const float* in, std::size_t count) {
  Vector partial = {};
  std::size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) partial += load(in + i);
  float result = total(partial);
  for (; i < count; ++i) result += in[i];
  return result;
}

std::uint64_t spin(std::uint32_t rounds, float* out) {
  constexpr int kChains = 12;
  Vector chains[kChains];
  SCTOOL_UNROLL for (int c = 0; c < kChains; ++c) chains[c] = splat(static_cast<float>(c));
  const Vector factor = splat(0.999f);
  for (std::uint32_t r = 0; r < rounds; ++r) {
    SCTOOL_UNROLL for (int c = 0; c < kChains; ++c) chains[c] = chains[c] * factor + factor;
  }
  Vector all = {};
  SCTOOL_UNROLL for (int c = 0; c < kChains; ++c) all += chains[c];
  *out = total(all);
  return static_cast<std::uint64_t>(rounds) * kChains * kWidth;
}

constexpr Kernels kTable = {
    SCTOOL_NAME, kWidth, kAccumulators, sparse_tile,    dense_tile, depthwise_tile, pack_planes, pack_taps,
    split_phases, depthwise_shifted, depthwise_three, transpose, copy, sliced_rows, sliced_columns, dense_rows, add, activate, sum, spin,
};

}  // namespace

const Kernels& SCTOOL_TABLE() { return kTable; }

}  // namespace sctool
