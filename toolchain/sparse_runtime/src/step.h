// One operator, ready to run: its weights in the layout that its kernel walks.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "kernels/kernels.h"
#include "program.h"

namespace sctool {

// What a step works on. `values` holds a pointer for each value id; `scratch` at least Step::scratch_floats() floats.
struct Workspace {
  const std::vector<float*>& values;
  float* scratch;
};

class Step {
 public:
  virtual ~Step() = default;

  // One record, in the layout of layout.h.
  virtual void run(const Workspace& workspace) const = 0;

  // Into how many parts one record's work falls that threads may take side by side, each with a scratch of its own. Part by
  // part they do what `run` does.
  virtual std::uint32_t parts() const { return 1; }
  virtual void run_part(const Workspace& workspace, std::uint32_t /*part*/) const { run(workspace); }

  // Whether run_columns exists.
  virtual bool takes_columns() const { return false; }

  // Holds the weights as run_columns walks them, or as run does, and no longer the other way: before the first of several
  // runs of that kind. A step that takes columns begins with the layout of `run`.
  virtual void lay_out(bool /*by_columns*/) {}

  // Many records of vectors: every value is [channels][stride], of which `columns` are records.
  virtual void run_columns(const Workspace&, std::size_t /*stride*/, std::size_t /*columns*/) const {}

  virtual std::size_t scratch_floats() const { return 0; }

  // Bytes of the weights and of what says where they belong.
  virtual std::size_t weight_bytes() const { return 0; }
};

using StepPtr = std::unique_ptr<Step>;

// Each takes the operator's weights. `program` gives the shapes.
StepPtr make_convolution(const Program& program, Op& op, const Kernels& kernels, std::uint32_t threads);
StepPtr make_depthwise(const Program& program, Op& op, const Kernels& kernels);
StepPtr make_linear(const Program& program, Op& op, const Kernels& kernels);
// An operator whose weights are quantised.
StepPtr make_quantised(const Program& program, Op& op, const Kernels& kernels, std::uint32_t threads);
StepPtr make_quantised_by_float(const Program& program, Op& op, const Kernels& kernels);
StepPtr make_sequence(const Program& program, Op& op, const Kernels& kernels);
StepPtr make_plain(const Program& program, Op& op, const Kernels& kernels);

}  // namespace sctool
