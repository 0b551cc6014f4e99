#include "pool.h"

#include "flush.h"

namespace sctool {
namespace {

constexpr std::uint64_t kEnd = ~std::uint64_t{0};
constexpr int kSpins = 4000;  // some twenty microseconds: layers follow each other faster than a sleeper wakes

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace

Pool::Pool(std::uint32_t threads) {
  try {
    for (std::uint32_t part = 1; part < threads; ++part) workers_.emplace_back([this, part] { work(part); });
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    round_.store(kEnd, std::memory_order_release);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void Pool::run(std::uint32_t parts, const std::function<void(std::uint32_t)>& task) {
  if (parts <= 1 || workers_.empty()) {
    for (std::uint32_t part = 0; part < parts; ++part) task(part);
    return;
  }
  task_ = &task;
  parts_ = parts;
  pending_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    round_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  task(0);
  for (int spins = 0; pending_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpins) relax();
    else std::this_thread::yield();  // more threads than processors: the others need this one
  }
}

void Pool::work(std::uint32_t part) {
  const FlushDenormals flush;
  std::uint64_t seen = 0;
  for (;;) {
    std::uint64_t round = seen;
    for (int spins = 0; spins < kSpins; ++spins) {
      round = round_.load(std::memory_order_acquire);
      if (round != seen) break;
      relax();
    }
    if (round == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
      round = round_.load(std::memory_order_acquire);
    }
    if (round == kEnd) return;
    seen = round;
    if (part < parts_) (*task_)(part);
    pending_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace sctool
