// How a record's numbers become bytes: one scale for the whole input of a layer, found as it runs (ONNX's
// DynamicQuantizeLinear): byte = round(x / scale) + zero, the range of x with zero in it being 0 ... 255.
#pragma once

#include <cstdint>

#include "kernels/quantised.h"

namespace sctool {

struct InputScale {
  float scale, inverse;
  float zero;  // a whole number
};

constexpr float kLeastRange = 1e-30f;  // below, all is zero

// With an infinity or NaN the scale is NaN, and so is all that is made with it.
InputScale scale_of(const Range& range);

}  // namespace sctool
