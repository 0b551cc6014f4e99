// Linear layers on vectors: sliced rows for one record, the same weights over transposed activations for many.
#include <algorithm>
#include <numeric>

#include "layout.h"
#include "step.h"

namespace sctool {
namespace {

class SparseLinear : public Step {
 public:
  SparseLinear(Op& op, const Kernels& kernels)
      : kernels_(kernels), input_(op.inputs[0]), output_(op.output), columns_(op.weights.columns),
        activation_(op.activation), bias_(std::move(op.bias)) {
    const Matrix& matrix = op.weights;
    std::vector<std::uint32_t> begins(matrix.rows + 1, 0);
    std::vector<std::uint16_t> column_of(matrix.positions.size());
    for_each_entry(matrix, [&](std::size_t entry, std::uint32_t row, std::uint32_t column) {
      ++begins[row + 1];
      column_of[entry] = static_cast<std::uint16_t>(column);
    });
    std::partial_sum(begins.begin(), begins.end(), begins.begin());
    std::vector<std::uint32_t> order(matrix.rows);
    std::iota(order.begin(), order.end(), 0u);
    const auto length = [&](std::uint32_t row) { return begins[row + 1] - begins[row]; };
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return length(a) > length(b); });
    const std::uint32_t slices = (matrix.rows + kSlice - 1) / kSlice;
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
          const std::uint32_t entry = there ? begins[row] + j : 0;
          values_.push_back(there ? matrix.values[entry] : 0.0f);
          offsets_.push_back(static_cast<std::uint16_t>(there ? column_of[entry] : columns_));
        }
      }
    }
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i] != ~0u) lengths_[i] = static_cast<std::uint16_t>(length(rows_[i]));
    }
  }

  void run(const Workspace& workspace) const override {
    float* input = workspace.values[input_];
    input[columns_] = 0.0f;  // what absent entries point to
    const float* bias = bias_.empty() ? nullptr : bias_.data();
    kernels_.sliced_rows({values_.data(), offsets_.data(), steps_.data(), rows_.data(),
                          static_cast<std::uint32_t>(steps_.size()), input, workspace.values[output_], bias,
                          activation_});
  }

  bool takes_columns() const override { return true; }

  void run_columns(const Workspace& workspace, std::size_t stride, std::size_t columns) const override {
    const auto vectors = static_cast<std::uint32_t>((columns + kernels_.width - 1) / kernels_.width);
    const float* bias = bias_.empty() ? nullptr : bias_.data();
    kernels_.sliced_columns({values_.data(), offsets_.data(), lengths_.data(), steps_.data(), rows_.data(),
                             static_cast<std::uint32_t>(steps_.size()), workspace.values[input_],
                             workspace.values[output_], stride, vectors, bias, activation_});
  }

  std::size_t weight_bytes() const override {
    return values_.size() * 4 + offsets_.size() * 2 + steps_.size() * 2 + rows_.size() * 4 + lengths_.size() * 2 +
           bias_.size() * 4;
  }

 private:
  const Kernels& kernels_;
  std::uint16_t input_, output_;
  std::uint32_t columns_;
  Activation activation_;
  std::vector<float> bias_, values_;
  std::vector<std::uint16_t> offsets_, steps_, lengths_;
  std::vector<std::uint32_t> rows_;
};

class DenseLinear : public Step {
 public:
  DenseLinear(Op& op, const Kernels& kernels)
      : kernels_(kernels), input_(op.inputs[0]), output_(op.output), rows_(op.weights.rows),
        columns_(op.weights.columns), activation_(op.activation), bias_(std::move(op.bias)),
        weights_(std::move(op.weights.values)), taps_(columns_) {
    std::iota(taps_.begin(), taps_.end(), std::uint16_t{0});
  }

  void run(const Workspace& workspace) const override {
    kernels_.dense_rows({weights_.data(), rows_, columns_, workspace.values[input_], workspace.values[output_],
                         bias_.empty() ? nullptr : bias_.data(), activation_});
  }

  bool takes_columns() const override { return true; }

  void run_columns(const Workspace& workspace, std::size_t stride, std::size_t columns) const override {
    const auto vectors = static_cast<std::uint32_t>((columns + kernels_.width - 1) / kernels_.width);
    const Epilogue epilogue = {bias_.empty() ? nullptr : bias_.data(), nullptr, 0, activation_};
    kernels_.dense_tile({weights_.data(), std::size_t{columns_} * kDenseRows, 1, columns_, taps_.data(), columns_, rows_,
                         workspace.values[input_], stride, workspace.values[output_], stride, vectors, true, true,
                         epilogue});
  }

  std::size_t weight_bytes() const override {
    return weights_.size() * 4 + bias_.size() * 4 + taps_.size() * 2;
  }

 private:
  const Kernels& kernels_;
  std::uint16_t input_, output_;
  std::uint32_t rows_, columns_;
  Activation activation_;
  std::vector<float> bias_, weights_;
  std::vector<std::uint16_t> taps_;
};

}  // namespace

StepPtr make_linear(const Program&, Op& op, const Kernels& kernels) {
  if (op.weights.sparse) return std::make_unique<SparseLinear>(op, kernels);
  return std::make_unique<DenseLinear>(op, kernels);
}

}  // namespace sctool
