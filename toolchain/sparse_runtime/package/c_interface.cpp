// One block of a sparse package through the C interface, for readers that hold the package's table themselves.
#include "block.h"
#include "sctool_sparse.h"

int sctool_sparse_decode_block(const uint64_t* header, const void* streams, size_t stored, void* out, size_t size) {
  for (int i = 1; i < 8; ++i) {
    if (header[i] > 255) {
      return 1;
    }
  }
  sctool::Block block;
  block.size = header[0];
  block.word = static_cast<uint8_t>(header[1]);
  block.positions = static_cast<uint8_t>(header[2]);
  block.values = static_cast<uint8_t>(header[3]);
  block.position_k = static_cast<uint8_t>(header[4]);
  block.exponent_k = static_cast<uint8_t>(header[5]);
  block.highest = static_cast<uint8_t>(header[6]);
  block.shift = static_cast<uint8_t>(header[7]);
  block.stored = header[8];
  block.position_unary = header[9];
  block.exponent_unary = header[10];
  // Below 2^31 nothing in the sizes of the streams wraps around.
  if (block.size > uint64_t{1} << 31 || block.size != size || !sctool::spte::is_sound(block) ||
      sctool::spte::lay_out(block).total() != stored) {
    return 1;
  }
  block.streams = {static_cast<const uint8_t*>(streams), stored};
  return sctool::SparsePackage::decode(block, static_cast<uint8_t*>(out), size) == sctool::PackageError::kOk ? 0 : 1;
}
