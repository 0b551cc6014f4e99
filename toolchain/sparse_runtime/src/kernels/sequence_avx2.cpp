#define SCTOOL_WIDTH 8
#define SCTOOL_SEQUENCE_TABLE avx2_sequence
#include "kernels/sequence_body.h"
