// The ExecuTorch backend "SctoolSparse".
//
// It imports no symbol of ExecuTorch: the wheels keep them in libraries whose names change from version to version. Python
// looks the two functions up that are needed and hands their addresses to sctool_sparse_register; what the headers want
// besides is defined here, hidden.
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/core/error.h>
#include <executorch/runtime/core/evalue.h>
#include <executorch/runtime/core/exec_aten/exec_aten.h>

#include <cstdarg>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "hosted_threads.h"
#include "payload.h"
#include "sctool_sparse.h"
#include "session.h"

namespace executorch {
namespace ET_RUNTIME_NAMESPACE {

BackendInterface::~BackendInterface() = default;

[[noreturn]] void runtime_abort() { std::abort(); }

namespace internal {
et_timestamp_t get_log_timestamp() { return 0; }
void vlogf(LogLevel, et_timestamp_t, const char*, const char*, size_t, const char*, va_list) {}
}  // namespace internal

}  // namespace ET_RUNTIME_NAMESPACE
}  // namespace executorch

namespace {

using executorch::aten::ArrayRef;
using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::aten::TensorImpl;
using executorch::runtime::BackendExecutionContext;
using executorch::runtime::BackendInitContext;
using executorch::runtime::CompileSpec;
using executorch::runtime::DelegateHandle;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::FreeableBuffer;
using executorch::runtime::Result;
using executorch::runtime::Span;

using Register = Error (*)(const executorch::runtime::Backend&);
using Resize = Error (*)(TensorImpl*, ArrayRef<executorch::aten::SizesType>);

Resize resize_tensor = nullptr;

struct Handle {
  std::mutex running;  // one arena: a program that two threads share takes turns
  sctool::Session session;
  explicit Handle(sctool::Session&& made) : session(std::move(made)) {}
};

// The records in `tensor`: its elements over those of one record; 0 where that does not come out even.
std::uint64_t records_in(const Tensor& tensor, std::uint64_t record) {
  const auto elements = static_cast<std::uint64_t>(tensor.numel());
  return elements % record == 0 ? elements / record : 0;
}

class SparseBackend final : public executorch::runtime::BackendInterface {
 public:
  bool is_available() const override { return true; }

  Result<DelegateHandle*> init(BackendInitContext&, FreeableBuffer* processed,
                               executorch::runtime::ArrayRef<CompileSpec>) const override {
    try {
      sctool::Program program = sctool::read_payload(processed->data(), processed->size());
      processed->Free();
      return new Handle(sctool::Session(std::move(program), *sctool::find_kernels(nullptr),
                                        sctool::hosted_threads()));
    } catch (const sctool::PayloadError&) {
      return Error::DelegateInvalidCompatibility;
    } catch (const std::bad_alloc&) {
      return Error::MemoryAllocationFailed;
    } catch (const std::exception&) {
      return Error::Internal;
    }
  }

  Error execute(BackendExecutionContext&, DelegateHandle* handle, Span<EValue*> args) const override {
    auto* loaded = static_cast<Handle*>(handle);
    const sctool::Program& program = loaded->session.program();
    const std::size_t inputs = program.inputs.size(), outputs = program.outputs.size();
    if (args.size() != inputs + outputs) return Error::InvalidArgument;
    try {
      std::vector<const float*> from;
      std::vector<float*> to;
      std::uint64_t batch = 0;
      for (std::size_t i = 0; i < inputs; ++i) {
        if (args[i] == nullptr || !args[i]->isTensor()) return Error::InvalidArgument;
        const Tensor& tensor = args[i]->toTensor();
        if (tensor.scalar_type() != ScalarType::Float) return Error::InvalidArgument;
        const std::uint64_t records = records_in(tensor, program.values[program.inputs[i]].elements());
        if (records == 0 || (i > 0 && records != batch)) return Error::InvalidArgument;
        batch = records;
        from.push_back(tensor.const_data_ptr<float>());
      }
      if (batch > program.max_batch) return Error::InvalidArgument;
      for (std::size_t i = 0; i < outputs; ++i) {
        EValue* value = args[inputs + i];
        if (value == nullptr || !value->isTensor()) return Error::InvalidArgument;
        Tensor& tensor = value->toTensor();
        if (tensor.scalar_type() != ScalarType::Float) return Error::InvalidArgument;
        const Error resized = resize(tensor, batch);
        if (resized != Error::Ok) return resized;
        if (records_in(tensor, program.values[program.outputs[i]].elements()) != batch) return Error::InvalidArgument;
        to.push_back(tensor.mutable_data_ptr<float>());
      }
      for (const float* pointer : from) {
        if (pointer == nullptr) return Error::InvalidArgument;
      }
      for (const float* pointer : to) {
        if (pointer == nullptr) return Error::InvalidArgument;
      }
      const std::lock_guard<std::mutex> lock(loaded->running);
      loaded->session.run(static_cast<std::uint32_t>(batch), from.data(), to.data());
      return Error::Ok;
    } catch (const std::bad_alloc&) {
      return Error::MemoryAllocationFailed;
    } catch (const std::exception&) {
      return Error::Internal;
    }
  }

  void destroy(DelegateHandle* handle) const override { delete static_cast<Handle*>(handle); }

 private:
  static Error resize(Tensor& tensor, std::uint64_t batch) {
    if (tensor.dim() < 1) return Error::InvalidArgument;
    std::vector<executorch::aten::SizesType> sizes(tensor.sizes().begin(), tensor.sizes().end());
    sizes[0] = static_cast<executorch::aten::SizesType>(batch);
    return resize_tensor(tensor.unsafeGetTensorImpl(), {sizes.data(), sizes.size()});
  }
};

}  // namespace

extern "C" SCTOOL_EXPORT int sctool_sparse_register(void* register_backend, void* resize) {
  static SparseBackend backend;
  resize_tensor = reinterpret_cast<Resize>(resize);
  return static_cast<int>(reinterpret_cast<Register>(register_backend)({"SctoolSparse", &backend}));
}
