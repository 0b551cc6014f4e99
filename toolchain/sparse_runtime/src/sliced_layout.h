// Rows side by side, eight at a time, sorted by their length.
#pragma once

#include <vector>

#include "row_layouts.h"

namespace sctool {

class SlicedLayout : public RowLayout {
 public:
  SlicedLayout(RowSource& source, const Kernels& kernels);
  void multiply(float* input, float* output, const float* bias, Activation activation) const override;
  SparseRows read_back() const override;
  std::size_t bytes() const override;

 private:
  const Kernels& kernels_;
  std::uint32_t count_, columns_;  // of rows, of columns
  std::vector<float> values_;
  std::vector<std::uint16_t> offsets_, steps_, lengths_;
  std::vector<std::uint32_t> rows_;
};

}  // namespace sctool
