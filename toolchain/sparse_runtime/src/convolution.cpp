// Convolutions over shifted planes of the input, tile by tile: a tile's planes stay in the first cache while every output
// channel walks its weights over them.
#include <algorithm>
#include <numeric>

#include "layout.h"
#include "passes.h"
#include "shifts.h"
#include "step.h"

namespace sctool {
namespace {

// Floats of a block of packed channels. Few weights: rather some misses in the first cache (48 KiB where this was measured)
// than more visits to each output; many: the block with all else fits it.
constexpr std::size_t kTileFloats = 16384, kFullTileFloats = 10240;
constexpr double kFullDensity = 0.12;
constexpr std::uint32_t kMovingWeights = 3;  // of an output channel in each column of the kernel
constexpr std::size_t kDirectFloats = 16;   // what an unpacked channel counts for in a block

// Channels whose phases are split before the first of them is read: a load right behind its stores would wait for them.
constexpr std::uint32_t kAtOnce = 8;

// How a tile of output rows finds its inputs.
//
// Packed, a channel is one plane for each column of the kernel (and each row phase, with a stride), whose rows are as long
// as the output's, so that every tap is one flat run of pixels at some offset. `expanded` gives every tap a plane of its
// own: loads that would straddle cache lines no longer do. `direct`: a 1 x 1 kernel needs no packing at all.
struct Geometry {
  Shape in, out;
  Window window;
  bool direct, expanded, shifted, moving;
  ShiftTable table;  // of a `shifted` one: expanded without a detour over planes
  std::uint32_t phases, tile_rows, tiles, plane_rows, plane_floats, tile_floats, channel_floats;

  Geometry(const Shape& in_shape, const Shape& out_shape, Window w, const Kernels& kernels, bool depthwise,
           bool may_move)
      : in(in_shape), out(out_shape) {
    moving = may_move && moves(in, out, w, kernels);
    if (moving) w.width = 1, w.pad_left = 0, w.pad_right = 0;
    window = w;
    direct = !depthwise && w.height == 1 && w.width == 1 && w.stride == 1;
    const std::uint32_t most = kernels.width * (moving ? kernels.shifted_accumulators : kernels.accumulators);
    // More than one tile: each begins on a vector, so that none writes into its neighbour.
    const std::uint32_t unit = kernels.width / std::gcd(kernels.width, out.width);
    const std::uint32_t wanted = depthwise ? std::max(most, static_cast<std::uint32_t>(kTileFloats) / (w.width * 2)) : most;
    tile_rows = std::max(unit, wanted / out.width / unit * unit);
    if (tile_rows >= out.height) tile_rows = out.height;
    tiles = (out.height + tile_rows - 1) / tile_rows;
    phases = std::min(w.stride, w.height);
    plane_rows = tile_rows + (w.height - 1) / w.stride;
    plane_floats = plane_rows * out.width;
    tile_floats = static_cast<std::uint32_t>(round_up(std::size_t{tile_rows} * out.width, kernels.width));
    expanded = !direct && !depthwise && w.height > 1 && out.width % kernels.width != 0 && tiles == 1;
    shifted = (expanded || (depthwise && out.width % kernels.width != 0)) && ShiftTable::fits(in, out, window);
    if (shifted) table = ShiftTable(out, window, kernels);
    channel_floats = expanded ? w.height * w.width * tile_floats : w.width * phases * plane_floats;
  }

  // Whether the sums of a kernel's columns can move instead of its pixels.
  static bool moves(const Shape& in, const Shape& out, const Window& w, const Kernels& kernels) {
    const std::uint32_t most = kernels.width * kernels.shifted_accumulators;
    return w.stride == 1 && w.width == 3 && w.pad_left == 1 && w.pad_right == 1 && in.width == out.width &&
           (out.width % kernels.width == 0 ? out.width <= most : out.area() <= most && out.area() > kernels.width);
  }

  // Where the tap (row, column) of a packed channel begins.
  std::uint32_t offset(std::uint32_t row, std::uint32_t column) const {
    if (expanded) return (row * window.width + column) * tile_floats;
    return (column * phases + row % window.stride) * plane_floats + row / window.stride * out.width;
  }

  // Packed channels [begin, end) of one tile. `planes` has room for one unexpanded channel.
  void pack(const Kernels& kernels, const float* input, std::size_t stride, std::uint32_t begin, std::uint32_t end,
            std::uint32_t tile, float* packed, float* planes) const {
    if (shifted) return pack_shifted(kernels, input, stride, begin, end, packed, planes);
    for (std::uint32_t channel = begin; channel < end; ++channel, packed += channel_floats) {
      PackPlanes call;
      call.channel = input + channel * stride;
      call.height = static_cast<std::int32_t>(in.height);
      call.width = static_cast<std::int32_t>(in.width);
      call.kernel_width = static_cast<std::int32_t>(window.width);
      call.phases = static_cast<std::int32_t>(phases);
      call.stride = static_cast<std::int32_t>(window.stride);
      call.pad_top = static_cast<std::int32_t>(window.pad_top);
      call.pad_left = static_cast<std::int32_t>(window.pad_left);
      call.first_row = static_cast<std::int32_t>(tile * tile_rows);
      call.rows = static_cast<std::int32_t>(plane_rows);
      call.out_width = static_cast<std::int32_t>(out.width);
      call.planes = expanded ? planes : packed;
      kernels.pack_planes(call);
      if (!expanded) continue;
      float* to = packed;
      for (std::uint32_t row = 0; row < window.height; ++row) {
        for (std::uint32_t column = 0; column < window.width; ++column, to += tile_floats) {
          const std::uint32_t from =
              (column * phases + row % window.stride) * plane_floats + row / window.stride * out.width;
          kernels.copy(planes + from, to, tile_floats / kernels.width);
        }
      }
    }
  }

  // Floats before the packed channels: the planes that they are packed from.
  std::size_t planes_floats() const {
    if (shifted) return window.stride == 1 ? 0 : kAtOnce * phase_floats();
    return expanded ? round_up(std::size_t{window.width} * phases * plane_floats + tile_floats + kMargin, kLine) : 0;
  }

  // Floats of the four phases of one channel, and a margin before them.
  std::size_t phase_floats() const { return round_up(4 * table.plane_floats() + 2 * kMargin, kLine); }

  // The phases of channels [begin, end), at most kAtOnce, each phase_floats() after the one before; returns the first.
  float* split(const Kernels& kernels, const float* input, std::size_t stride, std::uint32_t begin, std::uint32_t end,
               float* planes) const {
    for (std::uint32_t channel = begin; channel < end; ++channel) {
      kernels.split_phases({input + channel * stride, in.height, in.width,
                            planes + kMargin + (channel - begin) * phase_floats(), table.plane_floats()});
    }
    return planes + kMargin;
  }

  void pack_shifted(const Kernels& kernels, const float* input, std::size_t stride, std::uint32_t begin,
                    std::uint32_t end, float* packed, float* planes) const {
    for (std::uint32_t first = begin; first < end; first += kAtOnce) {
      const std::uint32_t last = std::min(end, first + kAtOnce);
      const bool split_first = window.stride == 2;
      const float* from = split_first ? split(kernels, input, stride, first, last, planes) : input + first * stride;
      const std::size_t step = split_first ? phase_floats() : stride;
      for (std::uint32_t channel = first; channel < last; ++channel, from += step, packed += channel_floats) {
        kernels.pack_taps({table.view(), from, packed});
      }
    }
  }

  std::uint32_t rows_of(std::uint32_t tile) const { return std::min(tile_rows, out.height - tile * tile_rows); }
};

// A run of input channels whose packed planes fit the first cache.
struct Block {
  std::uint32_t begin, end;
};

// Each column of the kernel is a pass over all output channels, which a handful of weights does not pay for.
bool moving_pays(const Op& op) {
  return op.weights.values.size() >= std::size_t{kMovingWeights} * op.window.width * op.weights.rows;
}

std::vector<Block> cut_blocks(std::uint32_t channels, std::size_t channel_floats, std::uint32_t taps,
                              std::size_t tile_floats) {
  if (channel_floats > 65535) throw PayloadError("payload: an image too wide for its kernel: 16-bit offsets end at 65535");
  const std::size_t by_cache = std::max<std::size_t>(8, tile_floats / std::max<std::size_t>(1, channel_floats));
  const std::size_t by_offset = std::max<std::size_t>(1, 65535 / std::max<std::size_t>(1, channel_floats));
  const std::size_t by_count = std::max<std::size_t>(1, 65535 / taps);
  const std::size_t most = std::min({by_cache, by_offset, by_count, std::size_t{channels}});
  const std::size_t count = (channels + most - 1) / most;
  std::vector<Block> blocks;
  for (std::size_t b = 0; b < count; ++b) {
    blocks.push_back({static_cast<std::uint32_t>(channels * b / count), static_cast<std::uint32_t>(channels * (b + 1) / count)});
  }
  return blocks;
}

double density_of(const Matrix& matrix) {
  return static_cast<double>(matrix.values.size()) / std::max<double>(1.0, double{1} * matrix.rows * matrix.columns);
}

// What dense and sparse convolutions share: the walk over tiles and blocks.
class Convolution : public Step {
 public:
  Convolution(const Program& program, Op& op, const Kernels& kernels, std::uint32_t channels, bool may_move)
      : kernels_(kernels), input_(op.inputs[0]), output_(op.output), residual_(op.residual),
        activation_(op.activation), in_stride_(channel_stride(program.values[op.inputs[0]])),
        out_stride_(channel_stride(program.values[op.output])),
        geometry_(program.values[op.inputs[0]], program.values[op.output], op.window, kernels, false, may_move && moving_pays(op)),
        bias_(std::move(op.bias)) {
    const std::uint32_t taps = geometry_.window.height * geometry_.window.width;
    const bool full = op.weights.sparse && density_of(op.weights) >= kFullDensity;
    const std::size_t tile_floats = full ? kFullTileFloats : kTileFloats;
    blocks_ = geometry_.direct ? cut_blocks(channels, kDirectFloats, 1, kTileFloats)
                               : cut_blocks(channels, geometry_.channel_floats, taps, tile_floats);
  }

  std::size_t scratch_floats() const override {
    if (geometry_.direct) return 0;
    std::size_t most = 0;
    for (const Block& block : blocks_) most = std::max<std::size_t>(most, block.end - block.begin);
    return geometry_.planes_floats() + most * geometry_.channel_floats + geometry_.tile_floats + kMargin;
  }

 protected:
  // Calls run_block(block number, input of the block, unit, tile, vectors) with the packed or direct input of each.
  template <typename Run>
  void walk(const Workspace& workspace, std::uint32_t first_channel, Run run_block) const {
    const Geometry& g = geometry_;
    const float* input = workspace.values[input_] + first_channel * in_stride_;
    float* packed = workspace.scratch + g.planes_floats();
    for (std::uint32_t tile = 0; tile < g.tiles; ++tile) {
      const std::size_t at = std::size_t{tile} * g.tile_rows * g.out.width;
      const auto vectors = static_cast<std::uint32_t>(
          (std::size_t{g.rows_of(tile)} * g.out.width + kernels_.width - 1) / kernels_.width);
      for (std::size_t b = 0; b < blocks_.size(); ++b) {
        const Block& block = blocks_[b];
        if (g.direct) {
          run_block(b, input + block.begin * in_stride_ + at, in_stride_, at, vectors);
        } else {
          g.pack(kernels_, input, in_stride_, block.begin, block.end, tile, packed, workspace.scratch);
          run_block(b, packed, std::size_t{1}, at, vectors);
        }
      }
    }
  }

  Epilogue epilogue(const Workspace& workspace, std::size_t at, std::uint32_t first_row) const {
    const float* bias = bias_.empty() ? nullptr : bias_.data() + first_row;
    const float* residual =
        residual_ == kNoValue ? nullptr : workspace.values[residual_] + first_row * out_stride_ + at;
    return {bias, residual, out_stride_, activation_};
  }

  const Kernels& kernels_;
  std::uint16_t input_, output_, residual_;
  Activation activation_;
  std::size_t in_stride_, out_stride_;
  Geometry geometry_;
  std::vector<float> bias_;
  std::vector<Block> blocks_;
};

class SparseConvolution : public Convolution {
 public:
  SparseConvolution(const Program& program, Op& op, const Kernels& kernels)
      : Convolution(program, op, kernels, program.values[op.inputs[0]].channels, true),
        passes_(geometry_.moving ? op.window.width : 1) {
    const Matrix& matrix = op.weights;
    if (geometry_.moving) find_kept(kernels.width);
    // [column]: its pass, and where its pixels begin in there. A division for each weight would be most of the load.
    std::vector<std::uint32_t> pass_of(matrix.columns);
    std::vector<std::uint16_t> offset_of(matrix.columns);
    const std::uint32_t taps = op.window.height * op.window.width;
    for (std::uint32_t b = 0; b < blocks_.size(); ++b) {
      for (std::uint32_t channel = blocks_[b].begin; channel < blocks_[b].end; ++channel) {
        const std::uint32_t inside = channel - blocks_[b].begin;
        for (std::uint32_t tap = 0; tap < taps; ++tap) {
          const std::uint32_t row = tap / op.window.width, column = tap % op.window.width;
          pass_of[channel * taps + tap] = b * passes_ + (geometry_.moving ? column : 0);
          offset_of[channel * taps + tap] = static_cast<std::uint16_t>(
              geometry_.direct ? inside
                               : inside * geometry_.channel_floats + geometry_.offset(row, geometry_.moving ? 0 : column));
        }
      }
    }
    weights_ = SparsePasses(op.weights.rows, blocks_.size() * passes_, pass_of, offset_of, [&](const auto& entry_at) {
      for_each_entry(matrix, [&](std::size_t entry, std::uint32_t row, std::uint32_t column) {
        entry_at(row, column, matrix.values[entry]);
      });
    });
  }

  void run(const Workspace& workspace) const override {
    float* output = workspace.values[output_];
    walk(workspace, 0, [&](std::size_t b, const float* input, std::size_t unit, std::size_t at, std::uint32_t vectors) {
      for (std::size_t pass = b * passes_; pass < (b + 1) * passes_; ++pass) {
        const SparseTile tile =
            weights_.tile(pass, input, unit, output + at, out_stride_, vectors, epilogue(workspace, at, 0));
        const std::size_t column = pass - b * passes_;
        if (passes_ == 1 || column == 1) {
          kernels_.sparse_tile(tile);
        } else {
          kernels_.shifted_tile({tile, column == 0 ? 1 : -1, kept_[column == 0 ? 0 : 1].data()});
        }
      }
    });
  }

  std::size_t weight_bytes() const override { return weights_.bytes() + bias_.size() * 4; }

 private:
  // Which pixels of a tile have a neighbour to their left, and to their right.
  void find_kept(std::uint32_t lanes) {
    const std::size_t pixels = round_up(std::size_t{geometry_.tile_rows} * geometry_.out.width, lanes);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      const std::size_t x = pixel % geometry_.out.width;
      kept_[0].push_back(x == 0 ? 0 : -1);
      kept_[1].push_back(x + 1 == geometry_.out.width ? 0 : -1);
    }
  }

  std::uint32_t passes_;  // over one block: one, or one for each column of the kernel
  SparsePasses weights_;
  std::vector<std::int32_t> kept_[2];                    // [pixel of a tile]
};

class DenseConvolution : public Convolution {
 public:
  DenseConvolution(const Program& program, Op& op, const Kernels& kernels)
      : Convolution(program, op, kernels, program.values[op.inputs[0]].channels / op.groups, false), groups_(op.groups),
        channels_(geometry_.in.channels / op.groups), rows_(geometry_.out.channels / op.groups),
        taps_(op.window.height * op.window.width) {
    const std::uint32_t row_groups = (rows_ + kDenseRows - 1) / kDenseRows;
    const std::size_t columns = std::size_t{channels_} * taps_;
    weights_.assign(std::size_t{groups_} * row_groups * kDenseRows * columns, 0.0f);
    float* to = weights_.data();
    for (std::uint32_t group = 0; group < groups_; ++group) {
      for (const Block& block : blocks_) {
        for (std::uint32_t row = 0; row < row_groups * kDenseRows; row += kDenseRows) {
          for (std::size_t tap = std::size_t{block.begin} * taps_; tap < std::size_t{block.end} * taps_; ++tap) {
            for (std::uint32_t r = 0; r < kDenseRows; ++r, ++to) {
              if (row + r < rows_) *to = op.weights.values[(std::size_t{group} * rows_ + row + r) * columns + tap];
            }
          }
        }
      }
    }
    for (const Block& block : blocks_) {
      for (std::uint32_t channel = block.begin; channel < block.end; ++channel) {
        for (std::uint32_t tap = 0; tap < taps_; ++tap) {
          const std::uint32_t inside = channel - block.begin;
          offsets_.push_back(static_cast<std::uint16_t>(
              geometry_.direct ? inside
                               : inside * geometry_.channel_floats +
                                     geometry_.offset(tap / op.window.width, tap % op.window.width)));
        }
      }
    }
  }

  void run(const Workspace& workspace) const override {
    const std::size_t of_group = weights_.size() / groups_;
    const std::size_t padded_rows = round_up(rows_, kDenseRows);
    for (std::uint32_t group = 0; group < groups_; ++group) {
      const std::uint32_t first_row = group * rows_;
      float* output = workspace.values[output_] + first_row * out_stride_;
      walk(workspace, group * channels_,
           [&](std::size_t b, const float* input, std::size_t unit, std::size_t at, std::uint32_t vectors) {
             const std::size_t begin = std::size_t{blocks_[b].begin} * taps_;
             const auto taps = static_cast<std::uint32_t>(std::size_t{blocks_[b].end} * taps_ - begin);
             kernels_.dense_tile({weights_.data() + group * of_group + begin * padded_rows,
                                  std::size_t{taps} * kDenseRows, kDenseRows, 1, offsets_.data() + begin, taps, rows_,
                                  input, unit, output + at, out_stride_, vectors, b == 0, b + 1 == blocks_.size(),
                                  epilogue(workspace, at, first_row)});
           });
    }
  }

  std::size_t weight_bytes() const override {
    return weights_.size() * 4 + offsets_.size() * 2 + bias_.size() * 4;
  }

 private:
  std::uint32_t groups_, channels_, rows_, taps_;  // channels and rows of one group
  std::vector<float> weights_;                     // [group][block][row group][tap][row]
  std::vector<std::uint16_t> offsets_;             // [channel][tap], from the channel's block on
};

// One input channel a group: each channel's planes meet only its own filters.
class DepthwiseConvolution : public Step {
 public:
  DepthwiseConvolution(const Program& program, Op& op, const Kernels& kernels)
      : kernels_(kernels), input_(op.inputs[0]), output_(op.output), residual_(op.residual), activation_(op.activation),
        in_stride_(channel_stride(program.values[op.inputs[0]])),
        out_stride_(channel_stride(program.values[op.output])),
        geometry_(program.values[op.inputs[0]], program.values[op.output], op.window, kernels, true, false),
        three_(op.window.height == 3 && op.window.width == 3 && op.window.stride == 1 && op.window.pad_top == 1 &&
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
    for (std::uint32_t filter = 0; filter < geometry_.out.channels; ++filter) {
      const std::size_t at = filter * out_stride_;
      kernels_.depthwise_three({weights_.data() + std::size_t{filter} * 9,
                                workspace.values[input_] + filter / filters * in_stride_,
                                static_cast<std::int32_t>(in.height), static_cast<std::int32_t>(in.width),
                                workspace.values[output_] + at, bias_.empty() ? 0.0f : bias_[filter],
                                residual_ == kNoValue ? nullptr : workspace.values[residual_] + at, activation_});
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

StepPtr make_convolution(const Program& program, Op& op, const Kernels& kernels) {
  if (op.weights.sparse) return std::make_unique<SparseConvolution>(program, op, kernels);
  if (op.groups > 1 && op.groups == program.values[op.inputs[0]].channels) {
    return std::make_unique<DepthwiseConvolution>(program, op, kernels);
  }
  return std::make_unique<DenseConvolution>(program, op, kernels);
}

}  // namespace sctool
