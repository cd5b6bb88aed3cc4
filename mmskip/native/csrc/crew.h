// The threads of a frame.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace mmskip {

// Threads that stay together through the steps of a frame: one leads, the
// others help with what it hands out. A parallel region for each step would
// wait at its end for the slowest thread, which on a busy machine is one that
// the system has stopped. Here the leader waits for those alone that are in
// the middle of a task. Where even that takes most of the time, because other
// programs keep the cores busy, the leader works alone for some frames.
class Crew {
 public:
  // Runs lead() in one thread, with as many helpers as torch has threads.
  template <typename Lead>
  static void run(const Lead& lead) {
    start([](const void* job) { (*static_cast<const Lead*>(job))(); }, &lead);
  }

  // Runs task(i) for all i in [0, count), in any order, in all threads of the
  // crew that this thread leads; without one in a crew for these tasks. At
  // most 2^20 tasks. Each thread begins with a part of them that is its own,
  // as what lies there is in its cache since the step before.
  template <typename Task>
  static void share(int64_t count, const Task& task) {
    hand_out(
        count,
        [](const void* job, int64_t i) {
          (*static_cast<const Task*>(job))(i);
        },
        &task);
  }

 private:
  explicit Crew(int64_t threads);

  using Lead = void (*)(const void* job);
  using Task = void (*)(const void* job, int64_t index);

  // Whether this thread may lead: it has others, and none of them leads it.
  static bool can_lead();
  static void start(Lead lead, const void* job);
  static void hand_out(int64_t count, Task task, const void* job);

  using Clock = std::chrono::steady_clock;
  class Leading;

  // What a helper does, who is known by a number.
  void help(int64_t helper);
  // Takes a task, of a thread's own part as long as one is left there; false
  // if none is left at all.
  bool take_one(int64_t thread);
  void finish(int64_t count, Task task, const void* job);
  // Waits until so many tasks of the job are done.
  void wait_for(int64_t count);
  // Whether the leader, without helpers from the start, would be further now.
  bool is_faster_alone(Clock::time_point now) const;

  // The crew that a thread leads.
  static thread_local Crew* led;

  // The tasks of a job that a thread begins with: number of the job, end of the
  // part, and the next task to take.
  struct alignas(64) Part {
    std::atomic<uint64_t> ticket{0};
  };
  static constexpr int64_t kMostParts = 16;
  Part parts_[kMostParts];
  const int64_t num_parts_;
  std::atomic<int64_t> done_{0};
  std::atomic<bool> dismissed_{false};
  // Of the job whose number is in the tickets.
  std::atomic<Task> task_{nullptr};
  std::atomic<const void*> job_{nullptr};

  // What the leader alone reads and writes: whether it does without the
  // others, since when it leads, how long it waited, and how many tasks of all
  // were its own.
  bool is_alone_ = false;
  Clock::time_point begun_ = Clock::now();
  Clock::duration waited_{0};
  int64_t tasks_ = 1, own_tasks_ = 1;
};

} // namespace mmskip
