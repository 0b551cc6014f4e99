// Cuts a run of vectors into register tiles.
#pragma once

#include "kernels/vector.h"

namespace sctool {
namespace {

// Calls `run<T>(at)` for pieces of at most kAccumulators vectors, all but the last as large as they get.
#define SCTOOL_FOR_PIECES(vectors, limit, CALL)                      \
  for (std::uint32_t done_ = 0; done_ < (vectors);) {                \
    const std::uint32_t left_ = (vectors) - done_;                   \
    const std::uint32_t piece_ = left_ < (limit) ? left_ : (limit);  \
    const std::size_t at = static_cast<std::size_t>(done_) * kWidth; \
    switch (piece_) { CALL }                                         \
    done_ += piece_;                                                 \
  }

}  // namespace
}  // namespace sctool
