// A sparse matrix in the layout that its product with one vector walks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "program.h"

namespace sctool {

class RowLayout {
 public:
  virtual ~RowLayout() = default;

  // output = activation(matrix * input + bias), vectors as layout.h has them; `bias` may be null.
  virtual void multiply(float* input, float* output, const float* bias, Activation activation) const = 0;

  // Calls entry_at(row, column, value) for every entry, in the same order each time.
  virtual void for_each(const std::function<void(std::uint32_t, std::uint32_t, float)>& entry_at) const = 0;

  virtual std::size_t bytes() const = 0;
};

// Windowed where the kernels have that, sliced elsewhere.
std::unique_ptr<RowLayout> make_row_layout(const Matrix& matrix, const Kernels& kernels);

}  // namespace sctool
