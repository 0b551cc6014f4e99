// Linear layers on vectors: row by row for one record, tile by tile over transposed activations for many.
#include <algorithm>
#include <numeric>

#include "layout.h"
#include "passes.h"
#include "row_layouts.h"
#include "step.h"

namespace sctool {
namespace {

// Inputs of one pass over many records: at 64 records, 64 KiB.
constexpr std::uint32_t kColumnsOfPass = 256;

class SparseLinear : public Step {
 public:
  SparseLinear(Op& op, const Kernels& kernels)
      : kernels_(kernels), input_(op.inputs[0]), output_(op.output), columns_(op.weights.columns), activation_(op.activation),
        bias_(std::move(op.bias)), single_(make_single(op.weights, kernels)) {}

  void run(const Workspace& workspace) const override {
    single_->multiply(workspace.values[input_], workspace.values[output_], bias_.empty() ? nullptr : bias_.data(),
                      activation_);
  }

  bool takes_columns() const override { return true; }

  void lay_out(bool by_columns) override {
    if (by_columns == (single_ == nullptr)) return;
    if (!by_columns) {
      const SparseRows rows = many_.read_back();
      HeldRows source(rows, columns_);
      single_ = make_row_layout(source, kernels_);
      many_ = SparsePasses();
      return;
    }
    const std::uint32_t passes = (columns_ + kColumnsOfPass - 1) / kColumnsOfPass;
    std::vector<std::uint32_t> pass_of(columns_);
    std::vector<std::uint16_t> offset_of(columns_);
    for (std::uint32_t column = 0; column < columns_; ++column) {
      pass_of[column] = static_cast<std::uint32_t>(std::uint64_t{column} * passes / columns_);
      offset_of[column] = static_cast<std::uint16_t>(column);
    }
    many_ = SparsePasses(0, single_->read_back(), passes, pass_of, offset_of);
    single_.reset();
  }

  void run_columns(const Workspace& workspace, std::size_t stride, std::size_t columns) const override {
    const auto vectors = static_cast<std::uint32_t>((columns + kernels_.width - 1) / kernels_.width);
    const Epilogue epilogue = {bias_.empty() ? nullptr : bias_.data(), nullptr, 0, activation_};
    for (std::size_t pass = 0; pass < many_.count(); ++pass) {
      kernels_.sparse_tile(many_.tile(pass, workspace.values[input_], stride, workspace.values[output_], stride, vectors,
                                      epilogue));
    }
  }

  std::size_t weight_bytes() const override { return (single_ ? single_->bytes() : many_.bytes()) + bias_.size() * 4; }

 private:
  static std::unique_ptr<RowLayout> make_single(const Matrix& matrix, const Kernels& kernels) {
    EntryReader reader = matrix.read();
    return make_row_layout(reader, kernels);
  }

  const Kernels& kernels_;
  std::uint16_t input_, output_;
  std::uint32_t columns_;
  Activation activation_;
  std::vector<float> bias_;
  std::unique_ptr<RowLayout> single_;  // null where `many_` holds the weights
  SparsePasses many_;
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
