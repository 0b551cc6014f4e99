// A few threads that take the parts of one task after another.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace sctool {

class Pool {
 public:
  // `threads` counts the caller, 1 to 65,535; 1 starts none. Throws std::system_error.
  explicit Pool(std::uint32_t threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  std::uint32_t threads() const { return static_cast<std::uint32_t>(workers_.size()) + 1; }

  // Calls task(0) ... task(parts - 1), parts at most 65,535, each once, and returns when all are done. Whoever is free takes
  // the next part, the caller too: one that is asleep, or whose processor does something else, delays none that it has not
  // begun. Tasks throw nothing. Not for two threads at once.
  void run(std::uint32_t parts, const std::function<void(std::uint32_t)>& task);

 private:
  void stop();
  void work();
  void take_parts(std::uint32_t round);
  void announce(std::uint64_t ticket);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::uint32_t asleep_ = 0;  // under mutex_
  std::uint32_t round_ = 0;   // the caller's
  const std::function<void(std::uint32_t)>* task_ = nullptr;
  // From the high bits: 32 of the round, which tells one task from the next, 16 of its parts, 16 of the next to take. One
  // number, so that who comes late cannot take a part of a task that is over.
  std::atomic<std::uint64_t> ticket_{0};
  std::atomic<std::uint32_t> done_{0};
};

}  // namespace sctool
