// Matrices as a payload holds them, and what they hold. All of it borrows the payload's bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "rice.h"
#include "sparse_rows.h"

namespace sctool {

enum class ValueKind : std::uint8_t { kFloat32 = 0, kFloat16 = 1, kInt8 = 2, kQuantised = 3 };

// float32, float16, or int8 with a float32 scale for each row; quantised ones are the same, for arithmetic in int8: they are
// decoded without their scale.
struct StoredValues {
  ValueKind kind = ValueKind::kFloat32;
  const std::uint8_t* bytes = nullptr;
  const std::uint8_t* scales = nullptr;
};

// A value for each of `count` positions, rising; the gaps between them are Rice codes of parameter `k`.
struct StoredEntries {
  std::uint32_t count = 0;
  unsigned k = 0;
  const std::uint8_t* gaps = nullptr;
  std::uint64_t gap_bytes = 0;
  StoredValues values;
};

// Reads the entries of a matrix. PayloadError from `next` where a position lies outside, or the gaps end early.
class EntryReader : public RowSource {
 public:
  EntryReader(const StoredEntries& entries, std::uint32_t rows, std::uint32_t columns);
  void next(std::uint32_t count, SparseRows& to) override;

 private:
  StoredEntries entries_;
  RiceReader gaps_;
  std::uint64_t pending_;       // the next entry's column, from the next row's beginning on
  std::uint32_t row_ = 0, read_ = 0;
};

// `rows` x `columns` values, row by row.
std::vector<float> decode_dense(const StoredValues& values, std::uint32_t rows, std::uint32_t columns);

// The same of sparse ones. PayloadError as EntryReader.
std::vector<float> decode_expanded(const StoredEntries& entries, std::uint32_t rows, std::uint32_t columns);

}  // namespace sctool
