// The matrices of a payload.
#pragma once

#include <cstdint>

#include "payload_reader.h"
#include "program.h"

namespace sctool {

// `room`: floats that matrices of the program may still be expanded to beyond what they are stored as. Throws PayloadError.
Matrix read_matrix(PayloadReader& reader, std::uint64_t& room);

}  // namespace sctool
