// The shared library is the core as a whole; CMake wants a source of its own for it.
#include "sctool_sparse.h"
