// The table by which every tap of a kernel reads a channel as one shifted run of pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "program.h"

namespace sctool {

// For kernels whose output is as large as their input (stride 1), or as each of the input's four phases (stride 2, even
// sides): see `fits`. With a stride, the channel is split into its phases first, plane_floats() apart.
class ShiftTable {
 public:
  static bool fits(const Shape& in, const Shape& out, const Window& window);

  ShiftTable() = default;
  ShiftTable(const Shape& out, const Window& window, const Kernels& kernels);

  Shifts view() const {
    return {shifts_.data(), mask_of_.data(), masks_.data(), static_cast<std::uint32_t>(shifts_.size()), vectors_};
  }

  // From one phase of a channel to the next; four of them and a margin on both sides make a channel.
  std::size_t plane_floats() const { return plane_; }
  std::size_t bytes() const { return shifts_.size() * 4 + mask_of_.size() * 2 + masks_.size() * 4; }

 private:
  std::uint32_t vectors_ = 0;
  std::size_t plane_ = 0;
  std::vector<std::int32_t> shifts_, masks_;
  std::vector<std::uint16_t> mask_of_;
};

}  // namespace sctool
