// Gates of mobile networks, and what stands between the linear layers of text models.
#include "kernels/sequence.h"

#include "layout.h"
#include "step.h"

namespace sctool {
namespace {

// Floats of one record from its first channel to the end of its last.
std::size_t extent(const Shape& shape) { return shape.spatial ? shape.channels * channel_stride(shape) : shape.channels; }

class Apply : public Step {
 public:
  Apply(const Program& program, const Op& op, const Kernels& kernels)
      : kernels_(find_sequence(kernels)), input_(op.inputs[0]), output_(op.output), function_(op.unary),
        shape_(program.values[op.output]) {}

  void run(const Workspace& workspace) const override {
    kernels_.unary(workspace.values[input_], workspace.values[output_], extent(shape_), function_);
  }

  bool takes_columns() const override { return !shape_.spatial; }

  void run_columns(const Workspace& workspace, std::size_t stride, std::size_t) const override {
    kernels_.unary(workspace.values[input_], workspace.values[output_], shape_.channels * stride, function_);
  }

 private:
  const SequenceKernels& kernels_;
  std::uint16_t input_, output_;
  Unary function_;
  Shape shape_;
};

class Multiply : public Step {
 public:
  Multiply(const Program& program, const Op& op, const Kernels& kernels)
      : kernels_(find_sequence(kernels)), input_(op.inputs[0]), factor_(op.inputs[1]), output_(op.output),
        shape_(program.values[op.output]), of_factor_(program.values[op.inputs[1]]) {}

  void run(const Workspace& workspace) const override {
    const float* input = workspace.values[input_];
    const float* factor = workspace.values[factor_];
    float* output = workspace.values[output_];
    if (of_factor_ == shape_) {
      kernels_.multiply(input, factor, output, extent(shape_));
      return;
    }
    const std::size_t stride = channel_stride(shape_), step = of_factor_.spatial ? channel_stride(of_factor_) : 1;
    for (std::uint32_t c = 0; c < shape_.channels; ++c) {
      kernels_.scale(input + c * stride, factor[c * step], output + c * stride, static_cast<std::size_t>(shape_.area()));
    }
  }

  bool takes_columns() const override { return !shape_.spatial; }

  void run_columns(const Workspace& workspace, std::size_t stride, std::size_t) const override {
    kernels_.multiply(workspace.values[input_], workspace.values[factor_], workspace.values[output_],
                      shape_.channels * stride);
  }

 private:
  const SequenceKernels& kernels_;
  std::uint16_t input_, factor_, output_;
  Shape shape_, of_factor_;
};

class Normalise : public Step {
 public:
  Normalise(const Program& program, Op& op, const Kernels& kernels)
      : kernels_(find_sequence(kernels)), input_(op.inputs[0]), output_(op.output), shape_(program.values[op.output]),
        epsilon_(op.epsilon), scale_(std::move(op.scale)), shift_(std::move(op.bias)) {}

  void run(const Workspace& workspace) const override {
    normalise(workspace, static_cast<std::size_t>(shape_.area()), shape_.spatial ? channel_stride(shape_) : 1);
  }

  bool takes_columns() const override { return !shape_.spatial; }

  void run_columns(const Workspace& workspace, std::size_t stride, std::size_t columns) const override {
    normalise(workspace, columns, stride);
  }

  std::size_t weight_bytes() const override { return (scale_.size() + shift_.size()) * sizeof(float); }

 private:
  void normalise(const Workspace& workspace, std::size_t columns, std::size_t stride) const {
    kernels_.layer_norm({workspace.values[input_], workspace.values[output_], shape_.channels, columns, stride, epsilon_,
                         scale_.data(), shift_.data()});
  }

  const SequenceKernels& kernels_;
  std::uint16_t input_, output_;
  Shape shape_;
  float epsilon_;
  std::vector<float> scale_, shift_;
};

}  // namespace

StepPtr make_sequence(const Program& program, Op& op, const Kernels& kernels) {
  switch (op.kind) {
    case OpKind::kUnary: return std::make_unique<Apply>(program, op, kernels);
    case OpKind::kMultiply: return std::make_unique<Multiply>(program, op, kernels);
    case OpKind::kLayerNorm: return std::make_unique<Normalise>(program, op, kernels);
    default: throw PayloadError("payload: an operator without a step");
  }
}

}  // namespace sctool
