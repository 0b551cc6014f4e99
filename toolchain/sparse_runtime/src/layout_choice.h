// Which layout a session's linear layers have: that of single records, or that of batches. Both would be the weights twice.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/kernels.h"

namespace sctool {

// Either layout runs any batch, at different speed. What calls lose by the layout that is there adds up, and what they gain
// by it is taken off; once they have lost what a change costs, the layout changes. A change back needs twice as much, and so
// on: calls that alternate end in one layout, and cost about what the better of the two would have (ski rental).
class LayoutChoice {
 public:
  // Costs in runs of one record, measured on Zen 5 with matrices of 0.05 to 0.1 non-zeros.
  explicit LayoutChoice(const Kernels& kernels)
      : width_(kernels.width), of_call_(kernels.windowed_rows ? 2.0 : 1.0), of_vector_(kernels.windowed_rows ? 3.1 : 0.85) {}

  // Whether this call and all others until the next runs by columns.
  bool choose(std::uint32_t batch) {
    const double rows = batch, columns = of_call_ + of_vector_ * ((batch + width_ - 1) / width_);
    const double loss = by_columns_ ? columns - rows : rows - columns;
    lost_ = std::max(0.0, lost_ + loss);
    if (lost_ > limit_) {
      by_columns_ = !by_columns_;
      lost_ = 0.0;
      change_ = std::min(kMost, 2.0 * change_);
    }
    limit_ = change_;
    return by_columns_;
  }

 private:
  static constexpr double kChange = 100.0, kMost = 1024.0 * kChange;

  std::uint32_t width_;
  double of_call_, of_vector_;  // a batch: so much, and so much for each vector of records
  bool by_columns_ = false;
  double lost_ = 0.0;
  double change_ = kChange;  // what the next change costs
  double limit_ = 0.0;       // the first call may change at once
};

}  // namespace sctool
