#include "input_scale.h"

#include <cmath>
#include <limits>

namespace sctool {

InputScale scale_of(const Range& range) {
  if (std::isnan(range.broken)) return {std::numeric_limits<float>::quiet_NaN(), 0.0f, 0.0f};
  const float length = range.high - range.low;
  if (!(length >= kLeastRange)) return {0.0f, 0.0f, 0.0f};
  const float inverse = 255.0f / length;
  return {length / 255.0f, inverse, static_cast<float>(std::lrint(-range.low * inverse))};
}

}  // namespace sctool
