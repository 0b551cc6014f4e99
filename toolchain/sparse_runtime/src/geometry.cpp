#include "geometry.h"

namespace sctool {

Geometry::Geometry(const Shape& in_shape, const Shape& out_shape, Window w, const Kernels& kernels, bool depthwise,
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

bool Geometry::moves(const Shape& in, const Shape& out, const Window& w, const Kernels& kernels) {
  const std::uint32_t most = kernels.width * kernels.shifted_accumulators;
  return w.stride == 1 && w.width == 3 && w.pad_left == 1 && w.pad_right == 1 && in.width == out.width &&
         (out.width % kernels.width == 0 ? out.width <= most : out.area() <= most && out.area() > kernels.width);
}

void Geometry::pack(const Kernels& kernels, const float* input, std::size_t stride, std::uint32_t begin, std::uint32_t end,
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

void Geometry::pack_shifted(const Kernels& kernels, const float* input, std::size_t stride, std::uint32_t begin,
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

}  // namespace sctool
