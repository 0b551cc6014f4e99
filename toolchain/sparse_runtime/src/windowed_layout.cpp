#include "windowed_layout.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "layout.h"

namespace sctool {
namespace {

// Cycles, measured on Zen 5: sixteen rows' step, and an entry that is late.
constexpr double kStepCost = 1.7, kLateCost = 1.4;
constexpr std::uint32_t kSamples = 8;  // rows of a block that are dealt to find the number of steps
constexpr double kTries[] = {1.0, 1.15, 1.3, 1.45, 1.7, 2.1, 2.8, 4.0};  // steps over the mean length of a row

// Where the window of each step begins: even paces from the first column to the last.
std::vector<std::uint16_t> pace(std::uint32_t columns, std::uint32_t steps) {
  const std::uint32_t places = columns <= kWindow ? 0 : (columns - kWindow + kGroup - 1) / kGroup;
  std::vector<std::uint16_t> begins;
  for (std::uint32_t step = 0; step < steps; ++step) {
    const std::uint64_t place = steps == 1 ? 0 : (2ull * step * places + steps - 1) / (2ull * (steps - 1));
    begins.push_back(static_cast<std::uint16_t>(place * kGroup));
  }
  return begins;
}

// Rows that are dealt side by side: each waits for its own last step, so that several take hardly longer than one.
constexpr std::uint32_t kTogether = 4;

struct Row {
  const std::uint16_t* columns;  // rising; one that does not exist where count is 0
  const float* values;
  std::uint32_t count;
  std::uint32_t entry = 0;       // the first that is still to do
};

// Deals rows' entries to steps: place(step, row, column, value, whether it is taken there) for each, late(row, entry) for
// the rest. Without a branch for what is taken, which no processor would foresee.
template <typename Place, typename Late>
void deal(const std::vector<std::uint16_t>& begins, Row (&rows)[kTogether], Place place, Late late) {
  for (std::size_t step = 0; step < begins.size(); ++step) {
    const std::uint32_t begin = begins[step];
    for (std::uint32_t r = 0; r < kTogether; ++r) {
      Row& row = rows[r];
      while (row.entry < row.count && row.columns[row.entry] < begin) late(r, row.entry++);
      const bool there = row.entry < row.count;
      const std::uint32_t known = there ? row.entry : 0, column = row.columns[known];
      const bool taken = there & (column < begin + kWindow);
      place(step, r, column - begin, row.values[known], taken);
      row.entry += taken;
    }
  }
  for (std::uint32_t r = 0; r < kTogether; ++r) {
    while (rows[r].entry < rows[r].count) late(r, rows[r].entry++);
  }
}

}  // namespace

WindowedLayout::WindowedLayout(const Matrix& matrix, const Kernels& kernels)
    : kernels_(kernels), rows_(matrix.rows), columns_(matrix.columns) {
  std::vector<std::uint32_t> firsts(matrix.rows + 1, 0);
  std::vector<std::uint16_t> column_of(matrix.positions.size());
  for_each_entry(matrix, [&](std::size_t entry, std::uint32_t row, std::uint32_t column) {
    ++firsts[row + 1];
    column_of[entry] = static_cast<std::uint16_t>(column);
  });
  std::partial_sum(firsts.begin(), firsts.end(), firsts.begin());
  static constexpr std::uint16_t kNone = 0;
  static constexpr float kZero = 0.0f;
  const auto row_at = [&](std::uint32_t row) -> Row {
    const std::uint32_t first = row < rows_ ? firsts[row] : 0, count = row < rows_ ? firsts[row + 1] - first : 0;
    if (count == 0) return {&kNone, &kZero, 0};
    return {column_of.data() + first, matrix.values.data() + first, count};
  };
  const std::uint32_t of_block = kGroup * kGroups;
  std::vector<std::vector<std::uint16_t>> windows;
  std::size_t slots = 0;
  for (std::uint32_t first = 0; first < rows_; first += of_block) {
    const std::uint32_t end = std::min(rows_, first + of_block), groups = (end - first + kGroup - 1) / kGroup;
    const double mean = static_cast<double>(firsts[end] - firsts[first]) / (end - first);
    double least = 0.0;
    std::vector<std::uint16_t> best;
    for (const double share : kTries) {
      const auto steps = static_cast<std::uint32_t>(std::min(65535.0, mean * share + 0.5));
      const std::vector<std::uint16_t> begins = pace(columns_, steps);
      std::uint32_t late = 0;
      const std::uint32_t apart = std::max(1u, (end - first) / kSamples), sampled = std::min(kSamples, end - first);
      for (std::uint32_t s = 0; s < sampled; s += kTogether) {
        Row rows[kTogether];
        for (std::uint32_t r = 0; r < kTogether; ++r) rows[r] = row_at(s + r < sampled ? first + (s + r) * apart : rows_);
        deal(begins, rows, [](auto...) {}, [&](auto, auto) { ++late; });
      }
      const double cost = kStepCost * steps * groups + kLateCost * late * (end - first) / sampled;
      if (share > kTries[0] && cost >= least) break;
      least = cost;
      best = begins;
    }
    blocks_.push_back({static_cast<std::uint32_t>(best.size()), groups, slots, begins_.size()});
    slots += best.size() * groups * kGroup;
    begins_.insert(begins_.end(), best.begin(), best.end());
    windows.push_back(std::move(best));
  }
  values_.assign(slots + kLine, 0.0f);
  aligned_ = (64 - reinterpret_cast<std::uintptr_t>(values_.data()) % 64) % 64 / sizeof(float);
  picks_.assign(slots, kAbsent);
  for (std::uint32_t first = 0; first < rows_; first += kTogether) {
    const Block& block = blocks_[first / of_block];
    Row rows[kTogether];
    for (std::uint32_t r = 0; r < kTogether; ++r) rows[r] = row_at(first + r);
    const std::size_t of_step = std::size_t{block.groups} * kGroup;
    float* values = values_.data() + aligned_ + block.slot + first % of_block;
    std::uint8_t* picks = picks_.data() + block.slot + first % of_block;
    deal(windows[first / of_block], rows,
         [&](std::size_t step, std::uint32_t r, std::uint32_t pick, float value, bool taken) {
           // Arithmetic, not a choice: a compiler makes a jump of that.
           std::uint32_t bits;
           std::memcpy(&bits, &value, sizeof bits);
           bits &= 0u - static_cast<std::uint32_t>(taken);
           std::memcpy(values + step * of_step + r, &bits, sizeof bits);
           picks[step * of_step + r] = static_cast<std::uint8_t>(kAbsent + (pick - kAbsent) * static_cast<std::uint32_t>(taken));
         },
         [&](std::uint32_t r, std::uint32_t entry) {
           late_rows_.push_back(static_cast<std::uint16_t>(first + r));
           late_columns_.push_back(rows[r].columns[entry]);
           late_values_.push_back(rows[r].values[entry]);
         });
  }
}

void WindowedLayout::multiply(float* input, float* output, const float* bias, Activation activation) const {
  if (bias != nullptr) std::memcpy(output, bias, rows_ * sizeof(float));
  else std::memset(output, 0, rows_ * sizeof(float));
  std::memset(output + rows_, 0, (round_up(rows_, kGroup) - rows_) * sizeof(float));
  for (std::size_t i = 0; i < late_values_.size(); ++i) output[late_rows_[i]] += late_values_[i] * input[late_columns_[i]];
  const bool finite = kernels_.all_finite(input, columns_);
  float* sums = output;
  for (const Block& block : blocks_) {
    kernels_.windowed_rows({values() + block.slot, picks_.data() + block.slot, begins_.data() + block.begin, block.steps,
                            block.groups, input, sums, finite, activation});
    sums += kGroup * kGroups;
  }
}

void WindowedLayout::for_each(const std::function<void(std::uint32_t, std::uint32_t, float)>& entry_at) const {
  for (std::uint32_t row = 0; row < rows_; ++row) {
    const Block& block = blocks_[row / (kGroup * kGroups)];
    for (std::uint32_t step = 0; step < block.steps; ++step) {
      const std::size_t slot =
          block.slot + std::size_t{step} * block.groups * kGroup + row % (kGroup * kGroups);
      if (picks_[slot] == kAbsent) continue;
      entry_at(row, std::uint32_t{begins_[block.begin + step]} + picks_[slot], values()[slot]);
    }
  }
  for (std::size_t i = 0; i < late_rows_.size(); ++i) entry_at(late_rows_[i], late_columns_[i], late_values_[i]);
}

std::size_t WindowedLayout::bytes() const {
  return values_.size() * 4 + picks_.size() + begins_.size() * 2 + late_values_.size() * 8;
}

}  // namespace sctool
