// How many threads a session takes that a host (ExecuTorch, ONNX Runtime) loads: neither has a way to tell.
#pragma once

#include <cstdint>

namespace sctool {

std::uint32_t hosted_threads();
void set_hosted_threads(std::uint32_t threads);

}  // namespace sctool
