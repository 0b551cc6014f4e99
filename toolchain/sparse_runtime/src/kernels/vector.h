// The vector type of one instruction set: SCTOOL_WIDTH floats. Included once by each kernel file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if SCTOOL_WIDTH >= 8
#include <immintrin.h>
#endif

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

// Four floats, over and over, and one of them in every lane: a load and four shuffles instead of four loads. On x86 by name:
// compilers make loads or worse of the generic form.
#if SCTOOL_WIDTH == 16
SCTOOL_INLINE Vector load_quads(const float* from) {
  Vector quads = _mm512_broadcast_f32x4(_mm_loadu_ps(from));
  __asm__("" : "+v"(quads));
  return quads;
}
template <int E>
SCTOOL_INLINE Vector splat_of(Vector quads) {
  return _mm512_permute_ps(quads, E * 0x55);
}
#elif SCTOOL_WIDTH == 8
SCTOOL_INLINE Vector load_quads(const float* from) {
  Vector quads = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(from));
  __asm__("" : "+x"(quads));
  return quads;
}
template <int E>
SCTOOL_INLINE Vector splat_of(Vector quads) {
  return _mm256_permute_ps(quads, E * 0x55);
}
#else
SCTOOL_INLINE Vector load_quads(const float* from) { return load(from); }
template <int E>
SCTOOL_INLINE Vector splat_of(Vector quads) {
  return __builtin_shufflevector(quads, quads, E, E, E, E);
}
#endif

SCTOOL_INLINE float total(Vector value) {
  float sum = 0.0f;
  for (int lane = 0; lane < kWidth; ++lane) sum += value[lane];
  return sum;
}

}  // namespace
