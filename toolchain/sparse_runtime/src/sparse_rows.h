// The entries of a sparse matrix, row by row: what is read from a payload, and what a layout gives back.
#pragma once

#include <cstdint>
#include <vector>

namespace sctool {

// Some rows that follow each other. Row r has the entries [firsts[r], firsts[r + 1]), their columns rising.
struct SparseRows {
  std::vector<std::uint32_t> firsts = {0};
  std::vector<std::uint32_t> columns;  // of each entry; may be longer than the entries, as may the values
  std::vector<float> values;

  std::uint32_t count() const { return static_cast<std::uint32_t>(firsts.size() - 1); }
  std::uint32_t length(std::uint32_t row) const { return firsts[row + 1] - firsts[row]; }
};

// A sparse matrix that is read once, from its first row to its last.
class RowSource {
 public:
  RowSource(std::uint32_t rows, std::uint32_t columns) : rows_(rows), columns_(columns) {}
  virtual ~RowSource() = default;

  std::uint32_t rows() const { return rows_; }
  std::uint32_t columns() const { return columns_; }

  // The next `count` rows instead of what `to` held, whose memory is used again; no more than are left.
  virtual void next(std::uint32_t count, SparseRows& to) = 0;

  // All of them, from one that nothing was read of.
  SparseRows all() {
    SparseRows rows;
    next(rows_, rows);
    return rows;
  }

 private:
  std::uint32_t rows_, columns_;
};

// Rows that lie in memory.
class HeldRows : public RowSource {
 public:
  HeldRows(const SparseRows& held, std::uint32_t columns) : RowSource(held.count(), columns), held_(held) {}

  void next(std::uint32_t count, SparseRows& to) override {
    const std::uint32_t begin = held_.firsts[row_], end = held_.firsts[row_ + count];
    to.firsts.resize(std::size_t{count} + 1);
    for (std::uint32_t row = 0; row <= count; ++row) to.firsts[row] = held_.firsts[row_ + row] - begin;
    to.columns.assign(held_.columns.begin() + begin, held_.columns.begin() + end);
    to.values.assign(held_.values.begin() + begin, held_.values.begin() + end);
    row_ += count;
  }

 private:
  const SparseRows& held_;
  std::uint32_t row_ = 0;
};

}  // namespace sctool
