// libFuzzer: any bytes are a session that answers, or an error; a program's payload is looked for first.
#include <cstdint>
#include <vector>

#include "program_file.h"
#include "sctool_sparse.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  char error[200];
  if (sctool::is_program_file(data, size)) {
    try {
      const sctool::ProgramFile found = sctool::read_program_file(data, size);
      data += found.offset;
      size = found.size;
    } catch (const sctool::ProgramFileError&) {
      return 0;
    }
  }
  sctool_session* session = sctool_sparse_load(data, size, nullptr, error, sizeof error);
  if (session == nullptr) return 0;
  constexpr std::uint32_t kBatch = 8;  // enough for columns
  constexpr std::uint64_t kMost = 1 << 16;  // floats: what is larger loads, and is not run here
  std::vector<std::vector<float>> held;
  std::vector<const float*> inputs;
  std::vector<float*> outputs;
  bool small = true;
  for (std::uint32_t i = 0; i < sctool_sparse_inputs(session) && small; ++i) {
    small = sctool_sparse_input_floats(session, i) <= kMost;
    if (small) held.emplace_back(sctool_sparse_input_floats(session, i) * kBatch, 0.5f);
  }
  const std::size_t count = held.size();
  for (std::uint32_t i = 0; i < sctool_sparse_outputs(session) && small; ++i) {
    small = sctool_sparse_output_floats(session, i) <= kMost;
    if (small) held.emplace_back(sctool_sparse_output_floats(session, i) * kBatch);
  }
  if (small) {
    for (std::size_t i = 0; i < held.size(); ++i) {
      if (i < count) inputs.push_back(held[i].data());
      else outputs.push_back(held[i].data());
    }
    // Linear layers take the layout of the first call.
    const std::uint32_t first = size % 2 == 0 ? 1 : kBatch;
    sctool_sparse_run(session, first, inputs.data(), outputs.data(), error, sizeof error);
    sctool_sparse_run(session, 1 + kBatch - first, inputs.data(), outputs.data(), error, sizeof error);
  }
  sctool_sparse_free(session);
  return 0;
}
