#include "kernels/sequence.h"

namespace sctool {

const SequenceKernels& find_sequence([[maybe_unused]] const Kernels& kernels) {
#if defined(SCTOOL_HAVE_X86_KERNELS)
  if (&kernels == &avx512_kernels()) return avx512_sequence();
  if (&kernels == &avx2_kernels()) return avx2_sequence();
#endif
  return portable_sequence();
}

}  // namespace sctool
