// How a block is stored: the sizes of its streams, and whether its header can be true. Internal to the reader.
#pragma once

#include "sparse_package.h"

namespace sctool {
namespace spte {

constexpr uint8_t kGaps = 1;
constexpr uint8_t kSplit = 1;

// A little-endian number of so many bytes.
inline uint64_t load(const uint8_t* at, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) {
    value |= uint64_t{at[i]} << (8 * i);
  }
  return value;
}

inline Bytes part(Bytes whole, uint64_t begin, uint64_t size) {
  return {whole.data + begin, static_cast<size_t>(size)};
}

struct Streams {
  uint64_t position_unary, position_rest, exponent_unary, exponent_rest, fields;
  uint64_t total() const { return position_unary + position_rest + exponent_unary + exponent_rest + fields; }
};

// The bytes of each stream of a block that is sound.
Streams lay_out(const Block& block);

// Whether an encoder could have written this; afterwards all sizes are bounded by the block's own.
bool is_sound(const Block& block);

}  // namespace spte
}  // namespace sctool
