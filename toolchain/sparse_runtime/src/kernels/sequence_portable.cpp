#define SCTOOL_WIDTH 4
#define SCTOOL_SEQUENCE_TABLE portable_sequence
#include "kernels/sequence_body.h"
