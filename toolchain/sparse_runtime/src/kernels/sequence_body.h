// The kernels of sequence.h over the vector type. A kernel file defines SCTOOL_WIDTH and SCTOOL_SEQUENCE_TABLE and includes
// this.
#pragma once

#include "kernels/sequence.h"
#include "kernels/vector.h"

namespace sctool {
namespace {

#define SCTOOL_EACH inline __attribute__((always_inline))

typedef std::int32_t Bits __attribute__((vector_size(SCTOOL_WIDTH * 4)));

// e^x to 2e-7 of itself for x <= 88; x under -87 is -87. 2^n e^r, |r| <= ln 2 / 2, the latter by its series. The sum with
// 1.5 * 2^23 rounds, and holds n in its lowest bits: nothing is converted, so that a NaN does no harm and stays one.
SCTOOL_EACH Vector exponential(Vector x) {
  x = x < splat(-87.0f) ? splat(-87.0f) : x;
  x = x > splat(88.0f) ? splat(88.0f) : x;
  const Vector magic = splat(12582912.0f);
  const Vector shifted = x * splat(1.44269504f) + magic;
  const Vector n = shifted - magic;
  const Vector r = (x - n * splat(0.693359375f)) + n * splat(2.12194440e-4f);
  Vector sum = splat(1.0f / 720.0f);
  sum = sum * r + splat(1.0f / 120.0f);
  sum = sum * r + splat(1.0f / 24.0f);
  sum = sum * r + splat(1.0f / 6.0f);
  sum = sum * r + splat(0.5f);
  sum = sum * r + splat(1.0f);
  sum = sum * r + splat(1.0f);
  const Bits power = (reinterpret_cast<Bits>(shifted) - reinterpret_cast<Bits>(magic) + 127) << 23;
  return sum * reinterpret_cast<Vector>(power);
}

// erf to 2e-7 (Abramowitz and Stegun 1964, 7.1.26).
SCTOOL_EACH Vector error_function(Vector x) {
  const Vector zero = {};
  const Vector size = x < zero ? -x : x;
  const Vector t = splat(1.0f) / (splat(0.3275911f) * size + splat(1.0f));
  Vector sum = splat(1.061405429f);
  sum = sum * t + splat(-1.453152027f);
  sum = sum * t + splat(1.421413741f);
  sum = sum * t + splat(-0.284496736f);
  sum = sum * t + splat(0.254829592f);
  const Vector result = splat(1.0f) - sum * t * exponential(-(size * size));
  return x < zero ? -result : result;
}

SCTOOL_EACH Vector apply(Unary function, Vector x) {
  const Vector zero = {}, half = splat(0.5f), one = splat(1.0f);
  switch (function) {
    case Unary::kHardSigmoid: {
      Vector gate = x + splat(3.0f);
      gate = gate < zero ? zero : gate;
      gate = gate > splat(6.0f) ? splat(6.0f) : gate;
      return gate * splat(1.0f / 6.0f);
    }
    case Unary::kGelu: return half * x * (one + error_function(x * splat(0.707106781f)));
    case Unary::kGeluTanh: {
      const Vector inner = splat(0.797884561f) * (x + splat(0.044715f) * x * x * x);
      const Vector power = exponential(inner + inner);
      return x * (power / (power + one));  // x (1 + tanh) / 2
    }
  }
  return x;
}

// Runs `body(vector) -> vector` over `count` floats; the last ones go through memory of their own.
template <typename Body>
SCTOOL_EACH void map(const float* in, float* out, std::size_t count, Body body) {
  std::size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(out + i, body(load(in + i)));
  if (i == count) return;
  float rest[kWidth] = {};
  for (std::size_t j = i; j < count; ++j) rest[j - i] = in[j];
  store(rest, body(load(rest)));
  for (std::size_t j = i; j < count; ++j) out[j] = rest[j - i];
}

void unary(const float* in, float* out, std::size_t count, Unary function) {
  switch (function) {
    case Unary::kHardSigmoid: return map(in, out, count, [](Vector x) { return apply(Unary::kHardSigmoid, x); });
    case Unary::kGelu: return map(in, out, count, [](Vector x) { return apply(Unary::kGelu, x); });
    case Unary::kGeluTanh: return map(in, out, count, [](Vector x) { return apply(Unary::kGeluTanh, x); });
  }
}

void multiply(const float* a, const float* b, float* out, std::size_t count) {
  std::size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(out + i, load(a + i) * load(b + i));
  for (; i < count; ++i) out[i] = a[i] * b[i];
}

void scale(const float* in, float factor, float* out, std::size_t count) {
  map(in, out, count, [factor](Vector x) { return x * splat(factor); });
}

SCTOOL_EACH float sum_lanes(Vector value) {
  float sum = 0.0f;
  for (int lane = 0; lane < kWidth; ++lane) sum += value[lane];
  return sum;
}

SCTOOL_EACH Vector root(Vector value) {
  for (int lane = 0; lane < kWidth; ++lane) value[lane] = __builtin_sqrtf(value[lane]);
  return value;
}

// One column whose channels lie side by side.
void normalise_row(const LayerNorm& call) {
  const std::size_t channels = call.channels, whole = channels / kWidth * kWidth;
  Vector sums = {};
  for (std::size_t c = 0; c < whole; c += kWidth) sums += load(call.input + c);
  float sum = sum_lanes(sums);
  for (std::size_t c = whole; c < channels; ++c) sum += call.input[c];
  const float mean = sum / static_cast<float>(channels);
  Vector squares = {};
  for (std::size_t c = 0; c < whole; c += kWidth) {
    const Vector off = load(call.input + c) - splat(mean);
    squares += off * off;
  }
  float square = sum_lanes(squares);
  for (std::size_t c = whole; c < channels; ++c) square += (call.input[c] - mean) * (call.input[c] - mean);
  const float factor = 1.0f / __builtin_sqrtf(square / static_cast<float>(channels) + call.epsilon);
  for (std::size_t c = 0; c < channels; ++c) {
    call.output[c] = (call.input[c] - mean) * factor * call.scale[c] + call.shift[c];
  }
}

// T vectors of columns from `at` on.
template <int T>
SCTOOL_EACH void normalise_columns(const LayerNorm& call, std::size_t at) {
  const float* in = call.input + at;
  const Vector share = splat(1.0f / static_cast<float>(call.channels));
  Vector mean[T] = {}, factor[T] = {};
  for (std::size_t c = 0; c < call.channels; ++c) {
    for (int t = 0; t < T; ++t) mean[t] += load(in + c * call.stride + t * kWidth);
  }
  for (int t = 0; t < T; ++t) mean[t] *= share;
  for (std::size_t c = 0; c < call.channels; ++c) {
    for (int t = 0; t < T; ++t) {
      const Vector off = load(in + c * call.stride + t * kWidth) - mean[t];
      factor[t] += off * off;
    }
  }
  for (int t = 0; t < T; ++t) factor[t] = splat(1.0f) / root(factor[t] * share + splat(call.epsilon));
  for (std::size_t c = 0; c < call.channels; ++c) {
    const Vector weight = splat(call.scale[c]), shift = splat(call.shift[c]);
    for (int t = 0; t < T; ++t) {
      const Vector off = load(in + c * call.stride + t * kWidth) - mean[t];
      store(call.output + at + c * call.stride + t * kWidth, off * factor[t] * weight + shift);
    }
  }
}

void layer_norm(const LayerNorm& call) {
  if (call.stride == 1) return normalise_row(call);
  std::size_t at = 0;
  for (; at + 4 * kWidth <= call.columns; at += 4 * kWidth) normalise_columns<4>(call, at);
  for (; at < call.columns; at += kWidth) normalise_columns<1>(call, at);
}

constexpr SequenceKernels kSequence = {unary, multiply, scale, layer_norm};

}  // namespace

const SequenceKernels& SCTOOL_SEQUENCE_TABLE() { return kSequence; }

}  // namespace sctool
