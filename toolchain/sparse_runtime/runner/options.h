// What the runner is asked to do, and how it says no.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sctool::runner {

enum Exit { kUsage = 2, kFiles = 3, kRuntime = 4, kModel = 5 };
struct Options {
  std::string model, input, output, isa, trace;
  std::vector<std::int64_t> shape;
  bool steps = false;
  long batch = 1, threads = 1, warm_up = 0, iterations = 0, warm_loads = 0;
};

// One line on stderr, and the end of the process.
[[noreturn]] void fail(Exit code, const std::string& what);

// Fails on anything that is no option, or out of its range.
Options parse(int count, char** words);

}  // namespace sctool::runner
