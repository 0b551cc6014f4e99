// The kernels of one instruction set, written over the vector type. A kernel file defines SCTOOL_WIDTH,
// SCTOOL_ACCUMULATORS, SCTOOL_SHIFTED_ACCUMULATORS, SCTOOL_DENSE_VECTORS, SCTOOL_NAME and SCTOOL_TABLE and includes this.
#pragma once

#include "kernels/dense_tile.h"
#include "kernels/depthwise.h"
#include "kernels/linear.h"
#include "kernels/pack.h"
#include "kernels/plain.h"
#include "kernels/shifted_tile.h"
#include "kernels/sparse_tile.h"
#include "kernels/transpose.h"
#include "kernels/windowed.h"

namespace sctool {
namespace {

constexpr Kernels kTable = {
    SCTOOL_NAME, kWidth, kAccumulators, kShiftedAccumulators,
    sparse_tile, shifted_tile, dense_tile, depthwise_tile,
    pack_planes, pack_taps, split_phases,
    depthwise_shifted, depthwise_three, depthwise_three_halved,
    transpose, copy,
    sliced_rows, kWindowedRows, kAllFinite, dense_rows,
    add, activate, sum, spin,
};

}  // namespace

const Kernels& SCTOOL_TABLE() { return kTable; }

}  // namespace sctool
