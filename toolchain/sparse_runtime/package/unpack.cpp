// unpack PACKAGE.spte MODEL.pte MODEL.ptd: what a stock runtime loads, for those who cannot link the decoder.
// Exit code 0, or 1 with one line on stderr.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <new>
#include <vector>

#include "sparse_package.h"

namespace {

int fail(const char* what, const char* path) {
  std::fprintf(stderr, "error: %s: %s\n", path, what);
  return 1;
}

bool write(const char* path, const void* data, size_t size) {
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
  return static_cast<bool>(file.flush());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: unpack PACKAGE.spte MODEL.pte MODEL.ptd\n");
    return 2;
  }
  std::ifstream file(argv[1], std::ios::binary);
  if (!file) {
    return fail("cannot be read", argv[1]);
  }
  const std::vector<char> content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  sctool::SparsePackage package;
  auto error = package.open({reinterpret_cast<const uint8_t*>(content.data()), content.size()});
  if (error != sctool::PackageError::kOk) {
    return fail(sctool::describe(error), argv[1]);
  }
  const auto size = static_cast<size_t>(package.data_bytes());
  std::unique_ptr<uint8_t[]> data(new (std::nothrow) uint8_t[size == 0 ? 1 : size]);
  if (data == nullptr) {
    return fail("out of memory", argv[1]);
  }
  error = package.unpack_data(data.get(), size);
  if (error != sctool::PackageError::kOk) {
    return fail(sctool::describe(error), argv[1]);
  }
  if (!write(argv[2], package.program().data, package.program().size)) {
    return fail("cannot be written", argv[2]);
  }
  if (!write(argv[3], data.get(), size)) {
    return fail("cannot be written", argv[3]);
  }
  return 0;
}
