// Convolutions of one input channel a group.
#include "geometry.h"
#include "step.h"

namespace sctool {
namespace {

// One input channel a group: each channel's planes meet only its own filters.
class DepthwiseConvolution : public Step {
 public:
  DepthwiseConvolution(const Program& program, Op& op, const Kernels& kernels)
      : kernels_(kernels), input_(op.inputs[0]), output_(op.output), residual_(op.residual), activation_(op.activation),
        in_stride_(channel_stride(program.values[op.inputs[0]])),
        out_stride_(channel_stride(program.values[op.output])),
        geometry_(program.values[op.inputs[0]], program.values[op.output], op.window, kernels, true, false),
        three_(op.window.height == 3 && op.window.width == 3 && op.window.stride <= 2 && op.window.pad_top == 1 &&
               op.window.pad_left == 1 && op.window.pad_bottom == 1 && op.window.pad_right == 1),
        weights_(std::move(op.weights.values)), bias_(std::move(op.bias)) {
    for (std::uint32_t row = 0; row < op.window.height; ++row) {
      for (std::uint32_t column = 0; column < op.window.width; ++column) offsets_.push_back(geometry_.offset(row, column));
    }
  }

  void run(const Workspace& workspace) const override {
    const Geometry& g = geometry_;
    const std::uint32_t filters = g.out.channels / g.in.channels;
    const auto taps = static_cast<std::uint32_t>(offsets_.size());
    if (three_) return run_three(workspace, filters);
    if (g.shifted) return run_shifted(workspace, filters, taps);
    for (std::uint32_t channel = 0; channel < g.in.channels; ++channel) {
      for (std::uint32_t tile = 0; tile < g.tiles; ++tile) {
        const std::size_t at = std::size_t{tile} * g.tile_rows * g.out.width;
        const auto vectors = static_cast<std::uint32_t>(
            (std::size_t{g.rows_of(tile)} * g.out.width + kernels_.width - 1) / kernels_.width);
        g.pack(kernels_, workspace.values[input_], in_stride_, channel, channel + 1, tile, workspace.scratch, nullptr);
        for (std::uint32_t filter = channel * filters; filter < (channel + 1) * filters; ++filter) {
          const float* residual =
              residual_ == kNoValue ? nullptr : workspace.values[residual_] + filter * out_stride_ + at;
          kernels_.depthwise_tile({weights_.data() + std::size_t{filter} * taps, offsets_.data(), taps, workspace.scratch,
                                   workspace.values[output_] + filter * out_stride_ + at, vectors,
                                   bias_.empty() ? 0.0f : bias_[filter], residual, activation_});
        }
      }
    }
  }

  void run_three(const Workspace& workspace, std::uint32_t filters) const {
    const Shape& in = geometry_.in;
    const auto kernel = geometry_.window.stride == 1 ? kernels_.depthwise_three : kernels_.depthwise_three_halved;
    for (std::uint32_t filter = 0; filter < geometry_.out.channels; ++filter) {
      const std::size_t at = filter * out_stride_;
      kernel({weights_.data() + std::size_t{filter} * 9, workspace.values[input_] + filter / filters * in_stride_,
              static_cast<std::int32_t>(in.height), static_cast<std::int32_t>(in.width), workspace.values[output_] + at,
              bias_.empty() ? 0.0f : bias_[filter], residual_ == kNoValue ? nullptr : workspace.values[residual_] + at,
              activation_});
    }
  }

  void run_shifted(const Workspace& workspace, std::uint32_t filters, std::uint32_t taps) const {
    const Geometry& g = geometry_;
    const float* input = workspace.values[input_];
    for (std::uint32_t first = 0; first < g.in.channels; first += kAtOnce) {
      const std::uint32_t last = std::min(g.in.channels, first + kAtOnce);
      const bool split = g.window.stride == 2;
      const float* from = split ? g.split(kernels_, input, in_stride_, first, last, workspace.scratch)
                                : input + first * in_stride_;
      for (std::uint32_t channel = first; channel < last; ++channel, from += split ? g.phase_floats() : in_stride_) {
        for (std::uint32_t filter = channel * filters; filter < (channel + 1) * filters; ++filter) {
          const std::size_t at = filter * out_stride_;
          kernels_.depthwise_shifted({g.table.view(), weights_.data() + std::size_t{filter} * taps, from,
                                      workspace.values[output_] + at, bias_.empty() ? 0.0f : bias_[filter],
                                      residual_ == kNoValue ? nullptr : workspace.values[residual_] + at, activation_});
        }
      }
    }
  }

  std::size_t scratch_floats() const override {
    if (geometry_.shifted) return geometry_.planes_floats() + kMargin;
    return std::size_t{geometry_.channel_floats} + geometry_.tile_floats + kMargin;
  }

  std::size_t weight_bytes() const override {
    return weights_.size() * 4 + offsets_.size() * 4 + bias_.size() * 4;
  }

 private:
  const Kernels& kernels_;
  std::uint16_t input_, output_, residual_;
  Activation activation_;
  std::size_t in_stride_, out_stride_;
  Geometry geometry_;
  bool three_;
  std::vector<float> weights_, bias_;
  std::vector<std::uint32_t> offsets_;
};

}  // namespace

StepPtr make_depthwise(const Program& program, Op& op, const Kernels& kernels) {
  return std::make_unique<DepthwiseConvolution>(program, op, kernels);
}

}  // namespace sctool
