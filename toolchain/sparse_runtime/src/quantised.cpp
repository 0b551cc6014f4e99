// Layers that multiply int8 weights with inputs quantised to uint8, by dot products of four bytes.
#include <algorithm>
#include <cstring>

#include "input_scale.h"
#include "layout.h"
#include "quad_layout.h"
#include "step.h"

namespace sctool {
namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 28;  // of one padded input

// The scales of the pixels of a tile.
struct TileScales {
  float scale[kPixels], inverse[kPixels], zero[kPixels];

  void set(std::uint32_t pixel, const InputScale& found) {
    scale[pixel] = found.scale, inverse[pixel] = found.inverse, zero[pixel] = found.zero;
  }
  explicit TileScales(const InputScale& all) {
    for (std::uint32_t p = 0; p < kPixels; ++p) set(p, all);
  }
};

// A convolution over the padded input as bytes, the channels of a pixel side by side: a row of the kernel is one run of
// bytes, and any stride or size of map is a matter of where pixels begin.
class QuantisedConvolution : public Step {
 public:
  QuantisedConvolution(const Program& program, Op& op, const QuantisedKernels& kernels, std::uint32_t threads)
      : kernels_(kernels), input_(op.inputs[0]), output_(op.output), residual_(op.residual), activation_(op.activation),
        in_(program.values[op.inputs[0]]), out_(program.values[op.output]), window_(op.window),
        width_(in_.width + window_.pad_left + window_.pad_right), height_(in_.height + window_.pad_top + window_.pad_bottom) {
    const std::uint64_t bytes = std::uint64_t{width_} * height_ * in_.channels;
    if (bytes > kMostBytes) throw PayloadError("payload: an input of over 2^28 bytes with its padding, in int8 arithmetic");
    bytes_ = static_cast<std::uint32_t>(bytes);
    const std::uint32_t taps = window_.height * window_.width;
    std::vector<std::uint32_t> place_of(op.weights.columns);
    for (std::uint32_t column = 0; column < op.weights.columns; ++column) {
      const std::uint32_t tap = column % taps;
      place_of[column] = (tap / window_.width * width_ + tap % window_.width) * in_.channels + column / taps;
    }
    layout_ = QuadLayout(op.weights, op.bias, place_of);
    for (std::uint32_t y = 0; y < in_.height; ++y) {
      for (std::uint32_t x = 0; x < in_.width; ++x) written_.push_back(place(y + window_.pad_top, x + window_.pad_left));
    }
    cut_tiles();
    parts_ = static_cast<std::uint32_t>(std::min<std::size_t>(threads, tiles_.size() * layout_.groups()));
  }

  std::uint32_t parts() const override { return parts_; }
  void run(const Workspace& workspace) const override { run_range(workspace, 0, tiles_.size() * layout_.groups()); }

  // Each part quantises the input for itself: a tenth of the work.
  void run_part(const Workspace& workspace, std::uint32_t part) const override {
    const std::size_t all = tiles_.size() * layout_.groups();
    run_range(workspace, all * part / parts_, all * (part + 1) / parts_);
  }

  std::size_t scratch_floats() const override {
    // A tile's last pixels may lie beyond the map, and their inputs beyond the bytes.
    return (bytes_ + std::size_t{kPixels} * window_.stride * in_.channels + kLookup) / sizeof(float) + kLine;
  }
  std::size_t weight_bytes() const override { return layout_.bytes(); }

 private:
  // Groups of rows [first, end), counted tile by tile.
  void run_range(const Workspace& workspace, std::size_t first, std::size_t end) const {
    const float* input = workspace.values[input_];
    const std::size_t stride = channel_stride(in_), out_stride = channel_stride(out_);
    const auto area = static_cast<std::uint32_t>(in_.area());
    const InputScale scale = scale_of(kernels_.range(input, stride, in_.channels, area));
    const TileScales scales(scale);
    auto* bytes = reinterpret_cast<std::uint8_t*>(workspace.scratch);
    fill_border(bytes, static_cast<std::uint8_t>(scale.zero));
    for (std::uint32_t pixel = 0; pixel < area; pixel += kPixels) {
      kernels_.quantise_pixels({input + pixel, stride, in_.channels, scales.inverse, scales.zero, bytes,
                                written_.data() + pixel, std::min(kPixels, area - pixel)});
    }
    const float* residual = residual_ == kNoValue ? nullptr : workspace.values[residual_];
    for (std::size_t number = first; number < end; ++number) {
      kernels_.quad_tile({layout_.group(number % layout_.groups()), bytes, runs_, std::size_t{window_.stride} * in_.channels,
                          &tiles_[number / layout_.groups()], scales.zero, scales.scale, workspace.values[output_],
                          out_stride, residual, activation_});
    }
  }

  std::uint32_t place(std::uint32_t y, std::uint32_t x) const { return (y * width_ + x) * in_.channels; }

  // Runs lie in one row each, in so many rows as make sixteen pixels of them. A 1 x 1 kernel knows no rows.
  void cut_tiles() {
    const bool flat = window_.height == 1 && window_.width == 1 && window_.stride == 1 && bytes_ == in_.elements();
    const std::uint32_t height = flat ? 1 : out_.height, width = flat ? out_.height * out_.width : out_.width;
    runs_ = width <= 4 ? 4 : width <= 8 ? 2 : 1;
    const std::uint32_t length = kPixels / runs_;
    for (std::uint32_t y = 0; y < height; y += runs_) {
      for (std::uint32_t x = 0; x < width; x += length) {
        TileRuns tile = {};
        for (std::uint32_t run = 0; run < runs_ && y + run < height; ++run) {
          tile.inputs[run] = place((y + run) * window_.stride, x * window_.stride);
          tile.outputs[run] = (y + run) * width + x;
          tile.kept |= ((1u << std::min(length, width - x)) - 1) << run * length;
        }
        tiles_.push_back(tile);
      }
    }
  }

  void fill_border(std::uint8_t* bytes, std::uint8_t zero) const {
    if (width_ == in_.width && height_ == in_.height) return;
    // What lies between the pixels of one row and those of the next is one run.
    std::size_t from = 0;
    for (std::uint32_t y = 0; y < in_.height; ++y) {
      const std::size_t to = place(y + window_.pad_top, window_.pad_left);
      std::memset(bytes + from, zero, to - from);
      from = to + std::size_t{in_.width} * in_.channels;
    }
    std::memset(bytes + from, zero, bytes_ - from);
  }

  const QuantisedKernels& kernels_;
  std::uint16_t input_, output_, residual_;
  Activation activation_;
  Shape in_, out_;
  Window window_;
  std::uint32_t width_, height_, bytes_;          // with the padding
  std::vector<std::uint32_t> written_;            // where each pixel of the input begins
  std::uint32_t runs_ = 1, parts_ = 1;            // of a tile; of the work
  std::vector<TileRuns> tiles_;
  QuadLayout layout_;
};

constexpr TileRuns kAlone = {{0}, {0}, 0xFFFF};  // sixteen records

class QuantisedLinear : public Step {
 public:
  QuantisedLinear(Op& op, const QuantisedKernels& kernels)
      : kernels_(kernels), input_(op.inputs[0]), output_(op.output), columns_(op.weights.columns),
        record_bytes_(static_cast<std::uint32_t>(round_up(op.weights.columns, 64))), activation_(op.activation) {
    std::vector<std::uint32_t> place_of(columns_);
    for (std::uint32_t column = 0; column < columns_; ++column) place_of[column] = column;
    layout_ = QuadLayout(op.weights, op.bias, place_of);
    for (std::uint32_t record = 0; record < kPixels; ++record) places_[record] = record * record_bytes_;
  }

  void run(const Workspace& workspace) const override {
    const float* input = workspace.values[input_];
    const InputScale scale = scale_of(kernels_.range(input, columns_, 1, columns_));
    auto* bytes = reinterpret_cast<std::uint8_t*>(workspace.scratch);
    kernels_.quantise(input, columns_, scale.inverse, scale.zero, bytes);
    for (std::size_t g = 0; g < layout_.groups(); ++g) {
      kernels_.quad_rows({layout_.group(g), bytes, scale.zero, scale.scale, workspace.values[output_], activation_});
    }
  }

  bool takes_columns() const override { return true; }

  void run_columns(const Workspace& workspace, std::size_t stride, std::size_t records) const override {
    auto* bytes = reinterpret_cast<std::uint8_t*>(workspace.scratch);
    for (std::size_t at = 0; at < records; at += kPixels) {
      const float* input = workspace.values[input_] + at;
      Range ranges[kPixels];
      kernels_.column_ranges(input, stride, columns_, ranges);
      TileScales scales({});
      for (std::uint32_t p = 0; p < kPixels; ++p) scales.set(p, scale_of(ranges[p]));
      kernels_.quantise_pixels({input, stride, columns_, scales.inverse, scales.zero, bytes, places_, kPixels});
      for (std::size_t g = 0; g < layout_.groups(); ++g) {
        kernels_.quad_tile({layout_.group(g), bytes, 1, record_bytes_, &kAlone, scales.zero, scales.scale,
                            workspace.values[output_] + at, stride, nullptr, activation_});
      }
    }
  }

  std::size_t scratch_floats() const override {
    return (std::size_t{record_bytes_} * kPixels + kLookup) / sizeof(float) + kLine;
  }
  std::size_t weight_bytes() const override { return layout_.bytes(); }

 private:
  const QuantisedKernels& kernels_;
  std::uint16_t input_, output_;
  std::uint32_t columns_, record_bytes_;
  Activation activation_;
  std::uint32_t places_[kPixels];
  QuadLayout layout_;
};

}  // namespace

StepPtr make_quantised(const Program& program, Op& op, const Kernels& kernels, std::uint32_t threads) {
  const QuantisedKernels* table = find_quantised(kernels);
  if (table == nullptr) return make_quantised_by_float(program, op, kernels);
  if (op.kind == OpKind::kLinear) return std::make_unique<QuantisedLinear>(op, *table);
  return std::make_unique<QuantisedConvolution>(program, op, *table, threads);
}

}  // namespace sctool
