#include "sparse_package.h"

#include <cstring>
#include <new>

#include "block.h"
#include "crc32.h"

namespace sctool {
namespace {

using spte::Crc32;
using spte::load;
using spte::part;

constexpr uint8_t kMagic[8] = {0x89, 'S', 'P', 'T', 'E', '\r', '\n', 0x1a};
constexpr uint32_t kVersion = 1;
constexpr size_t kHeader = 60;
constexpr size_t kStart = kHeader + 4;
constexpr size_t kRecord = 56;
constexpr uint64_t kMaxUnpacked = uint64_t{1} << 31;
constexpr uint64_t kMaxRatio = 65536;
constexpr uint8_t kAsAbove = 2;

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
        !spte::is_sound(block)) {
      return PackageError::kDamaged;
    }
    const uint64_t total = spte::lay_out(block).total();
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
