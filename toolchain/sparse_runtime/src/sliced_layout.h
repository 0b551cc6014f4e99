// Rows side by side, eight at a time, sorted by their length.
#pragma once

#include <vector>

#include "row_layouts.h"

namespace sctool {

class SlicedLayout : public RowLayout {
 public:
  SlicedLayout(const Matrix& matrix, const Kernels& kernels);
  void multiply(float* input, float* output, const float* bias, Activation activation) const override;
  void for_each(const std::function<void(std::uint32_t, std::uint32_t, float)>& entry_at) const override;
  std::size_t bytes() const override;

 private:
  const Kernels& kernels_;
  std::uint32_t columns_;
  std::vector<float> values_;
  std::vector<std::uint16_t> offsets_, steps_, lengths_;
  std::vector<std::uint32_t> rows_;
};

}  // namespace sctool
