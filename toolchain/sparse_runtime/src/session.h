// A program ready to run: its steps, and the memory that they work in.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernels.h"
#include "layout_choice.h"
#include "pool.h"
#include "step.h"

namespace sctool {

class Session {
 public:
  // Builds the steps and takes the weights out of `program`. Throws PayloadError, std::bad_alloc.
  // `threads` counts the caller of `run`; one record is cut where its steps allow, a batch by records. Throws
  // std::system_error too.
  Session(Program program, const Kernels& kernels, std::uint32_t threads = 1);

  // Dense float32 [batch, ...] in and out, 1 <= batch <= max_batch. Not for two threads at once.
  void run(std::uint32_t batch, const float* const* inputs, float* const* outputs);

  const Program& program() const { return program_; }
  const Kernels& kernels() const { return kernels_; }
  std::size_t weight_bytes() const;

  // From now on every step's fastest run is kept, in nanoseconds, in the program's order.
  void time_steps() { step_ns_.assign(steps_.size(), 0); }
  const std::vector<std::int64_t>& step_ns() const { return step_ns_; }

 private:
  void plan(std::size_t floats_of(const Shape&), std::vector<std::size_t>& offsets, std::size_t& total) const;
  // What one thread works in.
  struct Arena {
    std::vector<float> floats;
    float* base = nullptr;
    float* scratch = nullptr;
    std::vector<float*> values;

    void point(const std::vector<std::size_t>& offsets, std::size_t total, std::size_t scratch_floats);
  };
  template <typename RunStep>
  void run_steps(RunStep run_step);
  void run_record(const Arena& arena, bool alone, std::uint32_t record, const float* const* inputs, float* const* outputs);
  void run_columns(const Arena& arena, std::uint32_t first, std::uint32_t count, const float* const* inputs, float* const* outputs);

  const Kernels& kernels_;
  Program program_;
  std::vector<StepPtr> steps_;
  bool columns_;  // whether all steps take them
  LayoutChoice layout_;
  bool laid_out_ = true, laid_out_by_columns_ = false;  // whether all steps hold one layout, and which
  std::size_t scratch_floats_ = 0;
  std::vector<std::size_t> record_offsets_, column_offsets_;
  std::size_t record_floats_ = 0, column_floats_ = 0;
  std::unique_ptr<Pool> pool_;
  std::vector<Arena> arenas_;           // one for each thread
  std::vector<std::int64_t> step_ns_;  // empty: not timed
};

}  // namespace sctool
