#include "quad_layout.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace sctool {
namespace {

constexpr std::uint32_t kLineBytes = 64;

}  // namespace

QuadLayout::QuadLayout(const Matrix& matrix, const std::vector<float>& bias, const std::vector<std::uint32_t>& place_of) {
  // By columns in the order of their places, then by rows: two passes that count, no comparisons.
  std::vector<std::uint32_t> columns(matrix.columns), rank(matrix.columns);
  std::iota(columns.begin(), columns.end(), 0u);
  std::sort(columns.begin(), columns.end(), [&](auto a, auto b) { return place_of[a] < place_of[b]; });
  for (std::uint32_t i = 0; i < matrix.columns; ++i) rank[columns[i]] = i;
  const SparseRows rows = matrix.read().all();
  std::vector<std::size_t> next_of_rank(matrix.columns + 1, 0), next_of_row(rows.firsts.begin(), rows.firsts.end());
  for (std::size_t entry = 0; entry < matrix.entries.count; ++entry) ++next_of_rank[rank[rows.columns[entry]] + 1];
  std::partial_sum(next_of_rank.begin(), next_of_rank.end(), next_of_rank.begin());
  struct Placed {
    std::uint32_t row;
    Entry entry;
  };
  std::vector<Placed> placed(matrix.entries.count);
  for (std::uint32_t row = 0; row < matrix.rows; ++row) {
    for (std::uint32_t entry = rows.firsts[row]; entry < rows.firsts[row + 1]; ++entry) {
      const std::uint32_t column = rows.columns[entry];
      placed[next_of_rank[rank[column]]++] = {row, {place_of[column], static_cast<std::int8_t>(rows.values[entry])}};
    }
  }
  const std::vector<std::size_t> row_begins(next_of_row);
  std::vector<Entry> entries(placed.size());
  for (const Placed& found : placed) entries[next_of_row[found.row]++] = found.entry;

  std::vector<std::uint32_t> order(matrix.rows);
  std::iota(order.begin(), order.end(), 0u);
  const auto length = [&](std::uint32_t row) { return row_begins[row + std::size_t{1}] - row_begins[row]; };
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return length(a) > length(b); });
  first_steps_.push_back(0);
  for (std::size_t first = 0; first < order.size(); first += kQuadRows) {
    used_.push_back(static_cast<std::uint32_t>(std::min<std::size_t>(kQuadRows, order.size() - first)));
    std::vector<const Entry*> next, end;
    for (std::size_t i = first; i < first + kQuadRows; ++i) {
      const std::uint32_t row = i < order.size() ? order[i] : order[first];
      const bool there = i < order.size();
      next.push_back(entries.data() + row_begins[row]);
      end.push_back(there ? entries.data() + row_begins[row + std::size_t{1}] : next.back());
      std::int32_t total = 0;
      for (const Entry* entry = next.back(); entry < end.back(); ++entry) total += entry->weight;
      totals_.push_back(static_cast<float>(total));
      scales_.push_back(there ? matrix.row_scales[row] : 0.0f);
      bias_.push_back(there && !bias.empty() ? bias[row] : 0.0f);
      rows_.push_back(row);
    }
    deal(next, end);
    first_steps_.push_back(static_cast<std::uint32_t>(begins_.size()));
  }
}

// Each step's window begins where the first entry that is left needs it; two steps with one window go together.
void QuadLayout::deal(const std::vector<const Entry*>& first, const std::vector<const Entry*>& end) {
  struct Step {
    std::uint32_t begin;
    std::array<std::uint8_t, kStepBytes> picks;
    std::array<std::int8_t, kStepBytes> weights;
  };
  std::vector<Step> steps, alone;
  const auto append = [&](const Step& step) {
    begins_.push_back(step.begin);
    picks_.insert(picks_.end(), step.picks.begin(), step.picks.end());
    weights_.insert(weights_.end(), step.weights.begin(), step.weights.end());
  };
  std::vector<const Entry*> next(first);
  const std::size_t before = begins_.size();
  for (;;) {
    std::uint32_t lowest = ~0u;
    for (std::uint32_t r = 0; r < kQuadRows; ++r) {
      if (next[r] < end[r]) lowest = std::min(lowest, next[r]->place);
    }
    if (lowest == ~0u) break;
    Step step = {lowest / kLineBytes * kLineBytes, {}, {}};
    for (std::uint32_t r = 0; r < kQuadRows; ++r) {
      for (std::uint32_t i = 0; i < kQuad && next[r] < end[r] && next[r]->place < step.begin + kLookup; ++i, ++next[r]) {
        step.picks[r * kQuad + i] = static_cast<std::uint8_t>(next[r]->place - step.begin);
        step.weights[r * kQuad + i] = next[r]->weight;
      }
    }
    steps.push_back(step);
  }
  for (std::size_t s = 0; s < steps.size(); ++s) {
    if (s + 1 < steps.size() && steps[s].begin == steps[s + 1].begin) {
      append(steps[s]);
      append(steps[++s]);
    } else {
      alone.push_back(steps[s]);
    }
  }
  paired_.push_back(static_cast<std::uint32_t>(begins_.size() - before));
  for (const Step& step : alone) append(step);
}

QuadGroup QuadLayout::group(std::size_t number) const {
  const std::size_t step = first_steps_[number], row = number * kQuadRows;
  return {picks_.data() + step * kStepBytes, weights_.data() + step * kStepBytes, begins_.data() + step,
          first_steps_[number + 1] - first_steps_[number], paired_[number], totals_.data() + row, scales_.data() + row, bias_.data() + row,
          rows_.data() + row, used_[number]};
}

std::size_t QuadLayout::bytes() const {
  return picks_.size() + weights_.size() + (begins_.size() + first_steps_.size() + paired_.size() + used_.size()) * 4 +
         (totals_.size() + scales_.size() + bias_.size()) * 4 + rows_.size() * 4;
}

}  // namespace sctool
