// libFuzzer: any bytes are a sparse package that unpacks, or an error. Checksums are mended first, so that what lies behind
// them is reached.
#include <cstdint>
#include <cstring>
#include <vector>

#include "sparse_package.h"

namespace {

std::uint32_t checksum(const std::uint8_t* bytes, std::size_t size) {  // CRC-32, as zlib's
  std::uint32_t crc = ~0u;
  for (std::size_t i = 0; i < size; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

template <typename Number>
void put(std::vector<std::uint8_t>& bytes, std::size_t at, Number value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kHead = 64;
  constexpr std::uint64_t kMost = 1 << 22;  // bytes: what is larger opens, and is not unpacked here
  std::vector<std::uint8_t> content(data, data + size);
  if (size >= kHead) {
    put<std::uint64_t>(content, 16, size);
    put(content, 56, checksum(content.data() + kHead, size - kHead));
    put(content, 60, checksum(content.data(), 60));
  }
  sctool::SparsePackage package;
  if (package.open({content.data(), content.size()}) != sctool::PackageError::kOk) return 0;
  std::vector<std::uint8_t> out;
  for (std::size_t i = 0; i < package.count(); ++i) {
    const sctool::Block& block = package.block(i);
    if (block.size > kMost) continue;
    out.assign(static_cast<std::size_t>(block.size), 0);
    sctool::SparsePackage::decode(block, out.data(), out.size());
    package.find(block.key);
  }
  if (package.data_bytes() <= kMost) {
    out.assign(static_cast<std::size_t>(package.data_bytes()), 0);
    package.unpack_data(out.data(), out.size());
  }
  return 0;
}
