// probe PACKAGE...: through ExecuTorch's NamedDataMap. For each package one line: "ok KEYS SUM" or the error.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <executorch/runtime/platform/log.h>
#include <executorch/runtime/platform/runtime.h>

#include "named_data.h"

// What the runtime library brings, which no package of Python ships for linking: its checks end this program.
namespace executorch::ET_RUNTIME_NAMESPACE {
[[noreturn]] void runtime_abort() {
  std::abort();
}
namespace internal {
et_timestamp_t get_log_timestamp() {
  return 0;
}
void vlogf(LogLevel, et_timestamp_t, const char*, const char*, size_t, const char* format, va_list arguments) {
  std::vfprintf(stderr, format, arguments);
}
}  // namespace internal
}  // namespace executorch::ET_RUNTIME_NAMESPACE

namespace {

// FNV-1a, so that a test can compare all bytes by one number.
uint64_t mix(uint64_t sum, const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  for (size_t i = 0; i < size; ++i) {
    sum = (sum ^ bytes[i]) * 0x100000001B3u;
  }
  return sum;
}

void probe(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  sctool::SparsePackage package;
  const auto error = package.open({reinterpret_cast<const uint8_t*>(content.data()), content.size()});
  if (error != sctool::PackageError::kOk) {
    std::printf("%s\n", sctool::describe(error));
    return;
  }
  const sctool::SparseNamedData map(package);
  const executorch::runtime::NamedDataMap& base = map;
  uint64_t sum = 0xCBF29CE484222325u;
  const uint32_t count = base.get_num_keys().get();
  for (uint32_t i = 0; i < count; ++i) {
    const char* key = base.get_key(i).get();
    auto data = base.get_data(key);
    if (!data.ok()) {
      std::printf("block %u: %u\n", i, static_cast<unsigned>(data.error()));
      return;
    }
    std::vector<uint8_t> copy(data->size());
    if (base.load_data_into(key, copy.data(), copy.size()) != executorch::runtime::Error::Ok) {
      std::printf("block %u cannot be loaded into a buffer\n", i);
      return;
    }
    if (mix(1, copy.data(), copy.size()) != mix(1, data->data(), data->size())) {
      std::printf("block %u differs\n", i);
      return;
    }
    sum = mix(mix(sum, key, std::string(key).size()), data->data(), data->size());
    data->Free();
  }
  std::vector<uint8_t> whole(static_cast<size_t>(package.data_bytes()));
  if (package.unpack_data(whole.data(), whole.size()) != sctool::PackageError::kOk) {
    std::printf("data do not unpack\n");
    return;
  }
  sum = mix(mix(sum, whole.data(), whole.size()), package.program().data, package.program().size);
  const bool none = base.get_data("no such key").ok() || base.get_key(count).ok() || base.get_tensor_layout("?").ok();
  std::printf("ok %u %llu%s\n", count, static_cast<unsigned long long>(sum), none ? " but finds what is not there" : "");
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    probe(argv[i]);
  }
  return 0;
}
