// Rows sixteen at a time, their entries dealt to steps whose inputs lie within a window of 64 floats.
//
// A window moves on from step to step over the columns, and each row takes from it the first entry that is still to do.
// What a row cannot take in time is late: kept as (row, column, value) and added one by one.
#pragma once

#include <memory>
#include <vector>

#include "row_layouts.h"

namespace sctool {

class WindowedLayout : public RowLayout {
 public:
  WindowedLayout(RowSource& source, const Kernels& kernels);
  void multiply(float* input, float* output, const float* bias, Activation activation) const override;
  SparseRows read_back() const override;
  std::size_t bytes() const override;

 private:
  struct Block {  // of kGroups groups of rows
    std::uint32_t steps, groups;
    std::size_t begin;                 // its first window
    std::unique_ptr<float[]> memory;
    float* values;                     // [step][row], on a cache line
    std::uint8_t* picks;               // the same, behind them
    std::size_t slots() const { return std::size_t{steps} * groups * kGroup; }

    // step_at(step, its values, its picks), a value and a pick for each row.
    template <typename StepAt>
    void for_each_step(StepAt step_at) const {
      const std::size_t of_step = std::size_t{groups} * kGroup;
      for (std::size_t step = 0; step < steps; ++step) step_at(step, values + step * of_step, picks + step * of_step);
    }
  };

  const Kernels& kernels_;
  std::uint32_t rows_, columns_;
  std::vector<std::uint16_t> begins_;
  std::vector<Block> blocks_;
  std::vector<std::uint16_t> late_rows_, late_columns_;
  std::vector<float> late_values_;
};

}  // namespace sctool
