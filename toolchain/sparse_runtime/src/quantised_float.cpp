// The layers of quantised.cpp where no dot products of bytes exist, by the kernels for float32: whole numbers below 2^24,
// which no sum of these layers passes (payload_matrix.cpp), are exact there, so that the bits are the same.
#define SCTOOL_WIDTH 4
#include <algorithm>

#include "input_scale.h"
#include "kernels/epilogue.h"
#include "layout.h"
#include "step.h"

namespace sctool {
namespace {

// Whole numbers of at most 22 bits, rounded to even as the dot products' quantisation does.
constexpr float kRound = 12582912.0f;

Vector rounded(Vector x) { return (x + splat(kRound)) - splat(kRound); }

float rounded(float x) { return (x + kRound) - kRound; }

// A byte less the zero point.
float quantised(float x, float inverse, float zero) {
  const float byte = rounded(x * inverse) + zero;
  return (byte < 0.0f ? 0.0f : byte > 255.0f ? 255.0f : byte) - zero;
}

Vector quantised(Vector x, Vector inverse, Vector zero) {
  const Vector byte = rounded(x * inverse) + zero, low = splat(0.0f), high = splat(255.0f);
  const Vector held = byte < low ? low : byte;
  return (held > high ? high : held) - zero;
}

void widen(Range& range, float x) {
  range.low = x < range.low ? x : range.low;
  range.high = x > range.high ? x : range.high;
  range.broken += x * 0.0f;
}

void widen(Vector& low, Vector& high, Vector& broken, Vector x) {
  low = x < low ? x : low;
  high = x > high ? x : high;
  broken += x * splat(0.0f);
}

Range range_of(const float* from, std::size_t stride, std::size_t channels, std::size_t count) {
  Vector low = {}, high = {}, broken = {};
  Range range = {0.0f, 0.0f, 0.0f};
  for (std::size_t c = 0; c < channels; ++c, from += stride) {
    std::size_t i = 0;
    for (; i + kWidth <= count; i += kWidth) {
      widen(low, high, broken, load(from + i));
    }
    for (; i < count; ++i) widen(range, from[i]);
  }
  for (int lane = 0; lane < kWidth; ++lane) {
    widen(range, low[lane]);
    widen(range, high[lane]);
    widen(range, broken[lane]);
  }
  return range;
}

class QuantisedByFloat : public Step {
 public:
  QuantisedByFloat(const Program& program, Op& op, const Kernels& kernels)
      : input_(op.inputs[0]), output_(op.output), residual_(op.residual), activation_(op.activation),
        in_(program.values[input_]), out_(program.values[output_]), bias_(std::move(op.bias)),
        scales_(std::move(op.weights.row_scales)) {
    bias_.resize(out_.channels, 0.0f);
    Op exact;
    exact.kind = op.kind, exact.inputs = op.inputs, exact.output = op.output, exact.window = op.window;
    exact.weights = std::move(op.weights);
    exact_ = op.kind == OpKind::kLinear ? make_linear(program, exact, kernels) : make_convolution(program, exact, kernels, 1);
  }

  void run(const Workspace& workspace) const override {
    const float* from = workspace.values[input_];
    const std::size_t stride = in_.spatial ? channel_stride(in_) : in_.channels;
    const std::size_t channels = in_.spatial ? in_.channels : 1;
    const std::size_t count = in_.spatial ? in_.area() : in_.channels;
    const InputScale scale = scale_of(range_of(from, stride, channels, count));
    float* to = workspace.scratch + kMargin;
    quantise(from, to, channels * stride, scale);
    std::vector<float*> values(workspace.values);
    values[input_] = to;
    exact_->run({values, workspace.scratch + before_scratch()});
    const std::size_t out_stride = out_.spatial ? channel_stride(out_) : 1;
    const float* residual = residual_ == kNoValue ? nullptr : workspace.values[residual_];
    for (std::size_t row = 0; row < out_.channels; ++row) {
      const std::size_t at = row * out_stride;
      finish_row(workspace.values[output_] + at, out_.area(), scales_[row] * scale.scale, bias_[row],
                 residual == nullptr ? nullptr : residual + at);
    }
  }

  bool takes_columns() const override { return exact_->takes_columns(); }
  void lay_out(bool by_columns) override { exact_->lay_out(by_columns); }

  // Records lie side by side in whole vectors; what a vector holds beyond them is never looked at.
  void run_columns(const Workspace& workspace, std::size_t stride, std::size_t records) const override {
    const float* from = workspace.values[input_];
    float* to = workspace.scratch + kMargin;
    float scale[kMostColumns], inverse[kMostColumns], zero[kMostColumns];
    for (std::size_t at = 0; at < records; at += kWidth) {
      Vector low = {}, high = {}, broken = {};
      for (std::size_t c = 0; c < in_.channels; ++c) widen(low, high, broken, load(from + c * stride + at));
      for (std::size_t lane = 0; lane < kWidth; ++lane) {
        const InputScale found = scale_of({low[lane], high[lane], broken[lane]});
        scale[at + lane] = found.scale, inverse[at + lane] = found.inverse, zero[at + lane] = found.zero;
      }
      for (std::size_t c = 0; c < in_.channels; ++c) {
        store(to + c * stride + at, quantised(load(from + c * stride + at), load(inverse + at), load(zero + at)));
      }
    }
    std::vector<float*> values(workspace.values);
    values[input_] = to;
    exact_->run_columns({values, workspace.scratch + before_scratch()}, stride, records);
    for (std::size_t row = 0; row < out_.channels; ++row) {
      float* out = workspace.values[output_] + row * stride;
      for (std::size_t at = 0; at < records; at += kWidth) {
        const Vector y = load(out + at) * (splat(scales_[row]) * load(scale + at)) + splat(bias_[row]);
        store(out + at, apply(activation_, y));
      }
    }
  }

  std::size_t scratch_floats() const override { return before_scratch() + exact_->scratch_floats(); }
  std::size_t weight_bytes() const override { return exact_->weight_bytes() + (bias_.size() + scales_.size()) * 4; }

 private:
  // Floats of the quantised input, of one record or of a tile of them, and its margins.
  std::size_t before_scratch() const {
    const std::size_t floats = in_.spatial ? record_floats(in_) : std::size_t{in_.channels} * kMostColumns + kLine;
    return round_up(floats + 2 * kMargin, kLine);
  }

  static void quantise(const float* from, float* to, std::size_t count, const InputScale& scale) {
    const auto zero = scale.zero;
    std::size_t i = 0;
    for (; i + kWidth <= count; i += kWidth) store(to + i, quantised(load(from + i), splat(scale.inverse), splat(zero)));
    for (; i < count; ++i) to[i] = quantised(from[i], scale.inverse, zero);
  }

  void finish_row(float* out, std::size_t count, float factor, float bias, const float* residual) const {
    std::size_t i = 0;
    for (; i + kWidth <= count; i += kWidth) {
      Vector y = load(out + i) * splat(factor) + splat(bias);
      if (residual != nullptr) y += load(residual + i);
      store(out + i, apply(activation_, y));
    }
    for (; i < count; ++i) {
      float y = out[i] * factor + bias;
      if (residual != nullptr) y += residual[i];
      out[i] = apply_one(activation_, y);
    }
  }

  std::uint16_t input_, output_, residual_;
  Activation activation_;
  Shape in_, out_;
  std::vector<float> bias_, scales_;
  StepPtr exact_;  // on whole numbers, without what comes after the sums
};

}  // namespace

StepPtr make_quantised_by_float(const Program& program, Op& op, const Kernels& kernels) {
  return std::make_unique<QuantisedByFloat>(program, op, kernels);
}

}  // namespace sctool
