// The part of ONNX Runtime's C interface that a custom operator calls or fills in.
//
// Kept by hand, as device_runner/ort_api.h is, so that a build needs no package with ONNX Runtime's headers: functions are
// named by their position in struct OrtApi, frozen since API version 1, and struct OrtCustomOp has the fields of API
// version 16 (ONNX Runtime 1.16), of which a later runtime reads no more than its `version` says. Source:
// onnxruntime_c_api.h, structs OrtApi and OrtCustomOp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sctool::ort {

constexpr std::uint32_t kApiVersion = 16;

struct Status;       // null: success
struct Options;      // OrtSessionOptions
struct Domain;       // OrtCustomOpDomain
struct KernelInfo;
struct KernelContext;
struct Value;
struct TensorInfo;   // OrtTensorTypeAndShapeInfo

enum Code : int { kFail = 1, kInvalidArgument = 2, kInvalidGraph = 10 };
enum ElementType : int { kFloat = 1 };
enum Characteristic : int { kRequired = 0, kVariadic = 2 };

using Function = void (*)();
using Api = const Function*;  // struct OrtApi is a table of functions

struct ApiBase {
  Api (*get_api)(std::uint32_t version);
  const char* (*version)();
};

template <typename Signature>
Signature* function_at(Api api, std::size_t position) {
  return reinterpret_cast<Signature*>(api[position]);
}

inline Status* make_status(Api api, Code code, const char* message) {
  return function_at<Status*(int, const char*)>(api, 0)(code, message);
}
inline Status* create_domain(Api api, const char* name, Domain** domain) {
  return function_at<Status*(const char*, Domain**)>(api, 26)(name, domain);
}
inline Status* add_operator(Api api, Domain* domain, const struct CustomOperator* op) {
  return function_at<Status*(Domain*, const struct CustomOperator*)>(api, 27)(domain, op);
}
inline Status* add_domain(Api api, Options* options, Domain* domain) {
  return function_at<Status*(Options*, Domain*)>(api, 28)(options, domain);
}
inline Status* tensor_data(Api api, const Value* value, float** data) {
  return function_at<Status*(const Value*, float**)>(api, 51)(value, data);
}
inline Status* element_type(Api api, const TensorInfo* info, int* type) {
  return function_at<Status*(const TensorInfo*, int*)>(api, 60)(info, type);
}
inline Status* dimension_count(Api api, const TensorInfo* info, std::size_t* count) {
  return function_at<Status*(const TensorInfo*, std::size_t*)>(api, 61)(info, count);
}
inline Status* dimensions(Api api, const TensorInfo* info, std::int64_t* sides, std::size_t count) {
  return function_at<Status*(const TensorInfo*, std::int64_t*, std::size_t)>(api, 62)(info, sides, count);
}
inline Status* tensor_info(Api api, const Value* value, TensorInfo** info) {
  return function_at<Status*(const Value*, TensorInfo**)>(api, 65)(value, info);
}
// With `text` null, `size` is what it takes, the zero at its end included.
inline Status* string_attribute(Api api, const KernelInfo* info, const char* name, char* text, std::size_t* size) {
  return function_at<Status*(const KernelInfo*, const char*, char*, std::size_t*)>(api, 87)(info, name, text, size);
}
inline Status* input_count(Api api, const KernelContext* context, std::size_t* count) {
  return function_at<Status*(const KernelContext*, std::size_t*)>(api, 88)(context, count);
}
inline Status* output_count(Api api, const KernelContext* context, std::size_t* count) {
  return function_at<Status*(const KernelContext*, std::size_t*)>(api, 89)(context, count);
}
inline Status* input(Api api, const KernelContext* context, std::size_t index, const Value** value) {
  return function_at<Status*(const KernelContext*, std::size_t, const Value**)>(api, 90)(context, index, value);
}
inline Status* output(Api api, KernelContext* context, std::size_t index, const std::int64_t* sides, std::size_t count,
                      Value** value) {
  return function_at<Status*(KernelContext*, std::size_t, const std::int64_t*, std::size_t, Value**)>(api, 91)(
      context, index, sides, count, value);
}
inline void release_status(Api api, Status* status) { function_at<void(Status*)>(api, 93)(status); }
inline void release_tensor_info(Api api, TensorInfo* info) { function_at<void(TensorInfo*)>(api, 99)(info); }

// struct OrtCustomOp, the fields of API version 16 in their order.
struct CustomOperator {
  std::uint32_t version;
  void* (*create_kernel)(const CustomOperator*, Api, const KernelInfo*);
  const char* (*name)(const CustomOperator*);
  const char* (*provider)(const CustomOperator*);
  int (*input_type)(const CustomOperator*, std::size_t);
  std::size_t (*input_type_count)(const CustomOperator*);
  int (*output_type)(const CustomOperator*, std::size_t);
  std::size_t (*output_type_count)(const CustomOperator*);
  void (*compute)(void* kernel, KernelContext*);
  void (*destroy)(void* kernel);
  int (*input_characteristic)(const CustomOperator*, std::size_t);
  int (*output_characteristic)(const CustomOperator*, std::size_t);
  int (*input_memory)(const CustomOperator*, std::size_t);
  int (*fewest_inputs)(const CustomOperator*);
  int (*inputs_of_one_type)(const CustomOperator*);
  int (*fewest_outputs)(const CustomOperator*);
  int (*outputs_of_one_type)(const CustomOperator*);
  Status* (*create_kernel_checked)(const CustomOperator*, Api, const KernelInfo*, void** kernel);
  Status* (*compute_checked)(void* kernel, KernelContext*);
  Function later[9] = {};  // of later versions; null: not there
};

}  // namespace sctool::ort
