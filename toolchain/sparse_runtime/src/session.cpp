#include "session.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "flush.h"
#include "layout.h"

namespace sctool {
namespace {

constexpr std::size_t kColumns = 64;      // records that are transposed and run together
constexpr std::uint32_t kFewRecords = 3;  // up to so many run one by one

std::size_t column_floats(const Shape& shape) { return shape.channels * kColumns; }

std::size_t floats_of_record(const Shape& shape) { return record_floats(shape); }

StepPtr make_step(const Program& program, Op& op, const Kernels& kernels) {
  switch (op.kind) {
    case OpKind::kConvolution: return make_convolution(program, op, kernels);
    case OpKind::kLinear: return make_linear(program, op, kernels);
    default: return make_plain(program, op, kernels);
  }
}

}  // namespace

Session::Session(Program program, const Kernels& kernels) : kernels_(kernels), program_(std::move(program)) {
  columns_ = true;
  for (Op& op : program_.ops) {
    steps_.push_back(make_step(program_, op, kernels_));
    op.weights = Matrix();
    scratch_floats_ = std::max(scratch_floats_, steps_.back()->scratch_floats());
    columns_ = columns_ && steps_.back()->takes_columns();
  }
  plan(floats_of_record, record_offsets_, record_floats_);
  if (columns_) plan(column_floats, column_offsets_, column_floats_);
}

std::size_t Session::weight_bytes() const {
  std::size_t bytes = 0;
  for (const StepPtr& step : steps_) bytes += step->weight_bytes();
  return bytes;
}

// Places every value for as long as it is needed; memory that is free again is taken again, lowest first.
void Session::plan(std::size_t floats_of(const Shape&), std::vector<std::size_t>& offsets, std::size_t& total) const {
  const std::size_t forever = program_.ops.size() + 1;
  std::vector<std::size_t> made(program_.values.size(), forever), last(program_.values.size(), 0);
  for (const std::uint16_t id : program_.inputs) made[id] = 0;
  for (std::size_t i = 0; i < program_.ops.size(); ++i) {
    const Op& op = program_.ops[i];
    made[op.output] = i + 1;
    last[op.output] = std::max(last[op.output], i + 1);
    for (const std::uint16_t id : op.inputs) last[id] = i + 1;
    if (op.residual != kNoValue) last[op.residual] = i + 1;
  }
  for (const std::uint16_t id : program_.outputs) last[id] = forever;
  struct Taken {
    std::size_t begin, end, last;
  };
  std::vector<std::uint16_t> order;
  for (std::uint16_t id = 0; id < program_.values.size(); ++id) {
    if (made[id] != forever) order.push_back(id);
  }
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return made[a] < made[b]; });
  offsets.assign(program_.values.size(), 0);
  total = 0;
  std::vector<Taken> taken;
  for (const std::uint16_t id : order) {
    taken.erase(std::remove_if(taken.begin(), taken.end(), [&](const Taken& t) { return t.last < made[id]; }),
                taken.end());
    std::sort(taken.begin(), taken.end(), [](const Taken& a, const Taken& b) { return a.begin < b.begin; });
    const std::size_t size = round_up(floats_of(program_.values[id]), kLine);
    std::size_t begin = 0;
    for (const Taken& t : taken) {
      if (begin + size <= t.begin) break;
      begin = std::max(begin, t.end);
    }
    taken.push_back({begin, begin + size, last[id]});
    offsets[id] = begin;
    total = std::max(total, begin + size);
  }
}

void Session::point(const std::vector<std::size_t>& offsets, std::size_t total) {
  const std::size_t wanted = total + scratch_floats_ + 4 * kMargin;
  if (arena_.size() < wanted) {
    arena_.assign(wanted, 0.0f);
    const auto address = reinterpret_cast<std::uintptr_t>(arena_.data() + kMargin);
    base_ = arena_.data() + kMargin + (64 - address % 64) % 64 / sizeof(float);
  }
  values_.resize(offsets.size());
  for (std::size_t i = 0; i < offsets.size(); ++i) values_[i] = base_ + offsets[i];
}

void Session::run(std::uint32_t batch, const float* const* inputs, float* const* outputs) {
  const FlushDenormals flush;
  if (columns_ && batch > kFewRecords) {
    for (const StepPtr& step : steps_) step->prepare_columns();
    point(column_offsets_, column_floats_);
    for (std::uint32_t first = 0; first < batch; first += kColumns) {
      run_columns(first, std::min<std::uint32_t>(kColumns, batch - first), inputs, outputs);
    }
    return;
  }
  point(record_offsets_, record_floats_);
  for (std::uint32_t record = 0; record < batch; ++record) run_record(record, inputs, outputs);
}

template <typename RunStep>
void Session::run_steps(RunStep run_step) {
  if (step_ns_.empty()) {
    for (const StepPtr& step : steps_) run_step(*step);
    return;
  }
  using Clock = std::chrono::steady_clock;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const Clock::time_point begin = Clock::now();
    run_step(*steps_[i]);
    const std::int64_t ns = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count();
    if (step_ns_[i] == 0 || ns < step_ns_[i]) step_ns_[i] = ns;
  }
}

void Session::run_record(std::uint32_t record, const float* const* inputs, float* const* outputs) {
  for (std::size_t i = 0; i < program_.inputs.size(); ++i) {
    const Shape& shape = program_.values[program_.inputs[i]];
    const auto area = static_cast<std::size_t>(shape.area());
    const float* from = inputs[i] + record * shape.elements();
    float* to = values_[program_.inputs[i]];
    if (!shape.spatial) {
      std::memcpy(to, from, shape.channels * sizeof(float));
      continue;
    }
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      std::memcpy(to + c * channel_stride(shape), from + c * area, area * sizeof(float));
    }
  }
  const Workspace workspace = {values_, base_ + round_up(record_floats_, kLine) + kMargin};
  run_steps([&](const Step& step) { step.run(workspace); });
  for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
    const Shape& shape = program_.values[program_.outputs[i]];
    const auto area = static_cast<std::size_t>(shape.area());
    float* to = outputs[i] + record * shape.elements();
    const float* from = values_[program_.outputs[i]];
    if (!shape.spatial) {
      std::memcpy(to, from, shape.channels * sizeof(float));
      continue;
    }
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      std::memcpy(to + c * area, from + c * channel_stride(shape), area * sizeof(float));
    }
  }
}

void Session::run_columns(std::uint32_t first, std::uint32_t count, const float* const* inputs, float* const* outputs) {
  // Whole vectors of records, and no more: a handful need not pay for 64.
  const std::size_t stride = round_up(count, kernels_.width);
  for (std::size_t i = 0; i < program_.inputs.size(); ++i) {
    const std::size_t channels = program_.values[program_.inputs[i]].channels;
    kernels_.transpose(inputs[i] + first * channels, count, channels, channels, values_[program_.inputs[i]], stride);
  }
  const Workspace workspace = {values_, base_ + round_up(column_floats_, kLine) + kMargin};
  run_steps([&](const Step& step) { step.run_columns(workspace, stride, count); });
  for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
    const std::size_t channels = program_.values[program_.outputs[i]].channels;
    kernels_.transpose(values_[program_.outputs[i]], channels, count, stride, outputs[i] + first * channels, channels);
  }
}

}  // namespace sctool
