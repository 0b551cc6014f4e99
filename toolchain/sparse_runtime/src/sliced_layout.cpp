#include "sliced_layout.h"

#include <algorithm>
#include <numeric>

namespace sctool {

SlicedLayout::SlicedLayout(RowSource& source, const Kernels& kernels)
    : kernels_(kernels), count_(source.rows()), columns_(source.columns()) {
  const SparseRows found = source.all();
  std::vector<std::uint32_t> order(count_);
  std::iota(order.begin(), order.end(), 0u);
  const auto length = [&](std::uint32_t row) { return found.length(row); };
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return length(a) > length(b); });
  const std::uint32_t slices = (count_ + kSlice - 1) / kSlice;
  rows_.assign(static_cast<std::size_t>(slices) * kSlice, ~0u);
  std::copy(order.begin(), order.end(), rows_.begin());
  lengths_.assign(rows_.size(), 0);
  std::size_t steps = 0;
  for (std::uint32_t s = 0; s < slices; ++s) {
    steps_.push_back(static_cast<std::uint16_t>(length(rows_[std::size_t{s} * kSlice])));
    steps += steps_.back();
  }
  values_.reserve(steps * kSlice);
  offsets_.reserve(steps * kSlice);
  for (std::uint32_t s = 0; s < slices; ++s) {
    for (std::uint32_t j = 0; j < steps_[s]; ++j) {
      for (std::uint32_t r = 0; r < kSlice; ++r) {
        const std::uint32_t row = rows_[std::size_t{s} * kSlice + r];
        const bool there = row != ~0u && j < length(row);
        const std::uint32_t entry = there ? found.firsts[row] + j : 0;
        values_.push_back(there ? found.values[entry] : 0.0f);
        offsets_.push_back(static_cast<std::uint16_t>(there ? found.columns[entry] : columns_));
      }
    }
  }
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i] != ~0u) lengths_[i] = static_cast<std::uint16_t>(length(rows_[i]));
  }
}

void SlicedLayout::multiply(float* input, float* output, const float* bias, Activation activation) const {
  input[columns_] = 0.0f;  // what absent entries point to
  kernels_.sliced_rows({values_.data(), offsets_.data(), steps_.data(), rows_.data(),
                        static_cast<std::uint32_t>(steps_.size()), input, output, bias, activation});
}

SparseRows SlicedLayout::read_back() const {
  SparseRows rows;
  rows.firsts.assign(std::size_t{count_} + 1, 0);
  for (std::size_t place = 0; place < count_; ++place) rows.firsts[rows_[place] + 1] = lengths_[place];
  std::partial_sum(rows.firsts.begin(), rows.firsts.end(), rows.firsts.begin());
  rows.columns.resize(rows.firsts.back());
  rows.values.resize(rows.firsts.back());
  std::size_t begin = 0;
  for (std::size_t slice = 0; slice < steps_.size(); ++slice) {
    for (std::size_t r = 0; r < kSlice && slice * kSlice + r < count_; ++r) {
      const std::size_t place = slice * kSlice + r;
      for (std::size_t j = 0, to = rows.firsts[rows_[place]]; j < lengths_[place]; ++j, ++to) {
        rows.columns[to] = offsets_[begin + j * kSlice + r];
        rows.values[to] = values_[begin + j * kSlice + r];
      }
    }
    begin += std::size_t{steps_[slice]} * kSlice;
  }
  return rows;
}

std::size_t SlicedLayout::bytes() const {
  return values_.size() * 4 + (offsets_.size() + steps_.size() + lengths_.size()) * 2 + rows_.size() * 4;
}

}  // namespace sctool
