// Sums over a row's (weight, offset) entries.
#pragma once

#include "kernels/vector.h"

namespace sctool {
namespace {

// Independent sums a row: the latency of a fused multiply-add is hidden by eight of them.
template <int T>
constexpr int sets_of() {
  return T >= 6 ? 1 : T >= 3 ? 2 : T == 2 ? 4 : 8;
}

// Adds `count` entries to `sum`. Few vectors: weights and offsets come four at a load, because two loads a cycle are
// what bounds them.
// Unit: floats from one offset to the next; 0: `unit`.
template <int T, int Unit>
SCTOOL_INLINE void add_entries(Vector (&sum)[T], const float* values, const std::uint16_t* offsets, std::uint32_t count,
                               const float* input, std::size_t unit) {
  constexpr int S = sets_of<T>();
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  constexpr bool kQuads = T <= 8;
#else
  constexpr bool kQuads = false;
#endif
  constexpr int E = kQuads && S < 4 ? 4 : S;
  const auto place = [&](std::size_t offset) { return input + offset * (Unit == 0 ? unit : std::size_t{Unit}); };
  const auto at = [&](int e) { return place(offsets[e]); };
  Vector extra[S][T] = {};
  const auto add = [&](int set, Vector w, const float* from) __attribute__((always_inline)) {
    SCTOOL_UNROLL for (int t = 0; t < T; ++t) {
      if (set == 0) sum[t] += w * load(from + t * kWidth);
      else extra[set][t] += w * load(from + t * kWidth);
    }
  };
  const auto add_quad = [&](int first) __attribute__((always_inline)) {
    const Vector quads = load_quads(values + first);
    std::uint64_t four;
    std::memcpy(&four, offsets + first, sizeof four);
    add((first + 0) % S, splat_of<0>(quads), place(four & 0xFFFF));
    add((first + 1) % S, splat_of<1>(quads), place(four >> 16 & 0xFFFF));
    add((first + 2) % S, splat_of<2>(quads), place(four >> 32 & 0xFFFF));
    add((first + 3) % S, splat_of<3>(quads), place(four >> 48));
  };
  std::uint32_t e = 0;
  for (; e + E <= count; e += E, values += E, offsets += E) {
    if (kQuads) {
      SCTOOL_UNROLL for (int q = 0; q < E; q += 4) add_quad(q);
    } else {
      SCTOOL_UNROLL for (int s = 0; s < E; ++s) add(s % S, splat(values[s]), at(s));
    }
  }
  if (kQuads && E == 8 && count - e >= 4) {
    add_quad(0);
    e += 4, values += 4, offsets += 4;
  }
  if (kQuads && S >= 2) {  // at most three are left
    switch (count - e) {
      case 3: add(3 % S, splat(values[2]), at(2)); [[fallthrough]];
      case 2: add(2 % S, splat(values[1]), at(1)); [[fallthrough]];
      case 1: add(1 % S, splat(values[0]), at(0)); [[fallthrough]];
      default: break;
    }
  } else {
    for (; e < count; ++e, ++values, ++offsets) add(0, splat(*values), at(0));
  }
  SCTOOL_UNROLL for (int s = 1; s < S; ++s) {
    SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[t] += extra[s][t];
  }
}

}  // namespace
}  // namespace sctool
