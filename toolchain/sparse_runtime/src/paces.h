// Which window of 64 columns each step of a windowed layout sees, and which entries of a row find a place.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace sctool {

// Windows at even paces from the first column to the last.
class Paces {
 public:
  Paces() = default;

  Paces(std::uint32_t columns, std::uint32_t steps) : begins_(std::size_t{steps} + 1, 0) {
    const std::uint32_t places = columns <= kWindow ? 0 : (columns - kWindow + kGroup - 1) / kGroup;
    for (std::uint32_t step = 1; step < steps; ++step) {
      const std::uint64_t place = (2ull * step * places + steps - 1) / (2ull * (steps - 1));
      begins_[step] = static_cast<std::uint16_t>(place * kGroup);
    }
    // Windows begin at groups of columns: two tables by group.
    const std::uint32_t groups = (columns + kGroup - 1) / kGroup;
    spans_.resize(groups);
    std::uint32_t first = 0, end = 0;
    for (std::uint32_t group = 0; group < groups; ++group) {
      while (first < steps && begins_[first] + kWindow <= group * kGroup) ++first;
      while (end < steps && begins_[end] <= group * kGroup) ++end;
      spans_[group] = {first, end};
    }
  }

  std::uint32_t steps() const { return static_cast<std::uint32_t>(begins_.size() - 1); }
  // Where each step's window begins, and a zero for the step after the last.
  const std::uint16_t* begins() const { return begins_.data(); }

  // Deals one row's entries, columns rising: place(entry, step, taken) for each, step at most steps(). One that is not taken
  // comes too late for its last step. Each step takes one entry of a row.
  template <typename Place>
  void deal(const std::uint32_t* columns, std::uint32_t count, Place place) const {
    const Span* spans = spans_.data();
    std::uint32_t next = 0;  // the first step that is free
    for (std::uint32_t entry = 0; entry < count; ++entry) {
      const Span span = spans[columns[entry] / kGroup];
      const std::uint32_t step = std::max(next, span.first);
      const bool taken = step < span.end;
      place(entry, step, taken);
      next = step + taken;
    }
  }

 private:
  struct Span {
    std::uint32_t first, end;  // the steps whose windows hold a column
  };
  std::vector<std::uint16_t> begins_ = {0};
  std::vector<Span> spans_;  // of each group of columns
};

}  // namespace sctool
