// XXH64 with seed 0 (Y. Collet, "XXH64 algorithm description"): the checksum of payloads. Four independent lanes of eight
// bytes each: several times as fast as a CRC by tables, which at these sizes would take a quarter of the loading time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sctool {
namespace xxh64_detail {

constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87u, kPrime2 = 0xC2B2AE3D27D4EB4Fu, kPrime3 = 0x165667B19E3779F9u,
                        kPrime4 = 0x85EBCA77C2B2AE63u, kPrime5 = 0x27D4EB2F165667C5u;

inline std::uint64_t rotate(std::uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

inline std::uint64_t load64(const std::uint8_t* from) {
  std::uint64_t value;
  std::memcpy(&value, from, sizeof value);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  value = __builtin_bswap64(value);
#endif
  return value;
}

inline std::uint64_t mix(std::uint64_t lane, std::uint64_t word) { return rotate(lane + word * kPrime2, 31) * kPrime1; }

}  // namespace xxh64_detail

inline std::uint64_t xxh64(const std::uint8_t* at, std::size_t size) {
  using namespace xxh64_detail;
  std::uint64_t sum = kPrime5;
  std::size_t left = size;
  if (left >= 32) {
    std::uint64_t lanes[4] = {kPrime1 + kPrime2, kPrime2, 0, 0 - kPrime1};
    for (; left >= 32; at += 32, left -= 32) {
      for (int i = 0; i < 4; ++i) lanes[i] = mix(lanes[i], load64(at + 8 * i));
    }
    sum = rotate(lanes[0], 1) + rotate(lanes[1], 7) + rotate(lanes[2], 12) + rotate(lanes[3], 18);
    for (const std::uint64_t lane : lanes) sum = (sum ^ mix(0, lane)) * kPrime1 + kPrime4;
  }
  sum += size;
  for (; left >= 8; at += 8, left -= 8) sum = rotate(sum ^ mix(0, load64(at)), 27) * kPrime1 + kPrime4;
  if (left >= 4) {
    const std::uint32_t word = at[0] | at[1] << 8 | at[2] << 16 | static_cast<std::uint32_t>(at[3]) << 24;
    sum = rotate(sum ^ word * kPrime1, 23) * kPrime2 + kPrime3;
    at += 4;
    left -= 4;
  }
  for (; left > 0; ++at, --left) sum = rotate(sum ^ *at * kPrime5, 11) * kPrime1;
  sum = (sum ^ sum >> 33) * kPrime2;
  sum = (sum ^ sum >> 29) * kPrime3;
  return sum ^ sum >> 32;
}

}  // namespace sctool
