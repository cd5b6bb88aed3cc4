// The threads of a frame.
#pragma once

#include <atomic>
#include <cstdint>

namespace mmskip {

// Threads that stay together through the steps of a frame: one leads, the
// others help with what it hands out. A parallel region for each step would
// wait at its end for the slowest thread, which on a busy machine is one that
// the system has stopped. Here the leader waits for those alone that are in
// the middle of a task.
class Crew {
 public:
  // Runs lead() in one thread, with as many helpers as torch has threads.
  template <typename Lead>
  static void run(const Lead& lead) {
    start([](const void* job) { (*static_cast<const Lead*>(job))(); }, &lead);
  }

  // Runs task(i) for all i in [0, count), in any order, in all threads of the
  // crew that this thread leads; without one in torch's threads. At most
  // 2^20 tasks.
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
  using Lead = void (*)(const void* job);
  using Task = void (*)(const void* job, int64_t index);

  static void start(Lead lead, const void* job);
  static void hand_out(int64_t count, Task task, const void* job);

  void help();
  // Takes a task of the job in the ticket, if one is left.
  bool take_one(uint64_t& ticket);
  void finish(int64_t count, Task task, const void* job);

  // The crew that a thread leads.
  static thread_local Crew* led;

  // Number of the job, of its tasks, and of the next one to take.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<int64_t> done_{0};
  std::atomic<bool> dismissed_{false};
  // Of the job whose number is in the ticket.
  std::atomic<Task> task_{nullptr};
  std::atomic<const void*> job_{nullptr};
};

} // namespace mmskip
