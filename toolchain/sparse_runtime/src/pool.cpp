#include "pool.h"

#include "flush.h"

namespace sctool {
namespace {

constexpr std::uint32_t kEnd = ~std::uint32_t{0};  // the round after the last
constexpr int kSpins = 4000;  // some twenty microseconds: layers follow each other faster than a sleeper wakes

constexpr std::uint32_t round_of(std::uint64_t ticket) { return static_cast<std::uint32_t>(ticket >> 32); }
constexpr std::uint32_t parts_of(std::uint64_t ticket) { return static_cast<std::uint32_t>(ticket >> 16) & 0xffff; }
constexpr std::uint32_t next_of(std::uint64_t ticket) { return static_cast<std::uint32_t>(ticket) & 0xffff; }

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
    for (std::uint32_t i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  announce(std::uint64_t{kEnd} << 32);
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void Pool::announce(std::uint64_t ticket) {
  bool anybody = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ticket_.store(ticket, std::memory_order_release);
    anybody = asleep_ != 0;
  }
  if (anybody) wake_.notify_all();
}

void Pool::run(std::uint32_t parts, const std::function<void(std::uint32_t)>& task) {
  if (parts <= 1 || workers_.empty()) {
    for (std::uint32_t part = 0; part < parts; ++part) task(part);
    return;
  }
  if (++round_ == kEnd) round_ = 1;
  task_ = &task;
  done_.store(0, std::memory_order_relaxed);
  announce(std::uint64_t{round_} << 32 | std::uint64_t{parts} << 16);
  take_parts(round_);
  for (int spins = 0; done_.load(std::memory_order_acquire) != parts; ++spins) {
    if (spins < kSpins) relax();
    else std::this_thread::yield();  // more threads than processors: the others need this one
  }
}

void Pool::take_parts(std::uint32_t round) {
  std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (round_of(ticket) == round && next_of(ticket) < parts_of(ticket)) {
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    (*task_)(next_of(ticket));
    done_.fetch_add(1, std::memory_order_release);
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void Pool::work() {
  const FlushDenormals flush;
  std::uint32_t seen = 0;
  for (;;) {
    std::uint32_t round = seen;
    for (int spins = 0; spins < kSpins && round == seen; ++spins) {
      relax();
      round = round_of(ticket_.load(std::memory_order_acquire));
    }
    if (round == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      ++asleep_;
      wake_.wait(lock, [&] { return round_of(ticket_.load(std::memory_order_acquire)) != seen; });
      --asleep_;
      round = round_of(ticket_.load(std::memory_order_acquire));
    }
    if (round == kEnd) return;
    seen = round;
    take_parts(round);
  }
}

}  // namespace sctool
