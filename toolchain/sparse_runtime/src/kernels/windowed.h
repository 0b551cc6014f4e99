// A sparse matrix times one vector, sixteen rows at a time, the vector's floats looked up in registers.
#pragma once

#include "kernels/epilogue.h"
#include "kernels/lanes.h"

namespace sctool {
namespace {

#if SCTOOL_WIDTH == 16

// True where no float of `from` is infinite or NaN.
SCTOOL_INLINE bool all_finite(const float* from, std::uint32_t count) {
  constexpr int kQuiet = 0x01, kPositive = 0x08, kNegative = 0x10, kSignalling = 0x80;
  constexpr int kWrong = kQuiet | kPositive | kNegative | kSignalling;
  std::uint32_t i = 0;
  __mmask16 wrong = 0;
  for (; i + kWidth <= count; i += kWidth) wrong |= _mm512_fpclass_ps_mask(load(from + i), kWrong);
  if (i < count) {
    const auto rest = static_cast<__mmask16>((1u << (count - i)) - 1);
    wrong |= _mm512_mask_fpclass_ps_mask(rest, _mm512_maskz_loadu_ps(rest, from + i), kWrong);
  }
  return wrong == 0;
}

// `Finite`: an absent entry is zero times some input; else it is left out, because zero times infinity would be NaN.
template <int G, bool Finite>
void windowed_groups(const WindowedRows& call) {
  const float* values = call.values;
  const std::uint8_t* picks = call.picks;
  Vector sum[G];
  SCTOOL_UNROLL for (int g = 0; g < G; ++g) sum[g] = load(call.sums + g * kWidth);
  const __m512i upper = _mm512_set1_epi32(kWindow / 2), absent = _mm512_set1_epi32(kAbsent);
  for (std::uint32_t step = 0; step < call.steps; ++step) {
    const float* window = call.input + call.begins[step];
    const Vector a = load(window), b = load(window + 16), c = load(window + 32), d = load(window + 48);
    SCTOOL_UNROLL for (int g = 0; g < G; ++g, values += kWidth, picks += kWidth) {
      const __m512i pick = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(picks)));
      const Vector low = _mm512_permutex2var_ps(a, pick, b), high = _mm512_permutex2var_ps(c, pick, d);
      const Vector x = _mm512_mask_blend_ps(_mm512_test_epi32_mask(pick, upper), low, high);
      if (Finite) sum[g] += x * load(values);
      else sum[g] = _mm512_mask3_fmadd_ps(x, load(values), sum[g], _mm512_testn_epi32_mask(pick, absent));
    }
  }
  SCTOOL_UNROLL for (int g = 0; g < G; ++g) store(call.sums + g * kWidth, apply(call.activation, sum[g]));
}

void windowed_rows(const WindowedRows& call) {
#define SCTOOL_CASE(G) case G: (call.finite ? windowed_groups<G, true> : windowed_groups<G, false>)(call); break;
  switch (call.groups) {
    SCTOOL_CASE(1) SCTOOL_CASE(2) SCTOOL_CASE(3) SCTOOL_CASE(4) SCTOOL_CASE(5) SCTOOL_CASE(6) SCTOOL_CASE(7)
    SCTOOL_CASE(8)
    default: break;
  }
#undef SCTOOL_CASE
}

constexpr auto kWindowedRows = windowed_rows;
constexpr auto kAllFinite = all_finite;

#else

constexpr void (*kWindowedRows)(const WindowedRows&) = nullptr;
constexpr bool (*kAllFinite)(const float*, std::uint32_t) = nullptr;

#endif

}  // namespace
}  // namespace sctool
