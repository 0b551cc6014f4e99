// Reads a payload; its format is in README.md beside this folder.
#pragma once

#include <cstddef>

#include "program.h"

namespace sctool {

// Every count is held against the bytes that are left before anything is allocated for it.
// What the program keeps of `bytes` it borrows: they must be there until a Session is made of it, which finds out whether
// the positions of sparse weights are sound. Throws PayloadError.
Program read_payload(const void* bytes, std::size_t size);

}  // namespace sctool
