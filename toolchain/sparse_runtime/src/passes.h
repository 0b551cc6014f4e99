// A sparse matrix, or a range of its rows, cut into passes over all of them, as SparseTile walks them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/kernels.h"
#include "sparse_rows.h"

namespace sctool {

class SparsePasses {
 public:
  SparsePasses() = default;

  // The rows from `first_row` on. `pass_of` and `offset_of`: for each column, the pass that its entries belong to and where
  // its input begins there. Within a pass, rows of as many entries follow each other. A row has at most 65,535 entries in a
  // pass.
  SparsePasses(std::uint32_t first_row, const SparseRows& rows, std::size_t passes, const std::vector<std::uint32_t>& pass_of,
               const std::vector<std::uint16_t>& offset_of)
      : rows_(rows.count()), passes_(passes) {
    std::vector<std::uint16_t> found(std::size_t{rows_} * passes, 0);  // [pass][row]
    for (std::uint32_t row = 0; row < rows_; ++row) {
      for (std::uint32_t entry = rows.firsts[row]; entry < rows.firsts[row + 1]; ++entry) {
        ++found[std::size_t{pass_of[rows.columns[entry]]} * rows_ + row];
      }
    }
    std::vector<std::size_t> next(found.size());
    std::vector<std::uint16_t> sorted(rows_);
    std::size_t total = 0;
    for (std::size_t pass = 0; pass < passes; ++pass) {
      const std::uint16_t* of_pass = found.data() + pass * rows_;
      std::iota(sorted.begin(), sorted.end(), std::uint16_t{0});
      std::stable_sort(sorted.begin(), sorted.end(), [&](auto x, auto y) { return of_pass[x] > of_pass[y]; });
      begins_.push_back(total);
      for (const std::uint16_t row : sorted) {
        order_.push_back(static_cast<std::uint16_t>(first_row + row));
        counts_.push_back(of_pass[row]);
        next[pass * rows_ + row] = total;
        total += of_pass[row];
      }
    }
    values_.resize(total);
    offsets_.resize(total);
    for (std::uint32_t row = 0; row < rows_; ++row) {
      for (std::uint32_t entry = rows.firsts[row]; entry < rows.firsts[row + 1]; ++entry) {
        const std::uint32_t column = rows.columns[entry];
        const std::size_t to = next[std::size_t{pass_of[column]} * rows_ + row]++;
        values_[to] = rows.values[entry];
        offsets_[to] = offset_of[column];
      }
    }
  }

  std::size_t count() const { return passes_; }

  SparseTile tile(std::size_t pass, const float* input, std::size_t unit, float* output, std::size_t output_stride,
                  std::uint32_t vectors, const Epilogue& epilogue) const {
    return {values_.data() + begins_[pass], offsets_.data() + begins_[pass], order_.data() + pass * rows_,
            counts_.data() + pass * rows_, rows_, input, unit, output, output_stride, vectors, pass == 0,
            pass + 1 == passes_, epilogue};
  }

  // The rows that it was made of, where every column's offset is the column and passes follow each other over the columns.
  SparseRows read_back() const {
    SparseRows rows;
    std::vector<std::uint32_t>& firsts = rows.firsts;
    firsts.assign(std::size_t{rows_} + 1, 0);
    const std::size_t first_row = order_.empty() ? 0 : *std::min_element(order_.begin(), order_.end());
    for (std::size_t visit = 0; visit < order_.size(); ++visit) firsts[order_[visit] - first_row + 1] += counts_[visit];
    std::partial_sum(firsts.begin(), firsts.end(), firsts.begin());
    rows.columns.resize(values_.size());
    rows.values.resize(values_.size());
    std::vector<std::uint32_t> next(firsts.begin(), firsts.end() - 1);
    std::size_t from = 0;
    for (std::size_t visit = 0; visit < order_.size(); ++visit) {
      std::uint32_t& to = next[order_[visit] - first_row];
      for (std::uint32_t i = 0; i < counts_[visit]; ++i, ++from, ++to) {
        rows.columns[to] = offsets_[from];
        rows.values[to] = values_[from];
      }
    }
    return rows;
  }

  std::size_t bytes() const { return values_.size() * 4 + (offsets_.size() + order_.size() + counts_.size()) * 2; }

 private:
  std::uint32_t rows_ = 0;
  std::size_t passes_ = 0;
  std::vector<float> values_;
  std::vector<std::uint16_t> offsets_, order_, counts_;  // order and counts [pass][row]
  std::vector<std::size_t> begins_;                      // [pass]: its first entry
};

}  // namespace sctool
