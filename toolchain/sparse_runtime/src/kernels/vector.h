// The vector type of one instruction set: SCTOOL_WIDTH floats. Included once by each kernel file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifndef SCTOOL_WIDTH
#error "SCTOOL_WIDTH is the number of floats in a vector"
#endif

#define SCTOOL_INLINE inline __attribute__((always_inline))
#define SCTOOL_UNROLL _Pragma("GCC unroll 16")

namespace {

constexpr int kWidth = SCTOOL_WIDTH;
typedef float Vector __attribute__((vector_size(SCTOOL_WIDTH * 4)));
typedef float LooseVector __attribute__((vector_size(SCTOOL_WIDTH * 4), aligned(4), may_alias));

SCTOOL_INLINE Vector load(const float* from) {
  return *reinterpret_cast<const LooseVector*>(from);
}

SCTOOL_INLINE void store(float* to, Vector value) {
  *reinterpret_cast<LooseVector*>(to) = value;
}

SCTOOL_INLINE Vector splat(float value) {
#define SCTOOL_FOUR value, value, value, value
#if SCTOOL_WIDTH == 16
  return Vector{SCTOOL_FOUR, SCTOOL_FOUR, SCTOOL_FOUR, SCTOOL_FOUR};
#elif SCTOOL_WIDTH == 8
  return Vector{SCTOOL_FOUR, SCTOOL_FOUR};
#else
  return Vector{SCTOOL_FOUR};
#endif
#undef SCTOOL_FOUR
}

SCTOOL_INLINE float total(Vector value) {
  float sum = 0.0f;
  for (int lane = 0; lane < kWidth; ++lane) sum += value[lane];
  return sum;
}

}  // namespace
