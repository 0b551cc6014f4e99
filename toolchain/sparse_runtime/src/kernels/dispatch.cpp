#include <cstring>

#include "kernels/kernels.h"

namespace sctool {

const Kernels* find_kernels(const char* name) {
  const Kernels* found[3];
  int count = 0;
#if defined(SCTOOL_HAVE_X86_KERNELS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")) {
    found[count++] = &avx512_kernels();
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found[count++] = &avx2_kernels();
#endif
  found[count++] = &portable_kernels();
  if (name == nullptr || *name == '\0') return found[0];
  for (int i = 0; i < count; ++i) {
    if (std::strcmp(found[i]->name, name) == 0) return found[i];
  }
  return nullptr;
}

}  // namespace sctool
