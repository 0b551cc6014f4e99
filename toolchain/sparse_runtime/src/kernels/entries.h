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
  std::uint32_t e = 0;
  for (; e + E <= count; e += E, values += E, offsets += E) {
    if (kQuads) {
      SCTOOL_UNROLL for (int q = 0; q < E; q += 4) {
        const Vector quads = load_quads(values + q);
        std::uint64_t four;
        std::memcpy(&four, offsets + q, sizeof four);
        add((q + 0) % S, splat_of<0>(quads), place(four & 0xFFFF));
        add((q + 1) % S, splat_of<1>(quads), place(four >> 16 & 0xFFFF));
        add((q + 2) % S, splat_of<2>(quads), place(four >> 32 & 0xFFFF));
        add((q + 3) % S, splat_of<3>(quads), place(four >> 48));
      }
    } else {
      SCTOOL_UNROLL for (int s = 0; s < E; ++s) add(s % S, splat(values[s]), at(s));
    }
  }
  for (; e < count; ++e, ++values, ++offsets) add(0, splat(*values), at(0));
  SCTOOL_UNROLL for (int s = 1; s < S; ++s) {
    SCTOOL_UNROLL for (int t = 0; t < T; ++t) sum[t] += extra[s][t];
  }
}

}  // namespace
}  // namespace sctool
