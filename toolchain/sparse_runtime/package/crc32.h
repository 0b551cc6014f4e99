// The checksum of sparse packages. Internal to the reader.
#pragma once

#include "block.h"

namespace sctool {
namespace spte {

// CRC-32 of IEEE 802.3, eight bytes a step.
class Crc32 {
 public:
  Crc32() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) {
        value = (value >> 1) ^ (0xEDB88320u & (0u - (value & 1u)));
      }
      table_[0][i] = value;
    }
    for (uint32_t i = 0; i < 256; ++i) {
      for (int slice = 1; slice < 8; ++slice) {
        const uint32_t before = table_[slice - 1][i];
        table_[slice][i] = (before >> 8) ^ table_[0][before & 0xFF];
      }
    }
  }

  uint32_t of(Bytes bytes) const {
    uint32_t sum = 0xFFFFFFFFu;
    size_t i = 0;
    for (; i + 8 <= bytes.size; i += 8) {
      const uint64_t next = load(bytes.data + i, 8) ^ sum;
      sum = 0;
      for (int slice = 0; slice < 8; ++slice) {
        sum ^= table_[7 - slice][(next >> (8 * slice)) & 0xFF];
      }
    }
    for (; i < bytes.size; ++i) {
      sum = (sum >> 8) ^ table_[0][(sum ^ bytes.data[i]) & 0xFF];
    }
    return ~sum;
  }

 private:
  uint32_t table_[8][256];
};

}  // namespace spte
}  // namespace sctool
