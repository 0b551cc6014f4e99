// libFuzzer: any header with any streams is a block that decodes, or is refused, through the C interface.
//
// An input is the header's fields (u32 size, seven u8, u32 stored, position_unary, exponent_unary) and the streams.
#include <cstdint>
#include <cstring>
#include <vector>

#include "block.h"
#include "sctool_sparse.h"

namespace {

constexpr std::size_t kHead = 4 + 7 + 3 * 4;
constexpr std::uint64_t kMost = 1 << 22;  // bytes: what is larger is not decoded here

void decode(const std::uint64_t (&header)[11], const std::vector<std::uint8_t>& streams) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(header[0]));
  sctool_sparse_decode_block(header, streams.data(), streams.size(), out.data(), out.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kHead) return 0;
  const auto number = [&](std::size_t at) { return std::uint64_t{sctool::spte::load(data + at, 4)}; };
  std::uint64_t header[11] = {number(0)};
  for (int i = 0; i < 7; ++i) header[1 + i] = data[4 + i];
  for (std::size_t i = 0; i < 3; ++i) header[8 + i] = number(11 + 4 * i);
  if (header[0] > kMost) return 0;
  std::vector<std::uint8_t> streams(data + kHead, data + size);
  decode(header, streams);
  // As many bytes as the header asks for, so that what lies behind that check is reached.
  sctool::Block block;
  block.size = header[0], block.stored = header[8], block.position_unary = header[9], block.exponent_unary = header[10];
  std::uint8_t* fields[] = {&block.word,       &block.positions, &block.values, &block.position_k,
                            &block.exponent_k, &block.highest,   &block.shift};
  for (int i = 0; i < 7; ++i) *fields[i] = data[4 + i];
  if (!sctool::spte::is_sound(block) || sctool::spte::lay_out(block).total() > kMost) return 0;
  streams.resize(static_cast<std::size_t>(sctool::spte::lay_out(block).total()));
  decode(header, streams);
  return 0;
}
