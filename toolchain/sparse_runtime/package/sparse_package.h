// Reads sparse packages (.spte, docs/spte.md): an ExecuTorch program and its data file, the weights stored sparse.
//
// C++17, no exceptions, no dependencies. Every size is held against the package before anything is allocated or written:
// a damaged or hostile package gives an error, never a crash. named_data.h makes it ExecuTorch's NamedDataMap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace sctool {

enum class PackageError {
  kOk,
  kNotAPackage,
  kUnknownVersion,
  kDamaged,
  kTooLarge,
  kOutOfMemory,
  kWrongSize,
};

const char* describe(PackageError error);

struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

// A block of the data file: its name (a zero byte follows it), where it begins there, its size when decoded; the rest says
// how it is stored.
struct Block {
  std::string_view key;
  uint64_t offset = 0;
  uint64_t size = 0;
  uint64_t stored = 0;
  uint64_t position_unary = 0;
  uint64_t exponent_unary = 0;
  uint8_t word = 1;
  uint8_t positions = 0;
  uint8_t values = 0;
  uint8_t position_k = 0;
  uint8_t exponent_k = 0;
  uint8_t highest = 0;
  uint8_t shift = 0;
  Bytes streams;
};

class SparsePackage {
 public:
  // Reads `content`, which must outlive this object. After an error the object holds no blocks.
  PackageError open(Bytes content);

  size_t count() const { return count_; }
  const Block& block(size_t index) const { return blocks_[index]; }

  // The block called `key`; null where there is none.
  const Block* find(std::string_view key) const;

  // Decodes a block into `size` bytes at `out`, which must be as many as the block has.
  static PackageError decode(const Block& block, uint8_t* out, size_t size);

  // The .pte, as it lies in the package; it is aligned as `content` is, up to 64 bytes.
  Bytes program() const { return program_; }

  // The .ptd, byte for byte as it was packed, into `size` == data_bytes() bytes at `out`.
  uint64_t data_bytes() const { return data_bytes_; }
  PackageError unpack_data(uint8_t* out, size_t size) const;

 private:
  PackageError read_blocks(Bytes rest, size_t count, uint64_t table);

  Bytes program_;
  Bytes head_;
  uint64_t data_bytes_ = 0;
  size_t count_ = 0;
  std::unique_ptr<Block[]> blocks_;
};

}  // namespace sctool
