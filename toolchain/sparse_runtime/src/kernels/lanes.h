// Vectors of 32-bit masks, and loads of every second float.
#pragma once

#include "kernels/vector.h"

namespace sctool {
namespace {

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

typedef std::int32_t LooseLanes __attribute__((vector_size(SCTOOL_WIDTH * 4), aligned(4), may_alias));

SCTOOL_INLINE Lanes load_lanes(const std::int32_t* from) {
  return static_cast<Lanes>(*reinterpret_cast<const LooseLanes*>(from));
}

SCTOOL_INLINE Vector keep_lanes(Vector value, Lanes mask) {
  return reinterpret_cast<Vector>(reinterpret_cast<Lanes>(value) & mask);
}

SCTOOL_INLINE Vector masked(const float* from, const std::int32_t* mask) {
  return keep_lanes(load(from), load_lanes(mask));
}

SCTOOL_INLINE Vector odd_floats(const float* from) { return even_floats(from + 1); }

}  // namespace
}  // namespace sctool
