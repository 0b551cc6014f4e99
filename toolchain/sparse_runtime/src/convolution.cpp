// Convolutions over packed channels of the input, tile by tile: a tile's block of channels stays in the first cache while
// every output channel walks its weights over it.
#include "geometry.h"
#include "passes.h"
#include "step.h"

namespace sctool {
namespace {

constexpr std::uint32_t kMovingWeights = 3;  // of an output channel in each column of the kernel

// Each column of the kernel is a pass over all output channels, which a handful of weights does not pay for.
bool moving_pays(const Op& op) {
  return op.weights.stored() >= std::size_t{kMovingWeights} * op.window.width * op.weights.rows;
}

double density_of(const Matrix& matrix) {
  return static_cast<double>(matrix.stored()) / std::max<double>(1.0, double{1} * matrix.rows * matrix.columns);
}

// What dense and sparse convolutions share: the walk over tiles and blocks.
class Convolution : public Step {
 public:
  Convolution(const Program& program, Op& op, const Kernels& kernels, std::uint32_t threads, std::uint32_t channels,
              bool may_move)
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
    tile_parts_ = geometry_.tiles >= threads ? threads : 1;
  }

  std::uint32_t parts() const override { return tile_parts_; }
  void run(const Workspace& workspace) const override { run_tiles(workspace, 0, geometry_.tiles); }
  void run_part(const Workspace& workspace, std::uint32_t part) const override {
    run_tiles(workspace, geometry_.tiles * part / tile_parts_, geometry_.tiles * (part + 1) / tile_parts_);
  }

  std::size_t scratch_floats() const override {
    if (geometry_.direct) return 0;
    std::size_t most = 0;
    for (const Block& block : blocks_) most = std::max<std::size_t>(most, block.end - block.begin);
    return geometry_.planes_floats() + most * geometry_.channel_floats + geometry_.tile_floats + kMargin;
  }

 protected:
  virtual void run_tiles(const Workspace& workspace, std::uint32_t first, std::uint32_t end) const = 0;

  // Calls run_block(block number, input of the block, unit, tile, vectors) with the packed or direct input of each.
  template <typename Run>
  void walk(const Workspace& workspace, std::uint32_t first_channel, std::uint32_t first_tile, std::uint32_t end_tile,
            Run run_block) const {
    const Geometry& g = geometry_;
    const float* input = workspace.values[input_] + first_channel * in_stride_;
    float* packed = workspace.scratch + g.planes_floats();
    for (std::uint32_t tile = first_tile; tile < end_tile; ++tile) {
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
  std::uint32_t tile_parts_;  // as many threads as there are, where there are as many tiles
};

class SparseConvolution : public Convolution {
 public:
  SparseConvolution(const Program& program, Op& op, const Kernels& kernels, std::uint32_t threads)
      : Convolution(program, op, kernels, threads, program.values[op.inputs[0]].channels, true),
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
    // Threads share tiles; where there are too few of them, each takes some of the output channels and packs for itself.
    const std::uint32_t ranges = tile_parts_ < threads ? std::min(threads, op.weights.rows) : 1;
    EntryReader reader = matrix.read();
    SparseRows rows;
    for (std::uint32_t r = 0; r < ranges; ++r) {
      const std::uint32_t first = matrix.rows * r / ranges, end = matrix.rows * (r + 1) / ranges;
      reader.next(end - first, rows);
      weights_.emplace_back(first, rows, blocks_.size() * passes_, pass_of, offset_of);
    }
  }

  std::uint32_t parts() const override { return std::max(tile_parts_, static_cast<std::uint32_t>(weights_.size())); }

  void run_part(const Workspace& workspace, std::uint32_t part) const override {
    if (weights_.size() == 1) return Convolution::run_part(workspace, part);
    run_range(workspace, weights_[part], 0, geometry_.tiles);
  }

  std::size_t weight_bytes() const override {
    std::size_t bytes = bias_.size() * 4;
    for (const SparsePasses& weights : weights_) bytes += weights.bytes();
    return bytes;
  }

 private:
  void run_tiles(const Workspace& workspace, std::uint32_t first, std::uint32_t end) const override {
    for (const SparsePasses& weights : weights_) run_range(workspace, weights, first, end);
  }

  void run_range(const Workspace& workspace, const SparsePasses& weights, std::uint32_t first, std::uint32_t end) const {
    float* output = workspace.values[output_];
    walk(workspace, 0, first, end, [&](std::size_t b, const float* input, std::size_t unit, std::size_t at, std::uint32_t vectors) {
      for (std::size_t pass = b * passes_; pass < (b + 1) * passes_; ++pass) {
        const SparseTile tile =
            weights.tile(pass, input, unit, output + at, out_stride_, vectors, epilogue(workspace, at, 0));
        const std::size_t column = pass - b * passes_;
        if (passes_ == 1 || column == 1) {
          kernels_.sparse_tile(tile);
        } else {
          kernels_.shifted_tile({tile, column == 0 ? 1 : -1, kept_[column == 0 ? 0 : 1].data()});
        }
      }
    });
  }

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
  std::vector<SparsePasses> weights_;  // of ranges of rows
  std::vector<std::int32_t> kept_[2];  // [pixel of a tile]
};

class DenseConvolution : public Convolution {
 public:
  DenseConvolution(const Program& program, Op& op, const Kernels& kernels, std::uint32_t threads)
      : Convolution(program, op, kernels, threads, program.values[op.inputs[0]].channels / op.groups, false), groups_(op.groups),
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

  void run_tiles(const Workspace& workspace, std::uint32_t first, std::uint32_t end) const override {
    const std::size_t of_group = weights_.size() / groups_;
    const std::size_t padded_rows = round_up(rows_, kDenseRows);
    for (std::uint32_t group = 0; group < groups_; ++group) {
      const std::uint32_t first_row = group * rows_;
      float* output = workspace.values[output_] + first_row * out_stride_;
      walk(workspace, group * channels_, first, end,
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

}  // namespace

StepPtr make_convolution(const Program& program, Op& op, const Kernels& kernels, std::uint32_t threads) {
  if (op.weights.sparse) return std::make_unique<SparseConvolution>(program, op, kernels, threads);
  if (op.groups > 1 && op.groups == program.values[op.inputs[0]].channels) return make_depthwise(program, op, kernels);
  return std::make_unique<DenseConvolution>(program, op, kernels, threads);
}

}  // namespace sctool
