// Vectors of 16 bytes: NEON on Arm, SSE on x86, whatever the compiler makes of them elsewhere.
#define SCTOOL_WIDTH 4
#if defined(__aarch64__)
#define SCTOOL_ACCUMULATORS 16
#define SCTOOL_DENSE_VECTORS 4
#define SCTOOL_NAME "neon"
#else
#define SCTOOL_ACCUMULATORS 8
#define SCTOOL_DENSE_VECTORS 2
#define SCTOOL_NAME "portable"
#endif
#define SCTOOL_SHIFTED_ACCUMULATORS 8
#define SCTOOL_TABLE portable_kernels
#include "kernels/body.h"
