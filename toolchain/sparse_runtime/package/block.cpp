#include "block.h"

#include <cstring>

namespace sctool {
namespace {

using spte::kGaps;
using spte::kSplit;
using spte::load;
using spte::part;
using spte::Streams;

void store(uint8_t* at, uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) {
    at[i] = static_cast<uint8_t>(value >> (8 * i));
  }
}

uint32_t mantissa_bits(const Block& block) {
  return block.word == 4 ? 23 : 10;
}

uint64_t exponent_limit(const Block& block) {
  return block.word == 4 ? 256 : 32;
}

uint64_t field_bits(const Block& block) {
  return block.values == kSplit ? mantissa_bits(block) + 1 - block.shift : 8u * block.word;
}

uint64_t fields_bytes(uint64_t width, uint64_t count) {
  return (width * count + 7) / 8;
}

// Fields of up to 32 bits, lowest bit first. The caller knows that there are enough bytes.
class FieldReader {
 public:
  FieldReader(Bytes bytes, unsigned width) : bytes_(bytes), width_(width), mask_((uint64_t{1} << width) - 1) {}

  uint32_t next() {
    while (have_ < width_) {
      held_ |= uint64_t{bytes_.data[place_++]} << have_;
      have_ += 8;
    }
    const auto value = static_cast<uint32_t>(held_ & mask_);
    held_ >>= width_;
    have_ -= width_;
    return value;
  }

 private:
  Bytes bytes_;
  unsigned width_;
  uint64_t mask_;
  uint64_t held_ = 0;
  unsigned have_ = 0;
  size_t place_ = 0;
};

// Numbers in unary: so many zeros, then a one.
class UnaryReader {
 public:
  explicit UnaryReader(Bytes bytes) : bytes_(bytes) {}

  // False where the stream ends before the one.
  bool next(uint64_t* number) {
    uint64_t zeros = 0;
    while (held_ == 0) {
      zeros += have_;
      if (place_ == bytes_.size) {
        return false;
      }
      const size_t left = bytes_.size - place_;
      const int count = left < 8 ? static_cast<int>(left) : 8;
      held_ = load(bytes_.data + place_, count);
      have_ = 8u * static_cast<unsigned>(count);
      place_ += static_cast<size_t>(count);
    }
    const unsigned more = count_trailing_zeros(held_);
    *number = zeros + more;
    held_ = more == 63 ? 0 : held_ >> (more + 1);
    have_ -= more + 1;
    return true;
  }

  // Whether nothing is left but the zeros that fill the last byte.
  bool at_end() const { return place_ == bytes_.size && held_ == 0 && have_ < 8; }

 private:
  static unsigned count_trailing_zeros(uint64_t value) {
#if defined(__GNUC__) || defined(__clang__)
    return static_cast<unsigned>(__builtin_ctzll(value));
#else
    unsigned count = 0;
    for (; (value & 1) == 0; value >>= 1) {
      ++count;
    }
    return count;
#endif
  }

  Bytes bytes_;
  uint64_t held_ = 0;
  unsigned have_ = 0;
  size_t place_ = 0;
};

}  // namespace

namespace spte {

Streams lay_out(const Block& block) {
  return {
      block.position_unary,
      block.positions == kGaps ? fields_bytes(block.position_k, block.stored) : 0,
      block.exponent_unary,
      block.values == kSplit ? fields_bytes(block.exponent_k, block.stored) : 0,
      fields_bytes(field_bits(block), block.stored),
  };
}

bool is_sound(const Block& block) {
  if ((block.word != 1 && block.word != 2 && block.word != 4) || block.size % block.word != 0) {
    return false;
  }
  const uint64_t words = block.size / block.word;
  if (block.positions > kGaps || block.values > kSplit || block.stored > words) {
    return false;
  }
  if (block.position_k > 30 || block.exponent_k > 8) {
    return false;
  }
  if (block.positions != kGaps) {
    if (block.stored != words || block.position_unary != 0 || block.position_k != 0) {
      return false;
    }
  } else if (block.position_unary > (words >> block.position_k) / 8 + block.stored / 8 + 2) {
    return false;
  }
  if (block.values != kSplit) {
    return block.exponent_unary == 0 && block.exponent_k == 0 && block.highest == 0 && block.shift == 0;
  }
  return block.word != 1 && block.highest < exponent_limit(block) && block.shift <= mantissa_bits(block) &&
         block.exponent_unary <= block.stored * ((uint64_t{block.highest} >> block.exponent_k) + 1) / 8 + 1;
}

}  // namespace spte

PackageError SparsePackage::decode(const Block& block, uint8_t* out, size_t size) {
  if (size != block.size) {
    return PackageError::kWrongSize;
  }
  const Streams streams = spte::lay_out(block);
  uint64_t begin = 0;
  auto take = [&](uint64_t bytes) {
    begin += bytes;
    return part(block.streams, begin - bytes, bytes);
  };
  UnaryReader position_high(take(streams.position_unary));
  FieldReader position_low(take(streams.position_rest), block.position_k);
  UnaryReader exponent_high(take(streams.exponent_unary));
  FieldReader exponent_low(take(streams.exponent_rest), block.exponent_k);
  FieldReader fields(take(streams.fields), static_cast<unsigned>(field_bits(block)));
  const bool gaps = block.positions == kGaps, split = block.values == kSplit;
  const uint64_t words = block.size / block.word;
  const uint32_t mantissa = mantissa_bits(block), top = 8u * block.word - 1;
  if (gaps && size != 0) {
    std::memset(out, 0, size);
  }
  uint64_t place = 0, number = 0;
  for (uint64_t i = 0; i < block.stored; ++i) {
    if (gaps) {
      if (!position_high.next(&number) || number > words >> block.position_k) {
        return PackageError::kDamaged;
      }
      place += (number << block.position_k) + position_low.next();
      if (place >= words) {
        return PackageError::kDamaged;
      }
    }
    uint32_t word = fields.next();
    if (split) {
      if (!exponent_high.next(&number) || number > uint64_t{block.highest} >> block.exponent_k) {
        return PackageError::kDamaged;
      }
      const uint64_t distance = (number << block.exponent_k) + exponent_low.next();
      if (distance > block.highest) {
        return PackageError::kDamaged;
      }
      word <<= block.shift;
      const uint32_t fraction = word & ((1u << mantissa) - 1);
      word = (word >> mantissa << top) | (static_cast<uint32_t>(block.highest - distance) << mantissa) | fraction;
    }
    store(out + place * block.word, word, block.word);
    ++place;
  }
  if (!position_high.at_end() || !exponent_high.at_end()) {
    return PackageError::kDamaged;
  }
  return PackageError::kOk;
}

}  // namespace sctool
