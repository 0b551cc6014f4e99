// A sparse matrix, or a range of its rows, cut into passes over all of them, as SparseTile walks them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/kernels.h"

namespace sctool {

class SparsePasses {
 public:
  SparsePasses() = default;

  // `pass_of` and `offset_of`: for each column, the pass that its entries belong to and where its input begins there.
  // `for_each(entry_at)` calls entry_at(row, column, value) for every entry, in the same order each time. Within a pass, rows
  // of as many entries follow each other. A row has at most 65,535 entries in a pass.
  template <typename ForEach>
  SparsePasses(std::uint32_t first_row, std::uint32_t end_row, std::size_t passes, const std::vector<std::uint32_t>& pass_of,
               const std::vector<std::uint16_t>& offset_of, ForEach for_each)
      : rows_(end_row - first_row), passes_(passes) {
    const std::size_t rows = rows_;
    std::vector<std::uint16_t> found(rows * passes, 0);  // [pass][row]
    for_each([&](std::uint32_t row, std::uint32_t column, float) {
      if (row >= first_row && row < end_row) ++found[std::size_t{pass_of[column]} * rows + row - first_row];
    });
    std::vector<std::size_t> next(found.size());
    std::vector<std::uint16_t> sorted(rows);
    std::size_t total = 0;
    for (std::size_t pass = 0; pass < passes; ++pass) {
      const std::uint16_t* of_pass = found.data() + pass * rows;
      std::iota(sorted.begin(), sorted.end(), std::uint16_t{0});
      std::stable_sort(sorted.begin(), sorted.end(), [&](auto x, auto y) { return of_pass[x] > of_pass[y]; });
      begins_.push_back(total);
      for (const std::uint16_t row : sorted) {
        order_.push_back(static_cast<std::uint16_t>(first_row + row));
        counts_.push_back(of_pass[row]);
        next[pass * rows + row] = total;
        total += of_pass[row];
      }
    }
    values_.resize(total);
    offsets_.resize(total);
    for_each([&](std::uint32_t row, std::uint32_t column, float value) {
      if (row < first_row || row >= end_row) return;
      const std::size_t to = next[std::size_t{pass_of[column]} * rows + row - first_row]++;
      values_[to] = value;
      offsets_[to] = offset_of[column];
    });
  }

  std::size_t count() const { return passes_; }

  SparseTile tile(std::size_t pass, const float* input, std::size_t unit, float* output, std::size_t output_stride,
                  std::uint32_t vectors, const Epilogue& epilogue) const {
    return {values_.data() + begins_[pass], offsets_.data() + begins_[pass], order_.data() + pass * rows_,
            counts_.data() + pass * rows_, rows_, input, unit, output, output_stride, vectors, pass == 0,
            pass + 1 == passes_, epilogue};
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
