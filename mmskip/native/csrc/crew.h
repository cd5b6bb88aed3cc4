// The threads of a frame.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <vector>

namespace mmskip {

// Threads that stay together through the steps of a frame: one leads, the
// others help with what it hands out. A parallel region for each step would
// wait at its end for the slowest thread, which on a busy machine is one that
// the system has stopped. Here whoever hands something out waits for those
// alone that are in the middle of a task. Where even that takes most of the
// time, because other programs keep the cores busy, the leader works alone for
// some frames.
class Crew {
 public:
  // Runs lead() in one thread, with as many helpers as torch has threads.
  template <typename Lead>
  static void run(const Lead& lead) {
    start([](const void* job) { (*static_cast<const Lead*>(job))(); }, &lead);
  }

  // Runs task(i) for all i in [0, count), in any order, in all threads of the
  // crew of this thread that have nothing else to do; without one in a crew
  // for these tasks; in this thread alone from within such a task. At most
  // 2^20 tasks. Each thread begins with a part of them that is its own, as
  // what lies there is in its cache since the step before.
  template <typename Task>
  static void share(int64_t count, const Task& task) {
    hand_out(false, count, call<Task>, &task);
  }

  // The same for tasks that share() something themselves. Called by the leader,
  // and not from within a task.
  template <typename Task>
  static void share_long(int64_t count, const Task& task) {
    hand_out(true, count, call<Task>, &task);
  }

 private:
  explicit Crew(int64_t threads);

  using Lead = void (*)(const void* job);
  using Task = void (*)(const void* job, int64_t index);
  using Clock = std::chrono::steady_clock;
  class Sitting;

  template <typename SomeTask>
  static void call(const void* job, int64_t index) {
    (*static_cast<const SomeTask*>(job))(index);
  }

  // The place of a thread in a crew.
  struct Seat {
    Crew* crew = nullptr;
    int64_t number = 0;
    // True within a short task, whose work is not shared any further.
    bool is_in_task = false;
  };

  // Some tasks that a thread begins with: a number, the end of the part, and
  // the next task to take.
  struct alignas(64) Part {
    std::atomic<uint64_t> ticket{0};
  };

  // What a thread has handed out last, and how far that is.
  struct alignas(64) Job {
    explicit Job(int64_t parts) : parts(parts) {}

    // Where no task is left, others need not look any closer.
    std::atomic<bool> is_open{false};
    // What to run for the tickets that can be taken.
    std::atomic<Task> task{nullptr};
    std::atomic<const void*> data{nullptr};
    alignas(64) std::atomic<int64_t> done{0};
    std::vector<Part> parts;
  };

  // Whether this thread may lead: it has others, and belongs to no crew.
  static bool can_lead();
  static void start(Lead lead, const void* job);
  static void hand_out(bool is_long, int64_t count, Task task, const void* data);

  // What a helper does.
  void help(int64_t number);
  // Takes a task of a job, of a thread's own part as long as one is left there;
  // false if none is left at all.
  bool take_one(Job& job);
  // Takes any task.
  bool take_any();
  void finish(Job& job, int64_t count, Task task, const void* data);
  // Waits until so many tasks of the job are done.
  void wait_for(Job& job, int64_t count);
  // Whether the leader, without helpers from the start, would be further now.
  bool is_faster_alone(Clock::time_point now) const;

  static thread_local Seat seat;

  // The leader's job of long tasks, and one of each thread.
  Job long_;
  std::deque<Job> short_;
  std::atomic<bool> dismissed_{false};
  // Whether the leader does without the others.
  std::atomic<bool> is_alone_{false};
  // How many tasks helpers have handed out.
  std::atomic<int64_t> of_helpers_{0};

  // What the leader alone reads and writes: since when it leads, how long it
  // waited, how many tasks it handed out, and how many of all it took.
  Clock::time_point begun_ = Clock::now();
  Clock::duration waited_{0};
  int64_t tasks_ = 1, own_tasks_ = 1;
};

} // namespace mmskip
