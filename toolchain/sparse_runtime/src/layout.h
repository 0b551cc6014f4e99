// Where values lie in memory: image channels in whole vectors, one after the other; vectors with a zero behind them.
#pragma once

#include <cstddef>

#include "program.h"

namespace sctool {

constexpr std::size_t kLine = 16;     // floats of a cache line: every channel begins on one
constexpr std::size_t kMostColumns = 64;  // records that are transposed and run together
constexpr std::size_t kMargin = 256;  // floats around the arena that kernels may read past a value

inline std::size_t round_up(std::size_t value, std::size_t to) { return (value + to - 1) / to * to; }

// Floats from one channel to the next. Never a multiple of 2 KiB: channels would share few sets of the first cache.
inline std::size_t channel_stride(const Shape& shape) {
  const std::size_t stride = round_up(static_cast<std::size_t>(shape.area()), kLine);
  return stride % 512 == 0 ? stride + kLine : stride;
}

// Floats that one record of a value takes.
inline std::size_t record_floats(const Shape& shape) {
  if (shape.spatial) return shape.channels * channel_stride(shape) + kLine;
  return round_up(static_cast<std::size_t>(shape.channels) + 1, kLine);
}

}  // namespace sctool
