#include "payload.h"

#include <cstring>

#include "payload_matrix.h"
#include "payload_reader.h"

namespace sctool {
namespace {

constexpr std::uint32_t kUnchecked = 1, kChecked = 2;  // versions: without and with a checksum
constexpr std::uint64_t kMostElements = std::uint64_t{1} << 26;  // of one value
constexpr std::uint64_t kMostInAll = std::uint64_t{1} << 28;  // floats of all values together
constexpr std::uint64_t kMostExpanded = std::uint64_t{1} << 28;
constexpr std::uint32_t kMostSide = 16384, kMostChannels = 65534, kMostKernel = 31, kMostStride = 8;

Shape read_shape(PayloadReader& reader) {
  Shape shape;
  const std::uint8_t form = reader.number<std::uint8_t>();
  require(form >= 1 && form <= 4, "a value is neither [F], [C, L], [C, H, W] nor [T, F]");
  shape.form = static_cast<Form>(form);
  shape.spatial = shape.form != Form::kVector;
  if (shape.form == Form::kTokens) shape.width = reader.number<std::uint32_t>();
  shape.channels = reader.number<std::uint32_t>();
  if (shape.form == Form::kMap) shape.height = reader.number<std::uint32_t>();
  if (shape.form == Form::kMap || shape.form == Form::kLine) shape.width = reader.number<std::uint32_t>();
  require(shape.channels >= 1 && shape.height >= 1 && shape.width >= 1, "a value without elements");
  require(shape.height <= kMostSide && shape.width <= kMostSide, "a value with a side over 16384");
  require(shape.channels <= kMostElements && shape.elements() <= kMostElements, "a value of more than 2^26 elements");
  return shape;
}

Window read_window(PayloadReader& reader) {
  Window window;
  std::uint32_t* fields[] = {&window.height,     &window.width,    &window.stride,    &window.pad_top,
                             &window.pad_left,   &window.pad_bottom, &window.pad_right};
  for (std::uint32_t* field : fields) *field = reader.number<std::uint8_t>();
  require(window.height >= 1 && window.width >= 1 && window.height <= kMostKernel && window.width <= kMostKernel,
          "a kernel side outside 1 ... 31");
  require(window.stride >= 1 && window.stride <= kMostStride, "a stride outside 1 ... 8");
  require(window.pad_top < window.height && window.pad_bottom < window.height && window.pad_left < window.width &&
              window.pad_right < window.width,
          "padding as large as its kernel");
  return window;
}

std::uint64_t slid(std::uint64_t side, std::uint32_t kernel, std::uint32_t stride, std::uint32_t before,
                   std::uint32_t after) {
  const std::uint64_t padded = side + before + after;
  return padded < kernel ? 0 : (padded - kernel) / stride + 1;
}

class ProgramReader {
 public:
  ProgramReader(const void* bytes, std::size_t size) : reader_(bytes, size) {}

  Program read() {
    const std::uint8_t* magic = reader_.take(4);
    if (std::memcmp(magic, "SCSP", 4) != 0) refuse("it does not begin with SCSP");
    const std::uint32_t version = reader_.number<std::uint32_t>();
    if (version != kUnchecked && version != kChecked) {
      refuse("version " + std::to_string(version) + "; this reader takes 1 and 2");
    }
    if (version == kChecked) {
      const std::uint64_t sum = reader_.number<std::uint64_t>();
      require(sum == reader_.checksum(), "its checksum does not fit, it is damaged");
    }
    program_.max_batch = reader_.number<std::uint32_t>();
    require(program_.max_batch >= 1 && program_.max_batch <= 1u << 20, "a batch outside 1 ... 2^20");
    const std::uint16_t values = reader_.number<std::uint16_t>();
    require(values != kNoValue, "65535 values");
    std::uint64_t all = 0;
    for (std::uint16_t i = 0; i < values; ++i) {
      program_.values.push_back(read_shape(reader_));
      // A channel takes whole vectors in memory.
      all += program_.values.back().spatial
                 ? program_.values.back().channels * (program_.values.back().area() + 64)
                 : program_.values.back().elements() + 64;
      require(all <= kMostInAll, "values of more than 2^28 floats in all");
    }
    known_.assign(values, false);
    program_.inputs = read_ids(false);
    for (const std::uint16_t id : program_.inputs) {
      require(!known_[id], "an input that is listed twice");
      known_[id] = true;
    }
    const std::uint16_t ops = reader_.number<std::uint16_t>();
    for (std::uint16_t i = 0; i < ops; ++i) program_.ops.push_back(read_op());
    program_.outputs = read_ids(true);
    require(!program_.inputs.empty() && !program_.outputs.empty(), "no input or no output");
    require(reader_.left() == 0, "bytes after its end");
    return std::move(program_);
  }

 private:
  std::uint16_t read_id(bool known) {
    const std::uint16_t id = reader_.number<std::uint16_t>();
    require(id < program_.values.size(), "a value that does not exist");
    require(!known || known_[id], "a value is used before it is made");
    return id;
  }

  std::vector<std::uint16_t> read_ids(bool known) {
    const std::uint16_t count = reader_.number<std::uint16_t>();
    require(std::uint64_t{count} * 2 <= reader_.left(), "more ids than bytes");
    std::vector<std::uint16_t> ids;
    for (std::uint16_t i = 0; i < count; ++i) ids.push_back(read_id(known));
    return ids;
  }

  const Shape& shape(std::uint16_t id) const { return program_.values[id]; }

  Op read_op() {
    Op op;
    op.kind = static_cast<OpKind>(reader_.number<std::uint8_t>());
    const std::uint8_t activation = reader_.number<std::uint8_t>();
    require(activation <= static_cast<std::uint8_t>(Activation::kHardSwish), "an unknown activation");
    op.activation = static_cast<Activation>(activation);
    op.inputs = read_ids(true);
    op.output = read_id(false);
    require(!known_[op.output], "a value is made twice");
    require(!op.inputs.empty(), "an operator without input");
    require(op.kind == OpKind::kConcat || op.inputs.size() == inputs_of(op.kind), "an operator with a wrong number of inputs");
    const Shape& in = shape(op.inputs[0]);
    const Shape& out = shape(op.output);
    switch (op.kind) {
      case OpKind::kConvolution: read_convolution(op, in, out); break;
      case OpKind::kLinear: read_linear(op, in, out); break;
      case OpKind::kAdd: require(in == out && shape(op.inputs[1]) == out, "an addition of unequal shapes"); break;
      case OpKind::kActivation: require(in == out, "an activation that changes the shape"); break;
      case OpKind::kMaxPool:
      case OpKind::kAveragePool: read_pool(op, in, out); break;
      case OpKind::kGlobalMean:
        require(in.spatial && out.channels == in.channels && out.area() == 1, "a mean with a wrong shape");
        break;
      case OpKind::kConcat: check_concat(op, out); break;
      case OpKind::kFlatten:
        require(in.spatial && !out.spatial && out.elements() == in.elements(), "a flattening with a wrong shape");
        break;
      case OpKind::kUnary: read_unary(op, in, out); break;
      case OpKind::kMultiply: check_multiply(op, in, out); break;
      case OpKind::kLayerNorm: read_layer_norm(op, in, out); break;
      default: refuse("an operator of kind " + std::to_string(static_cast<int>(op.kind)));
    }
    known_[op.output] = true;
    return op;
  }

  static std::size_t inputs_of(OpKind kind) {
    switch (kind) {
      case OpKind::kAdd:
      case OpKind::kMultiply: return 2;
      default: return 1;
    }
  }

  std::vector<float> read_floats(std::uint32_t count) {
    const std::uint8_t* from = reader_.take(std::uint64_t{count} * 4);
    std::vector<float> floats(count);
    std::memcpy(floats.data(), from, std::size_t{count} * 4);
    return floats;
  }

  float read_float() { return read_floats(1)[0]; }

  void read_bias(Op& op, std::uint32_t rows) {
    const std::uint8_t there = reader_.number<std::uint8_t>();
    require(there <= 1, "a bias that is neither there nor not");
    if (there == 1) op.bias = read_floats(rows);
  }

  void read_unary(Op& op, const Shape& in, const Shape& out) {
    require(in == out, "a function that changes the shape");
    const std::uint8_t function = reader_.number<std::uint8_t>();
    require(function <= static_cast<std::uint8_t>(Unary::kGeluTanh), "an unknown function");
    op.unary = static_cast<Unary>(function);
  }

  // The second factor is as large as the first, or one number for each channel.
  void check_multiply(const Op& op, const Shape& in, const Shape& out) {
    const Shape& factor = shape(op.inputs[1]);
    const bool whole = factor == in, by_channel = factor.area() == 1 && factor.channels == in.channels && in.spatial;
    require(in == out && (whole || by_channel), "a multiplication of unequal shapes");
  }

  void read_layer_norm(Op& op, const Shape& in, const Shape& out) {
    require(in == out, "a layer norm that changes the shape");
    op.epsilon = read_float();
    require(op.epsilon >= 0.0f && op.epsilon <= 1.0f, "a layer norm whose epsilon lies outside 0 ... 1");
    op.scale = read_floats(in.channels);
    op.bias = read_floats(in.channels);
  }

  void check_window(const Window& window, const Shape& in, const Shape& out) {
    require(in.spatial && out.spatial, "a window over a vector");
    require(slid(in.height, window.height, window.stride, window.pad_top, window.pad_bottom) == out.height &&
                slid(in.width, window.width, window.stride, window.pad_left, window.pad_right) == out.width,
            "a window whose output has another size");
  }

  void read_convolution(Op& op, const Shape& in, const Shape& out) {
    op.window = read_window(reader_);
    op.groups = reader_.number<std::uint32_t>();
    op.residual = reader_.number<std::uint16_t>();
    require(op.residual == kNoValue || (op.residual < program_.values.size() && known_[op.residual] &&
                                        shape(op.residual) == out),
            "a residual with a wrong shape");
    check_window(op.window, in, out);
    require(in.channels <= kMostChannels && out.channels <= kMostChannels, "a convolution of over 65534 channels");
    require(op.groups >= 1 && in.channels % op.groups == 0 && out.channels % op.groups == 0,
            "groups that do not divide the channels");
    op.weights = read_matrix(reader_, room_);
    const std::uint64_t taps = std::uint64_t{in.channels} / op.groups * op.window.height * op.window.width;
    require(op.weights.rows == out.channels && op.weights.columns == taps, "weights of a wrong shape");
    require(!op.weights.sparse || op.groups == 1, "sparse weights in groups");
    read_bias(op, out.channels);
  }

  void read_linear(Op& op, const Shape& in, const Shape& out) {
    require(!in.spatial && !out.spatial, "a linear layer over an image");
    op.weights = read_matrix(reader_, room_);
    require(op.weights.rows == out.channels && op.weights.columns == in.channels, "weights of a wrong shape");
    require(in.channels <= kMostChannels, "a linear layer of over 65534 inputs");
    require(!op.weights.sparse || out.channels <= kMostChannels, "a sparse linear layer of over 65534 outputs");
    read_bias(op, out.channels);
  }

  void read_pool(Op& op, const Shape& in, const Shape& out) {
    op.window = read_window(reader_);
    check_window(op.window, in, out);
    require(in.channels == out.channels, "a pool that changes the channels");
  }

  void check_concat(const Op& op, const Shape& out) {
    std::uint64_t channels = 0;
    for (const std::uint16_t id : op.inputs) {
      const Shape& part = shape(id);
      require(part.spatial == out.spatial && part.height == out.height && part.width == out.width,
              "a concatenation of unequal sizes");
      channels += part.channels;
    }
    require(channels == out.channels, "a concatenation with a wrong number of channels");
  }

  PayloadReader reader_;
  std::uint64_t room_ = kMostExpanded;
  Program program_;
  std::vector<bool> known_;
};

}  // namespace

Program read_payload(const void* bytes, std::size_t size) { return ProgramReader(bytes, size).read(); }

}  // namespace sctool
