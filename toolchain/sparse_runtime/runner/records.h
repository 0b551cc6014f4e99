// The records that a program answers for, and its answers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "options.h"
#include "sctool_sparse.h"

namespace sctool::runner {

// Records [batch, ...] of each input, one input after another, and room for the answers to one call.
class Records {
 public:
  // Reads options.input, or makes `batch` records of zeros where there is none.
  Records(const sctool_session* session, const Options& options, std::uint32_t batch);

  std::uint64_t count() const { return count_; }

  // Runs the `now` records from `first` on, between the marks of the instruction counter.
  void call(sctool_session* session, std::uint64_t first, std::uint32_t now);

  // All records, in calls of a batch; the answers to each output go to `path`, one output after another.
  void answer_all(sctool_session* session, const std::string& path);

 private:
  std::uint32_t batch_;
  std::uint64_t floats_ = 0, count_ = 0;  // of one record; records
  std::vector<std::uint64_t> sizes_, widths_;  // floats of one record of each input and output
  std::vector<float> values_;
  std::vector<std::vector<float>> answers_;
};

}  // namespace sctool::runner
