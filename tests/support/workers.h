// Cores beside the caller's, for tests.
#ifndef THIMBLE_TESTS_SUPPORT_WORKERS_H_
#define THIMBLE_TESTS_SUPPORT_WORKERS_H_

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "engine/base/workers.h"

namespace thimble::tests {

// Divides rows into so many parts, as unequal as they come, and computes the last first, all in the caller's thread.
class DividingWorkers final : public Workers {
 public:
  explicit DividingWorkers(uint32_t parts) : parts_(parts) {}

  void Run(uint32_t rows, Part part, const void* context) override {
    ++calls_;
    uint32_t end = rows;
    for (uint32_t i = parts_; i > 1 && end > 0; --i) {
      const uint32_t begin = end - std::min(end, 1 + (end / i + 7 * calls_) % end);
      part(context, begin, end);
      end = begin;
    }
    if (end > 0) part(context, 0, end);
  }

  uint32_t calls() const { return calls_; }

 private:
  uint32_t parts_;
  uint32_t calls_ = 0;
};

// A second thread, as a board has a second core.
class ThreadWorkers final : public Workers {
 public:
  ThreadWorkers() : thread_([this] { Work(); }) {}
  ~ThreadWorkers() {
    Hand({.is_last = true});
    thread_.join();
  }
  ThreadWorkers(const ThreadWorkers&) = delete;
  ThreadWorkers& operator=(const ThreadWorkers&) = delete;

  void Run(uint32_t rows, Part part, const void* context) override {
    const uint32_t half = HalfOf(rows);
    Hand({.part = part, .context = context, .begin = half, .end = rows});
    part(context, 0, half);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !has_job_; });
  }

 private:
  struct Job {
    Part part = nullptr;
    const void* context = nullptr;
    uint32_t begin = 0, end = 0;
    bool is_last = false;
  };

  void Hand(const Job& job) {
    const std::lock_guard lock(mutex_);
    job_ = job;
    has_job_ = true;
    changed_.notify_all();
  }

  void Work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return has_job_; });
      const Job job = job_;
      if (job.is_last) return;
      lock.unlock();
      job.part(job.context, job.begin, job.end);
      lock.lock();
      has_job_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  Job job_;
  bool has_job_ = false;
  std::thread thread_;
};

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_WORKERS_H_
