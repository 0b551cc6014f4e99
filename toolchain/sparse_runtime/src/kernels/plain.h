// Sums and activations of whole values, and the processor's peak.
#pragma once

#include "kernels/epilogue.h"

namespace sctool {
namespace {

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
  constexpr int kChains = 8;
  Vector partial[kChains] = {};
  std::size_t i = 0;
  for (; i + kChains * kWidth <= count; i += kChains * kWidth) {
    SCTOOL_UNROLL for (int c = 0; c < kChains; ++c) partial[c] += load(in + i + c * kWidth);
  }
  for (; i + kWidth <= count; i += kWidth) partial[0] += load(in + i);
  SCTOOL_UNROLL for (int c = 1; c < kChains; ++c) partial[0] += partial[c];
  float result = total(partial[0]);
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

}  // namespace
}  // namespace sctool
