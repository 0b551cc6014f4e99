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
  // `threads` counts the caller; 1 starts none. Throws std::system_error.
  explicit Pool(std::uint32_t threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  std::uint32_t threads() const { return static_cast<std::uint32_t>(workers_.size()) + 1; }

  // Calls task(0) ... task(parts - 1), parts at most threads(), and returns when all are done; 0 runs on the caller. Tasks
  // throw nothing. Not for two threads at once.
  void run(std::uint32_t parts, const std::function<void(std::uint32_t)>& task);

 private:
  void stop();
  void work(std::uint32_t part);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  const std::function<void(std::uint32_t)>* task_ = nullptr;
  std::uint32_t parts_ = 0;
  std::atomic<std::uint64_t> round_{0};  // a new number is a new task; all ones: the end
  std::atomic<std::uint32_t> pending_{0};
};

}  // namespace sctool
