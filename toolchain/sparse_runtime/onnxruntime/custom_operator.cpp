// The ONNX Runtime operator ai.sctool::SparseProgram (version 1): any number of float32 inputs [B, ...] and outputs
// [B, ...], and one attribute, the string `payload`.
//
// Links against nothing of ONNX Runtime, which hands its functions to RegisterCustomOps.
#include <algorithm>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "hosted_threads.h"
#include "onnxruntime/ort_interface.h"
#include "payload.h"
#include "sctool_sparse.h"
#include "session.h"

namespace sctool {
namespace {

constexpr char kDomain[] = "ai.sctool";

// An ONNX Runtime call that failed; carries its status.
struct Failed {
  ort::Status* status;
};

void require(ort::Status* status) {
  if (status != nullptr) throw Failed{status};
}

class SparseProgram {
 public:
  SparseProgram(ort::Api api, const ort::KernelInfo* info) : api_(api), session_(load(api, info)) {}

  // Throws Failed, std::exception.
  void run(ort::KernelContext* context) {
    const Program& program = session_.program();
    std::size_t inputs = 0, outputs = 0;
    require(ort::input_count(api_, context, &inputs));
    require(ort::output_count(api_, context, &outputs));
    if (inputs != program.inputs.size() || outputs != program.outputs.size()) {
      refuse("the payload has " + std::to_string(program.inputs.size()) + " inputs and " +
             std::to_string(program.outputs.size()) + " outputs, the node " + std::to_string(inputs) + " and " +
             std::to_string(outputs));
    }
    std::vector<const float*> from;
    std::int64_t batch = 0;
    for (std::size_t i = 0; i < inputs; ++i) {
      const ort::Value* value = nullptr;
      require(ort::input(api_, context, i, &value));
      const std::int64_t records = records_in(value, program.values[program.inputs[i]]);
      if (i > 0 && records != batch) refuse("inputs of unequal batches");
      batch = records;
      from.push_back(data_of(value));
    }
    std::vector<float*> to;
    for (const std::uint16_t id : program.outputs) {
      const std::vector<std::int64_t> sides = sides_of(program.values[id], batch);
      ort::Value* value = nullptr;
      require(ort::output(api_, context, to.size(), sides.data(), sides.size(), &value));
      to.push_back(data_of(value));
    }
    const std::lock_guard<std::mutex> lock(running_);  // one arena: calls from several threads take turns
    std::vector<const float*> at = from;
    std::vector<float*> place = to;
    for (std::int64_t first = 0; first < batch;) {
      const std::int64_t count = std::min<std::int64_t>(batch - first, program.max_batch);
      session_.run(static_cast<std::uint32_t>(count), at.data(), place.data());
      for (std::size_t i = 0; i < at.size(); ++i) at[i] += count * program.values[program.inputs[i]].elements();
      for (std::size_t i = 0; i < place.size(); ++i) place[i] += count * program.values[program.outputs[i]].elements();
      first += count;
    }
  }

 private:
  [[noreturn]] static void refuse(const std::string& what) { throw PayloadError("SparseProgram: " + what); }

  static Session load(ort::Api api, const ort::KernelInfo* info) {
    std::size_t size = 0;
    require(ort::string_attribute(api, info, "payload", nullptr, &size));
    std::string payload(size, '\0');
    require(ort::string_attribute(api, info, "payload", &payload[0], &size));
    return Session(read_payload(payload.data(), size == 0 ? 0 : size - 1), *find_kernels(nullptr),
                   hosted_threads());
  }

  static std::vector<std::int64_t> sides_of(const Shape& shape, std::int64_t batch) {
    switch (shape.form) {
      case Form::kVector: return {batch, shape.channels};
      case Form::kLine: return {batch, shape.channels, shape.width};
      case Form::kTokens: return {batch, shape.width, shape.channels};
      default: return {batch, shape.channels, shape.height, shape.width};
    }
  }

  // The batch of a tensor whose records have `shape`.
  std::int64_t records_in(const ort::Value* value, const Shape& shape) const {
    ort::TensorInfo* made = nullptr;
    require(ort::tensor_info(api_, value, &made));
    const auto release = [this](ort::TensorInfo* info) { ort::release_tensor_info(api_, info); };
    const std::unique_ptr<ort::TensorInfo, decltype(release)> info(made, release);
    int type = 0;
    std::size_t rank = 0;
    require(ort::element_type(api_, made, &type));
    require(ort::dimension_count(api_, made, &rank));
    std::vector<std::int64_t> sides(rank);
    require(ort::dimensions(api_, made, sides.data(), rank));
    // A line [B, C, L] and a map [B, C, 1, L] are the same.
    std::int64_t record = 1;
    for (std::size_t i = 1; i < rank; ++i) record *= sides[i];
    if (type != ort::kFloat || rank == 0 || record != static_cast<std::int64_t>(shape.elements())) {
      refuse("an input of another type or shape than the payload's");
    }
    return sides[0];
  }

  float* data_of(const ort::Value* value) const {
    float* data = nullptr;
    require(ort::tensor_data(api_, value, &data));
    return data;
  }

  ort::Api api_;
  Session session_;
  std::mutex running_;
};

// What `body` throws, as a status of ONNX Runtime's; `code`: of what does not fit the payload.
template <typename Body>
ort::Status* guard(ort::Api api, ort::Code code, Body body) {
  try {
    body();
    return nullptr;
  } catch (const Failed& failed) {
    return failed.status;
  } catch (const PayloadError& error) {
    return ort::make_status(api, code, error.what());
  } catch (const std::exception& error) {
    return ort::make_status(api, ort::kFail, error.what());
  }
}

struct Kernel {
  ort::Api api;
  SparseProgram program;
};

const ort::CustomOperator& sparse_program() {
  static const ort::CustomOperator op = [] {
    using ort::CustomOperator;
    CustomOperator made = {};
    made.version = ort::kApiVersion;
    made.name = [](const CustomOperator*) { return "SparseProgram"; };
    made.provider = [](const CustomOperator*) -> const char* { return nullptr; };
    made.input_type = made.output_type = [](const CustomOperator*, std::size_t) -> int { return ort::kFloat; };
    made.input_type_count = made.output_type_count = [](const CustomOperator*) -> std::size_t { return 1; };
    made.input_characteristic = made.output_characteristic = [](const CustomOperator*, std::size_t) -> int {
      return ort::kVariadic;
    };
    made.input_memory = [](const CustomOperator*, std::size_t) { return 0; };
    made.fewest_inputs = made.fewest_outputs = [](const CustomOperator*) { return 1; };
    made.inputs_of_one_type = made.outputs_of_one_type = [](const CustomOperator*) { return 1; };
    made.create_kernel_checked = [](const CustomOperator*, ort::Api api, const ort::KernelInfo* info, void** kernel) {
      return guard(api, ort::kInvalidGraph, [&] { *kernel = new Kernel{api, SparseProgram(api, info)}; });
    };
    made.compute_checked = [](void* kernel, ort::KernelContext* context) {
      auto* made_kernel = static_cast<Kernel*>(kernel);
      return guard(made_kernel->api, ort::kInvalidArgument, [&] { made_kernel->program.run(context); });
    };
    made.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    return made;
  }();
  return op;
}

}  // namespace
}  // namespace sctool

extern "C" SCTOOL_EXPORT sctool::ort::Status* RegisterCustomOps(sctool::ort::Options* options,
                                                                const sctool::ort::ApiBase* base) {
  using namespace sctool::ort;
  const Api api = base->get_api(kApiVersion);
  if (api == nullptr) {
    return make_status(base->get_api(1), kFail, "ai.sctool::SparseProgram needs ONNX Runtime 1.16 or later");
  }
  // Made once and never released: sessions refer to it for as long as they live.
  static std::mutex making;
  static Domain* domain = nullptr;
  const std::lock_guard<std::mutex> lock(making);
  if (domain == nullptr) {
    Domain* made = nullptr;
    if (Status* status = create_domain(api, sctool::kDomain, &made)) return status;
    if (Status* status = add_operator(api, made, &sctool::sparse_program())) return status;
    domain = made;
  }
  return add_domain(api, options, domain);
}
