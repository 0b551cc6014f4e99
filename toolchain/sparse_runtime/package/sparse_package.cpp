#include "sparse_package.h"

#include <cstring>
#include <new>

namespace sctool {
namespace {

constexpr uint8_t kMagic[8] = {0x89, 'S', 'P', 'T', 'E', '\r', '\n', 0x1a};
constexpr uint32_t kVersion = 1;
constexpr size_t kHeader = 60;
constexpr size_t kStart = kHeader + 4;
constexpr size_t kRecord = 56;
constexpr uint64_t kMaxUnpacked = uint64_t{1} << 31;
constexpr uint64_t kMaxRatio = 65536;
constexpr uint8_t kGaps = 1;
constexpr uint8_t kAsAbove = 2;
constexpr uint8_t kSplit = 1;

uint64_t load(const uint8_t* at, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) {
    value |= uint64_t{at[i]} << (8 * i);
  }
  return value;
}

void store(uint8_t* at, uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) {
    at[i] = static_cast<uint8_t>(value >> (8 * i));
  }
}

// CRC-32 of IEEE 802.3, eight bytes a step.
class Crc32 {
 public:
  Crc32() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) {
        value = (value >> 1) ^ (0xEDB88320u & (0u - (value & 1u)));
      }
      table_[0][i] = value;
    }
    for (uint32_t i = 0; i < 256; ++i) {
      for (int slice = 1; slice < 8; ++slice) {
        const uint32_t before = table_[slice - 1][i];
        table_[slice][i] = (before >> 8) ^ table_[0][before & 0xFF];
      }
    }
  }

  uint32_t of(Bytes bytes) const {
    uint32_t sum = 0xFFFFFFFFu;
    size_t i = 0;
    for (; i + 8 <= bytes.size; i += 8) {
      const uint64_t next = load(bytes.data + i, 8) ^ sum;
      sum = 0;
      for (int slice = 0; slice < 8; ++slice) {
        sum ^= table_[7 - slice][(next >> (8 * slice)) & 0xFF];
      }
    }
    for (; i < bytes.size; ++i) {
      sum = (sum >> 8) ^ table_[0][(sum ^ bytes.data[i]) & 0xFF];
    }
    return ~sum;
  }

 private:
  uint32_t table_[8][256];
};

Bytes part(Bytes whole, uint64_t begin, uint64_t size) {
  return {whole.data + begin, static_cast<size_t>(size)};
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

struct Streams {
  uint64_t position_unary, position_rest, exponent_unary, exponent_rest, fields;
  uint64_t total() const { return position_unary + position_rest + exponent_unary + exponent_rest + fields; }
};

Streams lay_out(const Block& block) {
  return {
      block.position_unary,
      block.positions == kGaps ? fields_bytes(block.position_k, block.stored) : 0,
      block.exponent_unary,
      block.values == kSplit ? fields_bytes(block.exponent_k, block.stored) : 0,
      fields_bytes(field_bits(block), block.stored),
  };
}

// Whether an encoder could have written this; afterwards all sizes are bounded by the block's own.
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

// Whether this is only another name for the block above it.
bool is_alias(const Block& block, const Block& above) {
  return block.offset == above.offset && block.size == above.size && block.word == 1 && block.values == 0 &&
         block.position_k == 0 && block.exponent_k == 0 && block.highest == 0 && block.shift == 0 && block.stored == 0 &&
         block.position_unary == 0 && block.exponent_unary == 0;
}

// Names are printable ASCII without blanks.
bool is_name(Bytes bytes) {
  for (size_t i = 0; i < bytes.size; ++i) {
    if (bytes.data[i] <= ' ' || bytes.data[i] > '~') {
      return false;
    }
  }
  return true;
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

const char* describe(PackageError error) {
  switch (error) {
    case PackageError::kOk:
      return "no error";
    case PackageError::kNotAPackage:
      return "this is no sparse package";
    case PackageError::kUnknownVersion:
      return "the package has a version that this reader does not know";
    case PackageError::kDamaged:
      return "the package is damaged";
    case PackageError::kTooLarge:
      return "the package claims to unpack to more than it may";
    case PackageError::kOutOfMemory:
      return "out of memory";
    case PackageError::kWrongSize:
      return "the buffer does not have the size of what goes into it";
  }
  return "unknown error";
}

PackageError SparsePackage::open(Bytes content) {
  count_ = 0;
  blocks_.reset();
  program_ = head_ = Bytes();
  data_bytes_ = 0;
  if (content.size < sizeof(kMagic) || std::memcmp(content.data, kMagic, sizeof(kMagic)) != 0) {
    return PackageError::kNotAPackage;
  }
  if (content.size < kStart) {
    return PackageError::kDamaged;
  }
  const uint8_t* at = content.data;
  if (load(at + 8, 4) != kVersion) {
    return PackageError::kUnknownVersion;
  }
  static const Crc32 crc;
  const uint64_t count = load(at + 12, 4), size = load(at + 16, 8), program = load(at + 24, 8);
  const uint64_t data = load(at + 32, 8), head = load(at + 40, 8), table = load(at + 48, 8);
  if (size != content.size || load(at + kHeader, 4) != crc.of(part(content, 0, kHeader))) {
    return PackageError::kDamaged;
  }
  const Bytes body = part(content, kStart, size - kStart);
  if (load(at + 56, 4) != crc.of(body)) {
    return PackageError::kDamaged;
  }
  if (program > body.size || head > body.size - program || table > body.size - program - head || head > data) {
    return PackageError::kDamaged;
  }
  if (data > kMaxUnpacked || program + data > kMaxUnpacked || (program + data) / kMaxRatio > size) {
    return PackageError::kTooLarge;
  }
  program_ = part(body, 0, program);
  head_ = part(body, program, head);
  data_bytes_ = data;
  const PackageError error = read_blocks(part(body, program + head, body.size - program - head), count, table);
  if (error != PackageError::kOk) {
    count_ = 0;
    blocks_.reset();
  }
  return error;
}

PackageError SparsePackage::read_blocks(Bytes rest, size_t count, uint64_t table) {
  if (count > table / kRecord) {
    return PackageError::kDamaged;
  }
  blocks_.reset(new (std::nothrow) Block[count]);
  if (blocks_ == nullptr) {
    return PackageError::kOutOfMemory;
  }
  uint64_t place = 0, begin = table, last = head_.size;
  for (size_t i = 0; i < count; ++i) {
    if (table - place < kRecord) {
      return PackageError::kDamaged;
    }
    const uint8_t* at = rest.data + place;
    const uint64_t length = load(at, 2);
    place += kRecord;
    if (table - place <= length || !is_name(part(rest, place, length)) || rest.data[place + length] != 0) {
      return PackageError::kDamaged;
    }
    Block& block = blocks_[i];
    block.key = {reinterpret_cast<const char*>(rest.data + place), static_cast<size_t>(length)};
    place += length + 1;
    block.word = at[2];
    block.positions = at[3];
    block.values = at[4];
    block.position_k = at[5];
    block.exponent_k = at[6];
    block.highest = at[7];
    block.shift = at[8];
    block.offset = load(at + 16, 8);
    block.size = load(at + 24, 8);
    block.stored = load(at + 32, 8);
    block.position_unary = load(at + 40, 8);
    block.exponent_unary = load(at + 48, 8);
    if (block.positions == kAsAbove) {
      if (i == 0 || !is_alias(block, blocks_[i - 1])) {
        return PackageError::kDamaged;
      }
      const std::string_view name = block.key;
      block = blocks_[i - 1];
      block.key = name;
      continue;
    }
    if (block.size > data_bytes_ || block.offset < last || block.offset > data_bytes_ - block.size ||
        !is_sound(block)) {
      return PackageError::kDamaged;
    }
    const uint64_t total = lay_out(block).total();
    if (total > rest.size - begin) {
      return PackageError::kDamaged;
    }
    block.streams = part(rest, begin, total);
    begin += total;
    last = block.offset + block.size;
  }
  if (place != table || begin != rest.size) {
    return PackageError::kDamaged;
  }
  count_ = count;
  return PackageError::kOk;
}

const Block* SparsePackage::find(std::string_view key) const {
  for (size_t i = 0; i < count_; ++i) {
    if (blocks_[i].key == key) {
      return &blocks_[i];
    }
  }
  return nullptr;
}

PackageError SparsePackage::decode(const Block& block, uint8_t* out, size_t size) {
  if (size != block.size) {
    return PackageError::kWrongSize;
  }
  const Streams streams = lay_out(block);
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

PackageError SparsePackage::unpack_data(uint8_t* out, size_t size) const {
  if (size != data_bytes_) {
    return PackageError::kWrongSize;
  }
  if (size != 0) {
    std::memset(out, 0, size);
  }
  if (head_.size != 0) {
    std::memcpy(out, head_.data, head_.size);
  }
  for (size_t i = 0; i < count_; ++i) {
    const PackageError error = decode(blocks_[i], out + blocks_[i].offset, static_cast<size_t>(blocks_[i].size));
    if (error != PackageError::kOk) {
      return error;
    }
  }
  return PackageError::kOk;
}

}  // namespace sctool
