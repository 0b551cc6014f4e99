// Where a convolution's taps find their pixels: tiles of output rows, packed channels, blocks of them.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "layout.h"
#include "shifts.h"

namespace sctool {

// Floats of a block of packed channels. Few weights: rather some misses in the first cache (48 KiB where this was measured)
// than more visits to each output; many: the block with all else fits it.
constexpr std::size_t kTileFloats = 12288, kFullTileFloats = 10240;
constexpr double kFullDensity = 0.12;
constexpr std::size_t kDirectFloats = 16;  // what an unpacked channel counts for in a block

// Channels whose phases are split before the first of them is read: a load right behind its stores would wait for them.
constexpr std::uint32_t kAtOnce = 8;

// How a tile of output rows finds its inputs.
//
// Packed, a channel is one plane for each column of the kernel (and each row phase, with a stride), whose rows are as long
// as the output's, so that every tap is one flat run of pixels at some offset. `expanded` gives every tap a plane of its
// own: loads that would straddle cache lines no longer do. `direct`: a 1 x 1 kernel needs no packing at all. `moving`: only the
// kernel's rows are packed, `window` is one column wide, and the sums of its columns move (ShiftedTile).
struct Geometry {
  Shape in, out;
  Window window;
  bool direct, expanded, shifted, moving;
  ShiftTable table;  // of a `shifted` one: expanded without a detour over planes
  std::uint32_t phases, tile_rows, tiles, plane_rows, plane_floats, tile_floats, channel_floats;

  Geometry(const Shape& in_shape, const Shape& out_shape, Window w, const Kernels& kernels, bool depthwise, bool may_move);

  // Whether the sums of a kernel's columns can move instead of its pixels.
  static bool moves(const Shape& in, const Shape& out, const Window& w, const Kernels& kernels);

  // Where the tap (row, column) of a packed channel begins.
  std::uint32_t offset(std::uint32_t row, std::uint32_t column) const {
    if (expanded) return (row * window.width + column) * tile_floats;
    return (column * phases + row % window.stride) * plane_floats + row / window.stride * out.width;
  }

  // Packed channels [begin, end) of one tile. `planes` has room for one unexpanded channel.
  void pack(const Kernels& kernels, const float* input, std::size_t stride, std::uint32_t begin, std::uint32_t end,
            std::uint32_t tile, float* packed, float* planes) const;

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

  void pack_shifted(const Kernels& kernels, const float* input, std::size_t stride, std::uint32_t begin, std::uint32_t end,
                    float* packed, float* planes) const;

  std::uint32_t rows_of(std::uint32_t tile) const { return std::min(tile_rows, out.height - tile * tile_rows); }
};

// A run of input channels whose packed planes fit the first cache.
struct Block {
  std::uint32_t begin, end;
};

// PayloadError where one channel is too large for 16-bit offsets.
std::vector<Block> cut_blocks(std::uint32_t channels, std::size_t channel_floats, std::uint32_t taps, std::size_t tile_floats);

}  // namespace sctool
