// Finds the payload inside an ExecuTorch program (.pte) that is nothing but one part for the backend "SctoolSparse".
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace sctool {

// The file is damaged, or a program that needs more than the sparse runtime. The message says what was found.
class ProgramFileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Where the payload lies in the file, and the sides of the method's input [batch, ...], the batch being its largest.
struct ProgramFile {
  std::size_t offset = 0, size = 0;
  std::vector<std::int64_t> input;
};

bool is_program_file(const std::uint8_t* bytes, std::size_t size);

// Every offset is held against the file. The method `forward` must call the one delegate on its own inputs and outputs,
// in their order, and nothing else. Throws ProgramFileError.
ProgramFile read_program_file(const std::uint8_t* bytes, std::size_t size);

}  // namespace sctool
