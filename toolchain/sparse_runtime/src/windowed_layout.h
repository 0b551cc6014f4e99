// Rows sixteen at a time, their entries dealt to steps whose inputs lie within a window of 64 floats.
//
// A window moves on from step to step over the columns, and each row takes from it the first entry that is still to do.
// What a row cannot take in time is late: kept as (row, column, value) and added one by one.
#pragma once

#include <vector>

#include "row_layouts.h"

namespace sctool {

class WindowedLayout : public RowLayout {
 public:
  WindowedLayout(const Matrix& matrix, const Kernels& kernels);
  void multiply(float* input, float* output, const float* bias, Activation activation) const override;
  void for_each(const std::function<void(std::uint32_t, std::uint32_t, float)>& entry_at) const override;
  std::size_t bytes() const override;

 private:
  struct Block {  // of kGroups groups of rows
    std::uint32_t steps, groups;
    std::size_t slot, begin;  // its first value and pick, its first window
  };
  const float* values() const { return values_.data() + aligned_; }

  const Kernels& kernels_;
  std::uint32_t rows_, columns_;
  std::size_t aligned_ = 0;           // floats before the first value: values lie on cache lines
  std::vector<float> values_;
  std::vector<std::uint8_t> picks_;
  std::vector<std::uint16_t> begins_;
  std::vector<Block> blocks_;
  std::vector<std::uint16_t> late_rows_, late_columns_;
  std::vector<float> late_values_;
};

}  // namespace sctool
