// Compiled with -mavx512vbmi -mavx512vnni besides the instruction sets of avx512.cpp, and without fused multiply-adds.
#define SCTOOL_WIDTH 16
#include "kernels/quantised.h"

#include "kernels/epilogue.h"

namespace sctool {
namespace {

SCTOOL_INLINE __mmask16 first_lanes(std::uint32_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xFFFFu : (1u << count) - 1);
}

struct Ranges {
  __m512 low = _mm512_setzero_ps(), high = _mm512_setzero_ps(), broken = _mm512_setzero_ps();

  SCTOOL_INLINE void add(__m512 x) {
    low = _mm512_min_ps(low, x);
    high = _mm512_max_ps(high, x);
    broken = _mm512_fmadd_ps(x, _mm512_setzero_ps(), broken);
  }
};

constexpr std::uint32_t kChains = 4;  // that hide the latency of a multiply-add

SCTOOL_INLINE Ranges join(const Ranges (&chains)[kChains]) {
  Ranges all = chains[0];
  SCTOOL_UNROLL for (std::uint32_t i = 1; i < kChains; ++i) {
    all.low = _mm512_min_ps(all.low, chains[i].low);
    all.high = _mm512_max_ps(all.high, chains[i].high);
    all.broken = _mm512_add_ps(all.broken, chains[i].broken);
  }
  return all;
}

Range range(const float* from, std::size_t stride, std::uint32_t channels, std::uint32_t count) {
  if (stride == count) count *= channels, channels = 1;
  Ranges chains[kChains];
  for (std::uint32_t c = 0; c < channels; ++c, from += stride) {
    std::uint32_t i = 0;
    for (; i + 16 * kChains <= count; i += 16 * kChains) {
      SCTOOL_UNROLL for (std::uint32_t chain = 0; chain < kChains; ++chain) chains[chain].add(_mm512_loadu_ps(from + i + 16 * chain));
    }
    for (; i < count; i += 16) chains[0].add(_mm512_maskz_loadu_ps(first_lanes(count - i), from + i));
  }
  const Ranges all = join(chains);
  return {_mm512_reduce_min_ps(all.low), _mm512_reduce_max_ps(all.high), _mm512_reduce_add_ps(all.broken)};
}

void column_ranges(const float* from, std::size_t stride, std::uint32_t channels, Range* ranges) {
  Ranges chains[kChains];
  std::uint32_t c = 0;
  for (; c + kChains <= channels; c += kChains, from += kChains * stride) {
    SCTOOL_UNROLL for (std::uint32_t chain = 0; chain < kChains; ++chain) chains[chain].add(_mm512_loadu_ps(from + chain * stride));
  }
  for (; c < channels; ++c, from += stride) chains[0].add(_mm512_loadu_ps(from));
  const Ranges all = join(chains);
  float low[16], high[16], broken[16];
  _mm512_storeu_ps(low, all.low);
  _mm512_storeu_ps(high, all.high);
  _mm512_storeu_ps(broken, all.broken);
  for (int p = 0; p < 16; ++p) ranges[p] = {low[p], high[p], broken[p]};
}

// Rows to columns.
SCTOOL_INLINE void transpose_lanes(__m512i (&x)[16]) {
  __m512i t[16];
  SCTOOL_UNROLL for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
  SCTOOL_UNROLL for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  SCTOOL_UNROLL for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xDD);
    t[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xDD);
  }
  SCTOOL_UNROLL for (int i = 0; i < 4; ++i) {
    x[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    x[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    x[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xDD);
    x[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xDD);
  }
}

SCTOOL_INLINE __m512i steps_of(const float* from, __m512 inverse, __m512i zero) {
  return _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from), inverse)), zero);
}

// Four channels of sixteen pixels, `left` of them there: a pixel's bytes in each lane.
SCTOOL_INLINE __m512i pack_four(const float* from, std::size_t stride, std::uint32_t left, __m512 inverse, __m512i zero) {
  const __m512i none = _mm512_setzero_si512();
  const __m512i a = left > 0 ? steps_of(from, inverse, zero) : none;
  const __m512i b = left > 1 ? steps_of(from + stride, inverse, zero) : none;
  const __m512i c = left > 2 ? steps_of(from + 2 * stride, inverse, zero) : none;
  const __m512i d = left > 3 ? steps_of(from + 3 * stride, inverse, zero) : none;
  const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
  return _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)));
}

void quantise_pixels(const QuantisePixels& call) {
  const __m512 inverse = _mm512_loadu_ps(call.inverse);
  const __m512i zero = _mm512_cvtps_epi32(_mm512_loadu_ps(call.zero));
  std::uint32_t first = 0;
  for (; first + 64 <= call.channels; first += 64) {
    const float* from = call.from + first * call.stride;
    __m512i x[16];
    SCTOOL_UNROLL for (int four = 0; four < 16; ++four, from += 4 * call.stride) {
      x[four] = pack_four(from, call.stride, 4, inverse, zero);
    }
    transpose_lanes(x);
    SCTOOL_UNROLL for (std::uint32_t p = 0; p < 16; ++p) {
      if (p < call.pixels) _mm512_storeu_si512(call.to + call.places[p] + first, x[p]);
    }
  }
  if (first == call.channels) return;
  const std::uint32_t left = call.channels - first;
  const float* from = call.from + first * call.stride;
  __m512i x[16] = {};
  for (std::uint32_t c = 0; c < left; c += 4, from += 4 * call.stride) {
    x[c / 4] = pack_four(from, call.stride, left - c, inverse, zero);
  }
  transpose_lanes(x);
  const __mmask64 mask = (__mmask64{1} << left) - 1;
  for (std::uint32_t p = 0; p < call.pixels; ++p) _mm512_mask_storeu_epi8(call.to + call.places[p] + first, mask, x[p]);
}

void quantise(const float* from, std::uint32_t count, float inverse, float zero, std::uint8_t* to) {
  const __m512i shift = _mm512_set1_epi32(static_cast<int>(zero));
  for (std::uint32_t i = 0; i < count; i += 16) {
    const __mmask16 mask = first_lanes(count - i);
    const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, from + i), _mm512_set1_ps(inverse));
    const __m512i steps = _mm512_max_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(x), shift), _mm512_setzero_si512());
    _mm512_mask_cvtusepi32_storeu_epi8(to + i, mask, steps);
  }
}

SCTOOL_INLINE __m512i look_up(const std::uint8_t* window, __m512i picks) {
  return _mm512_permutex2var_epi8(_mm512_loadu_si512(window), picks, _mm512_loadu_si512(window + 64));
}

// By name: GCC 12 copies every sum to and fro around the intrinsic.
SCTOOL_INLINE void add_products(__m512i& sum, __m512i bytes, __m512i weights) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "v"(weights));
}

// What a group's finished sums are multiplied with, and what is added.
struct Finish {
  __m512 totals, scales, bias;

  explicit SCTOOL_INLINE Finish(const QuadGroup& group)
      : totals(_mm512_loadu_ps(group.totals)), scales(_mm512_loadu_ps(group.scales)), bias(_mm512_loadu_ps(group.bias)) {}

  // The difference is a whole number below 2^24 and so exact, fused or not.
  SCTOOL_INLINE __m512 operator()(__m512i sum, float zero, float scale) const {
    const __m512 centred = _mm512_fnmadd_ps(_mm512_set1_ps(zero), totals, _mm512_cvtepi32_ps(sum));
    return _mm512_add_ps(_mm512_mul_ps(centred, _mm512_mul_ps(scales, _mm512_set1_ps(scale))), bias);
  }
};

SCTOOL_INLINE void activate_all(Activation activation, __m512i (&x)[16]) {
  switch (activation) {
    case Activation::kNone: return;
    case Activation::kRelu:
      SCTOOL_UNROLL for (int p = 0; p < 16; ++p) {
        x[p] = _mm512_castps_si512(apply(Activation::kRelu, _mm512_castsi512_ps(x[p])));
      }
      return;
    default:
      SCTOOL_UNROLL for (int p = 0; p < 16; ++p) x[p] = _mm512_castps_si512(apply(activation, _mm512_castsi512_ps(x[p])));
  }
}

template <int Runs>
void quad_runs(const QuadTile& tile) {
  constexpr int kLength = 16 / Runs;
  const QuadGroup& group = tile.group;
  const TileRuns& at = *tile.at;
  const std::size_t step = tile.step;
  // Written out, with a name for each: an array of sums would be stored at every step.
#define SCTOOL_PIXELS(DO) \
  DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)
#define SCTOOL_BEGIN(p) __m512i sum##p = _mm512_setzero_si512();
#define SCTOOL_ADD(p)                                                        \
  pixel = p % kLength == 0 ? window + at.inputs[p / kLength] : pixel + step; \
  add_products(sum##p, look_up(pixel, picks), weights);
#define SCTOOL_ADD_PAIR(p)                                                                      \
  pixel = p % kLength == 0 ? window + at.inputs[p / kLength] : pixel + step;                    \
  low = _mm512_loadu_si512(pixel), high = _mm512_loadu_si512(pixel + 64);                       \
  __asm__("" : "+v"(low), "+v"(high)); /* one load each, not two */                             \
  add_products(sum##p, _mm512_permutex2var_epi8(low, picks, high), weights);                    \
  add_products(sum##p, _mm512_permutex2var_epi8(low, second_picks, high), second_weights);
#define SCTOOL_END(p) sum##p,
  SCTOOL_PIXELS(SCTOOL_BEGIN)
  std::size_t s = 0;
  for (; s < group.paired; s += 2) {
    const std::uint8_t *window = tile.input + group.begins[s], *pixel = window;
    const __m512i picks = _mm512_loadu_si512(group.picks + s * kStepBytes);
    const __m512i weights = _mm512_loadu_si512(group.weights + s * kStepBytes);
    const __m512i second_picks = _mm512_loadu_si512(group.picks + (s + 1) * kStepBytes);
    const __m512i second_weights = _mm512_loadu_si512(group.weights + (s + 1) * kStepBytes);
    __m512i low, high;
    SCTOOL_PIXELS(SCTOOL_ADD_PAIR)
  }
  for (; s < group.steps; ++s) {
    const std::uint8_t *window = tile.input + group.begins[s], *pixel = window;
    const __m512i picks = _mm512_loadu_si512(group.picks + s * kStepBytes);
    const __m512i weights = _mm512_loadu_si512(group.weights + s * kStepBytes);
    SCTOOL_PIXELS(SCTOOL_ADD)
  }
  __m512i sum[16] = {SCTOOL_PIXELS(SCTOOL_END)};
#undef SCTOOL_END
#undef SCTOOL_ADD_PAIR
#undef SCTOOL_ADD
#undef SCTOOL_BEGIN
#undef SCTOOL_PIXELS
  const Finish finish_sum(group);
  SCTOOL_UNROLL for (int p = 0; p < 16; ++p) {
    sum[p] = _mm512_castps_si512(finish_sum(sum[p], tile.zero[p], tile.scales[p]));
  }
  if (tile.residual == nullptr) activate_all(tile.activation, sum);
  transpose_lanes(sum);
  const bool whole = at.kept == 0xFFFF && (Runs == 1 || at.outputs[Runs - 1] - at.outputs[0] == 16 - kLength);
  if (whole && tile.residual == nullptr) {
    float* out = tile.output + at.outputs[0];
    SCTOOL_UNROLL for (std::uint32_t r = 0; r < 16; ++r) {
      if (r < group.used) _mm512_storeu_si512(out + group.rows[r] * tile.output_stride, sum[r]);
    }
    return;
  }
  for (std::uint32_t r = 0; r < group.used; ++r) {
    const std::size_t row = group.rows[r] * tile.output_stride;
    for (int run = 0; run < (whole ? 1 : Runs); ++run) {
      const auto kept = static_cast<__mmask16>(whole ? 0xFFFFu : at.kept & ((1u << kLength) - 1) << run * kLength);
      const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(row + at.outputs[run]) - run * kLength;
      Vector y = _mm512_castsi512_ps(sum[r]);
      if (tile.residual != nullptr) y = apply(tile.activation, y + _mm512_maskz_loadu_ps(kept, tile.residual + first));
      _mm512_mask_storeu_ps(tile.output + first, kept, y);
    }
  }
}

void quad_tile(const QuadTile& tile) {
  switch (tile.runs) {
    case 1: return quad_runs<1>(tile);
    case 2: return quad_runs<2>(tile);
    default: return quad_runs<4>(tile);
  }
}

void quad_rows(const QuadRows& call) {
  const QuadGroup& group = call.group;
  __m512i sum[4] = {};
  const auto add = [&](__m512i& to, std::size_t s) __attribute__((always_inline)) {
    to = _mm512_dpbusd_epi32(to, look_up(call.input + group.begins[s], _mm512_loadu_si512(group.picks + s * kStepBytes)),
                             _mm512_loadu_si512(group.weights + s * kStepBytes));
  };
  std::uint32_t s = 0;
  for (; s + 4 <= group.steps; s += 4) {
    SCTOOL_UNROLL for (int i = 0; i < 4; ++i) add(sum[i], s + i);
  }
  for (; s < group.steps; ++s) add(sum[0], s);
  sum[0] = _mm512_add_epi32(_mm512_add_epi32(sum[0], sum[1]), _mm512_add_epi32(sum[2], sum[3]));
  float rows[16];
  store(rows, apply(call.activation, Finish(group)(sum[0], call.zero, call.scale)));
  for (std::uint32_t r = 0; r < group.used; ++r) call.output[group.rows[r]] = rows[r];
}

constexpr QuantisedKernels kTable = {range, column_ranges, quantise_pixels, quantise, quad_tile, quad_rows};

}  // namespace

const QuantisedKernels& avx512_quantised() { return kTable; }

}  // namespace sctool
