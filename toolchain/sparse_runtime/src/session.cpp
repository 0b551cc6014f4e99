#include "session.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "flush.h"
#include "layout.h"

namespace sctool {
namespace {

constexpr std::size_t kColumns = kMostColumns;
constexpr std::size_t kPage = 1024;       // floats
constexpr std::uint64_t kShare = 400'000;  // multiply-adds that a thread takes of one record of a convolution, at least

std::size_t column_floats(const Shape& shape) { return shape.channels * kColumns; }

std::size_t floats_of_record(const Shape& shape) { return record_floats(shape); }

// How many of `threads` one record of a convolution is worth: shared work is also a map that one processor writes and another
// reads, and a wait.
std::uint32_t worth(const Program& program, const Op& op, std::uint32_t threads) {
  const std::uint64_t work = op.weights.stored() * program.values[op.output].area();
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(work / kShare, 1, threads));
}

StepPtr make_step(const Program& program, Op& op, const Kernels& kernels, std::uint32_t threads) {
  if (op.weights.quantised()) return make_quantised(program, op, kernels, worth(program, op, threads));
  switch (op.kind) {
    case OpKind::kConvolution: return make_convolution(program, op, kernels, worth(program, op, threads));
    case OpKind::kLinear: return make_linear(program, op, kernels);
    case OpKind::kUnary:
    case OpKind::kMultiply:
    case OpKind::kLayerNorm: return make_sequence(program, op, kernels);
    default: return make_plain(program, op, kernels);
  }
}

}  // namespace

Session::Session(Program program, const Kernels& kernels, std::uint32_t threads)
    : kernels_(kernels), program_(std::move(program)), layout_(kernels), pool_(std::make_unique<Pool>(threads)), arenas_(threads) {
  columns_ = true;
  for (Op& op : program_.ops) {
    steps_.push_back(make_step(program_, op, kernels_, threads));
    op.weights = Matrix();
    scratch_floats_ = std::max(scratch_floats_, round_up(steps_.back()->scratch_floats(), kLine));
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
    // A processor takes a load for one of a store before it where their addresses agree in the last 4 KiB, and waits: what
    // an operator reads and what it writes begin half of that apart.
    const std::size_t apart = made[id] % 2 * kPage / 2;
    std::size_t begin = apart;
    for (const Taken& t : taken) {
      if (begin + size <= t.begin) break;
      if (begin < t.end) begin += round_up(t.end - begin, kPage);
    }
    taken.push_back({begin, begin + size, last[id]});
    offsets[id] = begin;
    total = std::max(total, begin + size);
  }
}

void Session::Arena::point(const std::vector<std::size_t>& offsets, std::size_t total, std::size_t scratch_floats) {
  const std::size_t wanted = total + scratch_floats + 4 * kMargin;
  if (floats.size() < wanted) {
    floats.assign(wanted, 0.0f);
    const auto address = reinterpret_cast<std::uintptr_t>(floats.data() + kMargin);
    base = floats.data() + kMargin + (64 - address % 64) % 64 / sizeof(float);
  }
  values.resize(offsets.size());
  for (std::size_t i = 0; i < offsets.size(); ++i) values[i] = base + offsets[i];
  scratch = base + round_up(total, kLine) + kMargin;
}

void Session::run(std::uint32_t batch, const float* const* inputs, float* const* outputs) {
  const FlushDenormals flush;
  const bool columns = columns_ && layout_.choose(batch);
  // Steps are timed on one thread, and a lone record is cut step by step.
  const std::uint32_t threads = step_ns_.empty() ? pool_->threads() : 1;
  const std::uint32_t share = static_cast<std::uint32_t>(round_up((batch + threads - 1) / threads, kernels_.width));
  const std::uint32_t piece = columns ? std::min<std::uint32_t>(kColumns, share) : 1;
  const std::uint32_t pieces = (batch + piece - 1) / piece, parts = std::min(threads, pieces);
  if (columns != laid_out_by_columns_ || !laid_out_) {
    laid_out_ = false;  // should one of them throw
    for (const StepPtr& step : steps_) step->lay_out(columns);
    laid_out_by_columns_ = columns;
    laid_out_ = true;
  }
  for (std::uint32_t part = 0; part < parts; ++part) {
    if (columns) arenas_[part].point(column_offsets_, column_floats_, scratch_floats_);
    else arenas_[part].point(record_offsets_, record_floats_, scratch_floats_ * (parts == 1 ? pool_->threads() : 1));
  }
  std::atomic<std::uint32_t> next{0};  // whoever is free takes a piece
  pool_->run(parts, [&](std::uint32_t part) {
    for (std::uint32_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) {
      const std::uint32_t first = i * piece;
      if (columns) run_columns(arenas_[part], first, std::min(piece, batch - first), inputs, outputs);
      else run_record(arenas_[part], parts == 1, first, inputs, outputs);
    }
  });
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

void Session::run_record(const Arena& arena, bool alone, std::uint32_t record, const float* const* inputs, float* const* outputs) {
  for (std::size_t i = 0; i < program_.inputs.size(); ++i) {
    const Shape& shape = program_.values[program_.inputs[i]];
    const auto area = static_cast<std::size_t>(shape.area());
    const float* from = inputs[i] + record * shape.elements();
    float* to = arena.values[program_.inputs[i]];
    if (!shape.spatial) {
      std::memcpy(to, from, shape.channels * sizeof(float));
      continue;
    }
    if (shape.form == Form::kTokens) {
      kernels_.transpose(from, shape.width, shape.channels, shape.channels, to, channel_stride(shape));
      continue;
    }
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      std::memcpy(to + c * channel_stride(shape), from + c * area, area * sizeof(float));
    }
  }
  const Workspace workspace = {arena.values, arena.scratch};
  run_steps([&](const Step& step) {
    const std::uint32_t parts = alone && step_ns_.empty() ? step.parts() : 1;
    if (parts == 1) return step.run(workspace);
    pool_->run(parts, [&](std::uint32_t part) { step.run_part({arena.values, arena.scratch + part * scratch_floats_}, part); });
  });
  for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
    const Shape& shape = program_.values[program_.outputs[i]];
    const auto area = static_cast<std::size_t>(shape.area());
    float* to = outputs[i] + record * shape.elements();
    const float* from = arena.values[program_.outputs[i]];
    if (!shape.spatial) {
      std::memcpy(to, from, shape.channels * sizeof(float));
      continue;
    }
    if (shape.form == Form::kTokens) {
      kernels_.transpose(from, shape.channels, shape.width, channel_stride(shape), to, shape.channels);
      continue;
    }
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      std::memcpy(to + c * area, from + c * channel_stride(shape), area * sizeof(float));
    }
  }
}

void Session::run_columns(const Arena& arena, std::uint32_t first, std::uint32_t count, const float* const* inputs, float* const* outputs) {
  // Whole vectors of records, and no more: a handful need not pay for 64.
  const std::size_t stride = round_up(count, kernels_.width);
  for (std::size_t i = 0; i < program_.inputs.size(); ++i) {
    const std::size_t channels = program_.values[program_.inputs[i]].channels;
    kernels_.transpose(inputs[i] + first * channels, count, channels, channels, arena.values[program_.inputs[i]], stride);
  }
  const Workspace workspace = {arena.values, arena.scratch};
  run_steps([&](const Step& step) { step.run_columns(workspace, stride, count); });
  for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
    const std::size_t channels = program_.values[program_.outputs[i]].channels;
    kernels_.transpose(arena.values[program_.outputs[i]], channels, count, stride, outputs[i] + first * channels, channels);
  }
}

}  // namespace sctool
