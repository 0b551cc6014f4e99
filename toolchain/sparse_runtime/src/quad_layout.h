// A sparse matrix of int8 weights in the layout that quad_tile walks: sixteen rows side by side, each of which takes up to
// four of its entries a step from a window of the input's bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/quantised.h"
#include "program.h"

namespace sctool {

class QuadLayout {
 public:
  QuadLayout() = default;

  // `place_of`: for each column, where its byte lies from the first of a pixel on. Windows begin on cache lines, and rows
  // that are behind hold the others up: at density 0.05 about 0.6 of the slots hold an entry, at 0.2 about 0.85.
  QuadLayout(const Matrix& matrix, const std::vector<float>& bias, const std::vector<std::uint32_t>& place_of);

  std::size_t groups() const { return used_.size(); }
  QuadGroup group(std::size_t number) const;
  std::size_t bytes() const;

 private:
  struct Entry {
    std::uint32_t place;
    std::int8_t weight;
  };
  void deal(const std::vector<const Entry*>& next, const std::vector<const Entry*>& end);

  std::vector<std::uint8_t> picks_;
  std::vector<std::int8_t> weights_;
  std::vector<std::uint32_t> begins_, first_steps_, paired_, used_;  // first_steps_ has one more than groups
  std::vector<float> totals_, scales_, bias_;               // these and the rest: [groups][kQuadRows]
  std::vector<std::uint32_t> rows_;
};

}  // namespace sctool
