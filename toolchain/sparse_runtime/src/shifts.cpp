#include "shifts.h"

#include <algorithm>
#include <map>

#include "layout.h"

namespace sctool {
namespace {

// Division that rounds down, and what is left of it.
std::int32_t floor_half(std::int32_t value) { return value >= 0 ? value / 2 : -((1 - value) / 2); }

}  // namespace

bool ShiftTable::fits(const Shape& in, const Shape& out, const Window& window) {
  const bool same = window.stride == 1 && in.height == out.height && in.width == out.width;
  const bool halves = window.stride == 2 && in.height == 2 * out.height && in.width == 2 * out.width;
  // A shift reads past the channel's ends: the arena has a margin for that.
  const std::uint64_t farthest = (std::uint64_t{window.height} + 1) * out.width + window.width;
  return (same || halves) && farthest + 2 * kLine <= kMargin && out.area() <= 16384;
}

ShiftTable::ShiftTable(const Shape& out, const Window& window, const Kernels& kernels) {
  const auto height = static_cast<std::int32_t>(out.height), width = static_cast<std::int32_t>(out.width);
  const auto lanes = static_cast<std::int32_t>(kernels.width);
  vectors_ = static_cast<std::uint32_t>((out.area() + kernels.width - 1) / kernels.width);
  plane_ = round_up(static_cast<std::size_t>(out.area()), kLine) + kLine;
  struct Tap {
    std::int32_t row, column;
  };
  std::vector<Tap> taps;
  for (std::int32_t y = 0; y < static_cast<std::int32_t>(window.height); ++y) {
    for (std::int32_t x = 0; x < static_cast<std::int32_t>(window.width); ++x) {
      const std::int32_t row = y - static_cast<std::int32_t>(window.pad_top);
      const std::int32_t column = x - static_cast<std::int32_t>(window.pad_left);
      Tap tap = {row, column};
      std::int32_t phase = 0;
      if (window.stride == 2) {
        tap = {floor_half(row), floor_half(column)};
        phase = 2 * (row - 2 * tap.row) + (column - 2 * tap.column);
      }
      taps.push_back(tap);
      shifts_.push_back(static_cast<std::int32_t>(plane_) * phase + tap.row * width + tap.column);
    }
  }
  std::map<std::vector<std::int32_t>, std::uint16_t> known;
  std::vector<std::int32_t> mask(kernels.width);
  for (std::uint32_t v = 0; v < vectors_; ++v) {
    for (const Tap& tap : taps) {
      for (std::int32_t lane = 0; lane < lanes; ++lane) {
        const std::int32_t pixel = static_cast<std::int32_t>(v) * lanes + lane;
        const std::int32_t y = pixel / width + tap.row, x = pixel % width + tap.column;
        mask[static_cast<std::size_t>(lane)] = y >= 0 && y < height && x >= 0 && x < width ? -1 : 0;
      }
      const auto [place, fresh] = known.emplace(mask, static_cast<std::uint16_t>(known.size()));
      if (fresh) masks_.insert(masks_.end(), mask.begin(), mask.end());
      mask_of_.push_back(place->second);
    }
  }
}

}  // namespace sctool
