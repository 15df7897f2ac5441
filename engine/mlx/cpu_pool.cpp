#include "cpu_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace hm {
namespace {

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// patience is how long a thread without work looks for some before it sleeps:
// longer than the gaps between the products of a decode step, which would
// otherwise cost a wake-up each, shorter than anybody notices.
constexpr auto patience = std::chrono::microseconds(200);

// A pool hands out the parts of one job at a time. A thread takes a part by
// moving cursor on, whose upper half is the number of the job: a thread that is
// late sees another number and cannot take a part of a job that it has not read.
// The caller never waits for a thread that has taken nothing, so one that the
// system has put aside costs nothing but its help.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; i++) workers_.emplace_back([this] { work(); });
  }

  ~Pool() {
    stop_ = true;
    wake();
    for (auto &w : workers_) w.join();
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  void run(int n, int step, void (*fn)(void *, int, int), void *arg) {
    std::unique_lock<std::mutex> lock(busy_, std::try_to_lock);
    int parts = (n + step - 1) / step;
    if (!lock || parts < 2 || workers_.empty()) {
      for (int lo = 0; lo < n; lo += step) fn(arg, lo, std::min(n, lo + step));
      return;
    }
    fn_.store(fn, std::memory_order_relaxed);
    arg_.store(arg, std::memory_order_relaxed);
    n_.store(n, std::memory_order_relaxed);
    step_.store(step, std::memory_order_relaxed);
    left_.store(parts, std::memory_order_relaxed);
    job_++;
    // The parts become visible with the cursor that counts them.
    cursor_.store(uint64_t{job_} << 32 | uint32_t(parts), std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst) > 0) wake();
    while (take()) {
    }
    for (int spins = 0; left_.load(std::memory_order_acquire) > 0; spins++) {
      if (spins < 4096) relax(); else sched_yield();
    }
  }

 private:
  // take does one part of the current job; false where there is none left.
  bool take() {
    uint64_t at = cursor_.load(std::memory_order_acquire);
    for (;;) {
      uint32_t rest = static_cast<uint32_t>(at);
      if (rest == 0) return false;
      // The job cannot end before this part is done, so what is read here is of
      // the job that the exchange then confirms.
      auto fn = fn_.load(std::memory_order_relaxed);
      void *arg = arg_.load(std::memory_order_relaxed);
      int n = n_.load(std::memory_order_relaxed), step = step_.load(std::memory_order_relaxed);
      if (!cursor_.compare_exchange_weak(at, at - 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire)) {
        continue;
      }
      int parts = (n + step - 1) / step, lo = (parts - static_cast<int>(rest)) * step;
      fn(arg, lo, std::min(n, lo + step));
      left_.fetch_sub(1, std::memory_order_acq_rel);
      return true;
    }
  }

  void work() {
    using clock = std::chrono::steady_clock;
    auto until = clock::now() + patience;
    for (int spins = 1; !stop_.load(std::memory_order_relaxed); spins++) {
      if (take()) {
        until = clock::now() + patience;
        continue;
      }
      relax();
      if (spins % 64) continue;
      if (clock::now() < until) continue; // to yield would cost a time slice where cores are scarce
      sleep();
      until = clock::now() + patience;
    }
  }

  void sleep() {
    asleep_.fetch_add(1, std::memory_order_seq_cst);
    uint32_t seen = bell_.load(std::memory_order_seq_cst);
    // After asleep is up a new job rings the bell, so what is looked at here is
    // not missed.
    if (static_cast<uint32_t>(cursor_.load(std::memory_order_seq_cst)) == 0 && !stop_) {
      bell_.wait(seen);
    }
    asleep_.fetch_sub(1, std::memory_order_seq_cst);
  }

  void wake() {
    bell_.fetch_add(1, std::memory_order_seq_cst);
    bell_.notify_all();
  }

  std::mutex busy_;
  uint32_t job_ = 0; // under busy_
  std::atomic<void (*)(void *, int, int)> fn_{nullptr};
  std::atomic<void *> arg_{nullptr};
  std::atomic<int> n_{0}, step_{1};
  alignas(64) std::atomic<uint64_t> cursor_{0}; // job, parts not taken
  alignas(64) std::atomic<int> left_{0};        // parts not done
  alignas(64) std::atomic<uint32_t> bell_{0};
  std::atomic<int> asleep_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

// The pool in use. One that was replaced ends with the last operation on it. It is
// never destroyed at exit, when its threads may be at work.
std::atomic<std::shared_ptr<Pool>> &pool() {
  static auto *p = new std::atomic<std::shared_ptr<Pool>>(std::make_shared<Pool>(1));
  return *p;
}

} // namespace

int threads() { return pool().load()->threads(); }

void set_threads(int n) {
  n = std::clamp(n, 1, 256);
  if (n != threads()) pool().store(std::make_shared<Pool>(n));
}

void run(int n, int step, void (*fn)(void *, int, int), void *arg) {
  pool().load()->run(n, std::max(step, 1), fn, arg);
}

} // namespace hm
