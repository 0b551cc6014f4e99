// Operators without weights: sums, activations, pools, concatenation, flattening.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "layout.h"
#include "step.h"

namespace sctool {
namespace {

class Add : public Step {
 public:
  Add(const Program& program, const Op& op, const Kernels& kernels)
      : kernels_(kernels), a_(op.inputs[0]), b_(op.inputs[1]), output_(op.output), activation_(op.activation),
        shape_(program.values[op.output]) {}

  void run(const Workspace& workspace) const override {
    const std::size_t count = shape_.spatial ? shape_.channels * channel_stride(shape_) : shape_.channels;
    kernels_.add(workspace.values[a_], workspace.values[b_], workspace.values[output_], count, activation_);
  }

  bool takes_columns() const override { return !shape_.spatial; }

  void run_columns(const Workspace& workspace, std::size_t stride, std::size_t) const override {
    kernels_.add(workspace.values[a_], workspace.values[b_], workspace.values[output_], shape_.channels * stride,
                 activation_);
  }

 private:
  const Kernels& kernels_;
  std::uint16_t a_, b_, output_;
  Activation activation_;
  Shape shape_;
};

class Activate : public Step {
 public:
  Activate(const Program& program, const Op& op, const Kernels& kernels)
      : kernels_(kernels), input_(op.inputs[0]), output_(op.output), activation_(op.activation),
        shape_(program.values[op.output]) {}

  void run(const Workspace& workspace) const override {
    const std::size_t count = shape_.spatial ? shape_.channels * channel_stride(shape_) : shape_.channels;
    kernels_.activate(workspace.values[input_], workspace.values[output_], count, activation_);
  }

  bool takes_columns() const override { return !shape_.spatial; }

  void run_columns(const Workspace& workspace, std::size_t stride, std::size_t) const override {
    kernels_.activate(workspace.values[input_], workspace.values[output_], shape_.channels * stride, activation_);
  }

 private:
  const Kernels& kernels_;
  std::uint16_t input_, output_;
  Activation activation_;
  Shape shape_;
};

// The average counts padding as zeros, as PyTorch does by default; the maximum leaves it out.
class Pool : public Step {
 public:
  Pool(const Program& program, const Op& op, bool maximum)
      : input_(op.inputs[0]), output_(op.output), maximum_(maximum), window_(op.window),
        in_(program.values[op.inputs[0]]), out_(program.values[op.output]) {}

  void run(const Workspace& workspace) const override {
    for (std::uint32_t channel = 0; channel < in_.channels; ++channel) {
      const float* from = workspace.values[input_] + channel * channel_stride(in_);
      float* to = workspace.values[output_] + channel * channel_stride(out_);
      for (std::uint32_t y = 0; y < out_.height; ++y) {
        for (std::uint32_t x = 0; x < out_.width; ++x) *to++ = pool(from, y, x);
      }
    }
  }

 private:
  float pool(const float* from, std::uint32_t y, std::uint32_t x) const {
    const std::int64_t top = std::int64_t{y} * window_.stride - window_.pad_top;
    const std::int64_t left = std::int64_t{x} * window_.stride - window_.pad_left;
    const std::int64_t y_end = std::min<std::int64_t>(top + window_.height, in_.height);
    const std::int64_t x_end = std::min<std::int64_t>(left + window_.width, in_.width);
    float best = -std::numeric_limits<float>::infinity(), sum = 0.0f;
    for (std::int64_t row = std::max<std::int64_t>(top, 0); row < y_end; ++row) {
      for (std::int64_t column = std::max<std::int64_t>(left, 0); column < x_end; ++column) {
        const float value = from[row * in_.width + column];
        sum += value;
        if (value > best || std::isnan(value)) best = value;
      }
    }
    const float area = static_cast<float>(window_.height) * static_cast<float>(window_.width);
    return maximum_ ? best : sum / area;
  }

  std::uint16_t input_, output_;
  bool maximum_;
  Window window_;
  Shape in_, out_;
};

class GlobalMean : public Step {
 public:
  GlobalMean(const Program& program, const Op& op, const Kernels& kernels)
      : kernels_(kernels), input_(op.inputs[0]), output_(op.output), in_(program.values[op.inputs[0]]),
        out_(program.values[op.output]) {}

  void run(const Workspace& workspace) const override {
    const auto area = static_cast<std::size_t>(in_.area());
    const std::size_t step = out_.spatial ? channel_stride(out_) : 1;
    for (std::uint32_t channel = 0; channel < in_.channels; ++channel) {
      const float sum = kernels_.sum(workspace.values[input_] + channel * channel_stride(in_), area);
      workspace.values[output_][channel * step] = sum / static_cast<float>(area);
    }
  }

 private:
  const Kernels& kernels_;
  std::uint16_t input_, output_;
  Shape in_, out_;
};

class Concat : public Step {
 public:
  Concat(const Program& program, const Op& op) : inputs_(op.inputs), output_(op.output), out_(program.values[op.output]) {
    for (const std::uint16_t id : inputs_) channels_.push_back(program.values[id].channels);
  }

  void run(const Workspace& workspace) const override {
    join(workspace, out_.spatial ? channel_stride(out_) : 1);
  }

  bool takes_columns() const override { return !out_.spatial; }

  void run_columns(const Workspace& workspace, std::size_t stride, std::size_t) const override { join(workspace, stride); }

 private:
  void join(const Workspace& workspace, std::size_t stride) const {
    float* to = workspace.values[output_];
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const std::size_t count = channels_[i] * stride;
      std::memcpy(to, workspace.values[inputs_[i]], count * sizeof(float));
      to += count;
    }
  }

  std::vector<std::uint16_t> inputs_;
  std::uint16_t output_;
  Shape out_;
  std::vector<std::uint32_t> channels_;
};

class Flatten : public Step {
 public:
  Flatten(const Program& program, const Op& op)
      : input_(op.inputs[0]), output_(op.output), in_(program.values[op.inputs[0]]) {}

  void run(const Workspace& workspace) const override {
    const auto area = static_cast<std::size_t>(in_.area());
    const float* from = workspace.values[input_];
    float* to = workspace.values[output_];
    for (std::uint32_t channel = 0; channel < in_.channels; ++channel) {
      std::memcpy(to + channel * area, from + channel * channel_stride(in_), area * sizeof(float));
    }
  }

 private:
  std::uint16_t input_, output_;
  Shape in_;
};

}  // namespace

StepPtr make_plain(const Program& program, Op& op, const Kernels& kernels) {
  switch (op.kind) {
    case OpKind::kAdd: return std::make_unique<Add>(program, op, kernels);
    case OpKind::kActivation: return std::make_unique<Activate>(program, op, kernels);
    case OpKind::kMaxPool: return std::make_unique<Pool>(program, op, true);
    case OpKind::kAveragePool: return std::make_unique<Pool>(program, op, false);
    case OpKind::kGlobalMean: return std::make_unique<GlobalMean>(program, op, kernels);
    case OpKind::kConcat: return std::make_unique<Concat>(program, op);
    case OpKind::kFlatten: return std::make_unique<Flatten>(program, op);
    default: throw PayloadError("payload: an operator without a step");
  }
}

}  // namespace sctool
