// Compiled with -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma.
#define SCTOOL_WIDTH 16
#define SCTOOL_ACCUMULATORS 16
#define SCTOOL_SHIFTED_ACCUMULATORS 8
#define SCTOOL_DENSE_VECTORS 4
#define SCTOOL_NAME "avx512"
#define SCTOOL_TABLE avx512_kernels
#include "kernels/body.h"
