#include "windowed_layout.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "layout.h"
#include "paces.h"

namespace sctool {
namespace {

constexpr std::uint32_t kOfBlock = kGroup * kGroups;  // rows
// Cycles, measured on Zen 5: sixteen rows' step, and an entry that is late.
constexpr double kStepCost = 1.7, kLateCost = 1.4;
constexpr std::uint32_t kSamples = 8;  // rows of a block that are dealt to find the number of steps
constexpr double kTries[] = {1.0, 1.15, 1.3, 1.45, 1.7, 2.1, 2.8, 4.0};  // steps over the mean length of a row

// The number of steps that a block of rows takes least time with, judged by some of them.
Paces choose_paces(const SparseRows& rows, std::uint32_t columns) {
  const std::uint32_t groups = (rows.count() + kGroup - 1) / kGroup;
  const std::uint32_t apart = std::max(1u, rows.count() / kSamples), sampled = std::min(kSamples, rows.count());
  const double mean = static_cast<double>(rows.firsts.back()) / rows.count();
  double least = 0.0;
  Paces best;
  for (const double share : kTries) {
    Paces paces(columns, static_cast<std::uint32_t>(std::min(65535.0, mean * share + 0.5)));
    std::uint32_t late = 0;
    for (std::uint32_t s = 0; s < sampled; ++s) {
      const std::uint32_t row = s * apart;
      paces.deal(rows.columns.data() + rows.firsts[row], rows.length(row),
                 [&](std::uint32_t, std::uint32_t, bool taken) { late += !taken; });
    }
    const double cost = kStepCost * paces.steps() * groups + kLateCost * late * rows.count() / sampled;
    if (share > kTries[0] && cost >= least) break;
    least = cost;
    best = std::move(paces);
  }
  return best;
}

// Sixteen rows while they are dealt, in the first cache: [step][row].
struct Group {
  std::vector<float> values;
  std::vector<std::uint8_t> picks;
  std::vector<std::uint32_t> late;  // entries of the row that was dealt last

  explicit Group(std::uint32_t columns) : late(std::size_t{columns} + 1) {}

  // Room for so many steps and, behind them, for what is not taken.
  void clear(std::size_t steps) {
    values.assign((steps + 1) * kGroup, 0.0f);
    picks.assign((steps + 1) * kGroup, kAbsent);
  }

  // Returns how many entries are late.
  std::uint32_t deal(const Paces& paces, std::uint32_t lane, const SparseRows& rows, std::uint32_t row) {
    const std::uint32_t* columns = rows.columns.data() + rows.firsts[row];
    const float* from = rows.values.data() + rows.firsts[row];
    const std::uint16_t* begins = paces.begins();
    float* to = values.data() + lane;
    std::uint8_t* pick = picks.data() + lane;
    std::uint32_t* missed = late.data();
    const std::uint32_t steps = paces.steps();
    std::uint32_t count = 0;
    paces.deal(columns, rows.length(row), [&](std::uint32_t entry, std::uint32_t step, bool taken) {
      // Arithmetic and no jumps: no processor would foresee which entries are taken.
      const std::uint32_t slot = steps ^ ((steps ^ step) & (0u - std::uint32_t{taken}));
      to[std::size_t{slot} * kGroup] = from[entry];
      pick[std::size_t{slot} * kGroup] = static_cast<std::uint8_t>(columns[entry] - begins[step]);
      missed[count] = entry;
      count += !taken;
    });
    return count;
  }
};

}  // namespace

WindowedLayout::WindowedLayout(RowSource& source, const Kernels& kernels)
    : kernels_(kernels), rows_(source.rows()), columns_(source.columns()) {
  SparseRows rows;
  Group group(columns_);
  for (std::uint32_t first = 0; first < rows_; first += kOfBlock) {
    source.next(std::min(kOfBlock, rows_ - first), rows);
    const Paces paces = choose_paces(rows, columns_);
    Block block = {paces.steps(), (rows.count() + kGroup - 1) / kGroup, begins_.size(), nullptr, nullptr, nullptr};
    begins_.insert(begins_.end(), paces.begins(), paces.begins() + paces.steps());
    block.memory.reset(new float[block.slots() + block.slots() / sizeof(float) + kLine]);
    const auto address = reinterpret_cast<std::uintptr_t>(block.memory.get());
    block.values = block.memory.get() + (64 - address % 64) % 64 / sizeof(float);
    block.picks = reinterpret_cast<std::uint8_t*>(block.values + block.slots());
    const std::size_t of_step = std::size_t{block.groups} * kGroup;
    for (std::uint32_t of_group = 0; of_group < rows.count(); of_group += kGroup) {
      group.clear(block.steps);
      for (std::uint32_t lane = 0; lane < kGroup && of_group + lane < rows.count(); ++lane) {
        const std::uint32_t row = of_group + lane, begin = rows.firsts[row];
        const std::uint32_t late = group.deal(paces, lane, rows, row);
        for (std::uint32_t i = 0; i < late; ++i) {
          late_rows_.push_back(static_cast<std::uint16_t>(first + row));
          late_columns_.push_back(static_cast<std::uint16_t>(rows.columns[begin + group.late[i]]));
          late_values_.push_back(rows.values[begin + group.late[i]]);
        }
      }
      for (std::size_t step = 0; step < block.steps; ++step) {
        std::memcpy(block.values + step * of_step + of_group, group.values.data() + step * kGroup, kGroup * sizeof(float));
        std::memcpy(block.picks + step * of_step + of_group, group.picks.data() + step * kGroup, kGroup);
      }
    }
    blocks_.push_back(std::move(block));
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
    kernels_.windowed_rows({block.values, block.picks, begins_.data() + block.begin, block.steps, block.groups, input, sums,
                            finite, activation});
    sums += kOfBlock;
  }
}

SparseRows WindowedLayout::read_back() const {
  SparseRows rows;
  rows.firsts.assign(std::size_t{rows_} + 1, 0);
  std::uint32_t* lengths = rows.firsts.data() + 1;
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    const std::uint32_t count = std::min(kOfBlock, rows_ - static_cast<std::uint32_t>(b) * kOfBlock);
    blocks_[b].for_each_step([&](std::size_t, const float*, const std::uint8_t* picks) {
      for (std::uint32_t row = 0; row < count; ++row) lengths[b * kOfBlock + row] += picks[row] != kAbsent;
    });
  }
  for (const std::uint16_t row : late_rows_) ++lengths[row];
  std::partial_sum(rows.firsts.begin(), rows.firsts.end(), rows.firsts.begin());
  rows.columns.resize(rows.firsts.back());
  rows.values.resize(rows.firsts.back());
  std::vector<std::uint32_t> next(rows.firsts.begin(), rows.firsts.end() - 1);
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    const Block& block = blocks_[b];
    const std::uint32_t count = std::min(kOfBlock, rows_ - static_cast<std::uint32_t>(b) * kOfBlock);
    std::uint32_t* at = next.data() + b * kOfBlock;
    block.for_each_step([&](std::size_t step, const float* values, const std::uint8_t* picks) {
      const std::uint32_t begin = begins_[block.begin + step];
      for (std::uint32_t row = 0; row < count; ++row) {
        if (picks[row] == kAbsent) continue;
        rows.columns[at[row]] = begin + picks[row];
        rows.values[at[row]] = values[row];
        ++at[row];
      }
    });
  }
  // Late entries, which lie row by row, go in among the others, from the last on.
  for (std::size_t late = late_rows_.size(); late > 0;) {
    const std::uint32_t row = late_rows_[late - 1];
    std::uint32_t from = next[row], to = rows.firsts[row + 1];
    for (; late > 0 && late_rows_[late - 1] == row; --late) {
      for (; from > rows.firsts[row] && rows.columns[from - 1] > late_columns_[late - 1]; --from, --to) {
        rows.columns[to - 1] = rows.columns[from - 1];
        rows.values[to - 1] = rows.values[from - 1];
      }
      --to;
      rows.columns[to] = late_columns_[late - 1];
      rows.values[to] = late_values_[late - 1];
    }
  }
  return rows;
}

std::size_t WindowedLayout::bytes() const {
  std::size_t bytes = begins_.size() * 2 + late_values_.size() * 8;
  for (const Block& block : blocks_) bytes += block.slots() * 5;
  return bytes;
}

}  // namespace sctool
