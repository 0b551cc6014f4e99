// ExecuTorch's NamedDataMap over a sparse package: each block of weights is decoded when the runtime asks for it, and freed
// when the runtime has packed it. So a load holds the package and one decoded layer, not the whole dense model.
//
//   sctool::SparsePackage package;
//   if (package.open({bytes, size}) != sctool::PackageError::kOk) ...
//   executorch::extension::BufferDataLoader loader(package.program().data, package.program().size);
//   auto program = executorch::runtime::Program::load(&loader);
//   sctool::SparseNamedData weights(package);
//   auto method = program->load_method("forward", &memory, nullptr, &weights);
//
// `package`, and the bytes that it reads, must outlive the map.
#pragma once

#include <new>

#include <executorch/runtime/core/named_data_map.h>

#include "sparse_package.h"

namespace sctool {

class SparseNamedData final : public executorch::runtime::NamedDataMap {
 public:
  using Error = executorch::runtime::Error;
  template <typename T>
  using Result = executorch::runtime::Result<T>;

  explicit SparseNamedData(const SparsePackage& package) : package_(package) {}

  // XNNPACK's blocks are bytes: their layout is in the program.
  Result<const executorch::runtime::TensorLayout> get_tensor_layout(std::string_view key) const override {
    return package_.find(key) == nullptr ? Error::NotFound : Error::NotSupported;
  }

  Result<executorch::runtime::FreeableBuffer> get_data(std::string_view key) const override {
    const Block* block = package_.find(key);
    if (block == nullptr) {
      return Error::NotFound;
    }
    const auto size = static_cast<size_t>(block->size);
    void* data = ::operator new(size == 0 ? 1 : size, std::align_val_t{kAlignment}, std::nothrow);
    if (data == nullptr) {
      return Error::MemoryAllocationFailed;
    }
    if (SparsePackage::decode(*block, static_cast<uint8_t*>(data), size) != PackageError::kOk) {
      release(nullptr, data, size);
      return Error::InvalidExternalData;
    }
    return executorch::runtime::FreeableBuffer(data, size, release);
  }

  Error load_data_into(std::string_view key, void* buffer, size_t size) const override {
    const Block* block = package_.find(key);
    if (block == nullptr) {
      return Error::NotFound;
    }
    if (size != block->size) {
      return Error::InvalidArgument;
    }
    const bool done = SparsePackage::decode(*block, static_cast<uint8_t*>(buffer), size) == PackageError::kOk;
    return done ? Error::Ok : Error::InvalidExternalData;
  }

  Result<uint32_t> get_num_keys() const override { return static_cast<uint32_t>(package_.count()); }

  Result<const char*> get_key(uint32_t index) const override {
    if (index >= package_.count()) {
      return Error::InvalidArgument;
    }
    return package_.block(index).key.data();
  }

 private:
  static constexpr size_t kAlignment = 64;

  static void release(void*, void* data, size_t) { ::operator delete(data, std::align_val_t{kAlignment}); }

  const SparsePackage& package_;
};

}  // namespace sctool
