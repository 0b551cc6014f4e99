#include "kernels/quantised.h"

namespace sctool {

const QuantisedKernels* find_quantised([[maybe_unused]] const Kernels& kernels) {
#if defined(SCTOOL_HAVE_X86_KERNELS)
  if (&kernels == &avx512_kernels() && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni")) {
    return &avx512_quantised();
  }
#endif
  return nullptr;
}

}  // namespace sctool
