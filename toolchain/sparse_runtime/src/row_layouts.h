// A sparse matrix in the layout that its product with one vector walks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/kernels.h"
#include "sparse_rows.h"

namespace sctool {

class RowLayout {
 public:
  virtual ~RowLayout() = default;

  // output = activation(matrix * input + bias), vectors as layout.h has them; `bias` may be null.
  virtual void multiply(float* input, float* output, const float* bias, Activation activation) const = 0;

  // The matrix that it was made of.
  virtual SparseRows read_back() const = 0;

  virtual std::size_t bytes() const = 0;
};

// Windowed where the kernels have that, sliced elsewhere.
std::unique_ptr<RowLayout> make_row_layout(RowSource& source, const Kernels& kernels);

}  // namespace sctool
