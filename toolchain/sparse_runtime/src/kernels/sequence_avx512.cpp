#define SCTOOL_WIDTH 16
#define SCTOOL_SEQUENCE_TABLE avx512_sequence
#include "kernels/sequence_body.h"
