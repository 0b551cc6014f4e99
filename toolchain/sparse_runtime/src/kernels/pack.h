// Input channels into the shifted planes that kernels walk.
#pragma once

#include "kernels/kernels.h"
#include "kernels/lanes.h"

namespace sctool {
namespace {

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

void split_phases(const SplitPhases& call) {
  const std::uint32_t half = call.width / 2;
  for (std::uint32_t y = 0; y < call.height; ++y) {
    const float* from = call.channel + static_cast<std::size_t>(y) * call.width;
    float* even = call.planes + (y % 2) * 2 * call.plane + static_cast<std::size_t>(y / 2) * half;
    for (std::uint32_t x = 0; x < half; x += kWidth) store(even + x, even_floats(from + 2 * x));
    for (std::uint32_t x = 0; x < half; x += kWidth) store(even + call.plane + x, odd_floats(from + 2 * x));
  }
}

}  // namespace
}  // namespace sctool
