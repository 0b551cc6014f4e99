#include "hosted_threads.h"

#include <atomic>

namespace sctool {
namespace {

std::atomic<std::uint32_t> threads_of_next{1};

}  // namespace

std::uint32_t hosted_threads() { return threads_of_next.load(std::memory_order_relaxed); }
void set_hosted_threads(std::uint32_t threads) { threads_of_next.store(threads, std::memory_order_relaxed); }

}  // namespace sctool
