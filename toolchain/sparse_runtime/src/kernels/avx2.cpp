// Compiled with -mavx2 -mfma.
#define SCTOOL_WIDTH 8
#define SCTOOL_ACCUMULATORS 8
#define SCTOOL_SHIFTED_ACCUMULATORS 8
#define SCTOOL_DENSE_VECTORS 2
#define SCTOOL_NAME "avx2"
#define SCTOOL_TABLE avx2_kernels
#include "kernels/body.h"
