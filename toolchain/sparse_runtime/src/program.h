// A payload after reading: values, operators and their weights, all checked against each other.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/sequence.h"
#include "payload_error.h"
#include "stored_matrix.h"

namespace sctool {

// How the caller writes a record; the numbers are the payload's.
enum class Form : std::uint8_t {
  kVector = 1,  // [channels]
  kLine = 2,    // [channels, width]
  kMap = 3,     // [channels, height, width]
  kTokens = 4,  // [width, channels]
};

// One record: [channels, height, width], or [channels] with spatial false. In memory tokens are a map of height one, and
// equal to a line: the channels of each token lie `width` apart.
struct Shape {
  std::uint32_t channels = 0, height = 1, width = 1;
  bool spatial = false;
  Form form = Form::kVector;

  std::uint64_t area() const { return static_cast<std::uint64_t>(height) * width; }
  std::uint64_t elements() const { return channels * area(); }
  bool operator==(const Shape& other) const {
    return channels == other.channels && height == other.height && width == other.width && spatial == other.spatial;
  }
};

// A matrix [rows, columns]: all its `values` row by row, or, sparse, `entries` that are still as the payload has them.
struct Matrix {
  bool sparse = false;
  std::uint32_t rows = 0, columns = 0;
  std::vector<float> values;
  StoredEntries entries;
  std::vector<float> row_scales;  // of a quantised one, which is sparse: its values are int8, to be multiplied by these

  bool quantised() const { return !row_scales.empty(); }

  // Weights that are multiplied for each output.
  std::size_t stored() const { return sparse ? entries.count : values.size(); }

  EntryReader read() const { return EntryReader(entries, rows, columns); }
};

enum class OpKind : std::uint8_t {
  kConvolution = 1,
  kLinear = 2,
  kAdd = 3,
  kActivation = 4,
  kMaxPool = 5,
  kAveragePool = 6,
  kGlobalMean = 7,
  kConcat = 8,
  kFlatten = 9,
  kUnary = 10,
  kMultiply = 11,
  kLayerNorm = 12,
};

constexpr std::uint16_t kNoValue = 0xFFFF;

struct Window {
  std::uint32_t height = 1, width = 1, stride = 1, pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
};

struct Op {
  OpKind kind = OpKind::kFlatten;
  std::vector<std::uint16_t> inputs;
  std::uint16_t output = kNoValue;
  std::uint16_t residual = kNoValue;
  Activation activation = Activation::kNone;
  Window window;
  std::uint32_t groups = 1;
  Matrix weights;
  std::vector<float> bias;
  Unary unary = Unary::kHardSigmoid;
  std::vector<float> scale;  // of a layer norm, whose shift is `bias`
  float epsilon = 0.0f;      // of a layer norm
};

// Its sparse weights borrow the payload's bytes until a Session has taken them.
struct Program {
  std::uint32_t max_batch = 1;
  std::vector<Shape> values;
  std::vector<std::uint16_t> inputs, outputs;
  std::vector<Op> ops;
};

}  // namespace sctool
