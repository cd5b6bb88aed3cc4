#include "crew.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace mmskip {
namespace {

using Clock = std::chrono::steady_clock;
using Microseconds = std::chrono::microseconds;

constexpr int kBits = 20;
constexpr uint64_t kMask = (UINT64_C(1) << kBits) - 1;

// Turns of waiting after which the core is offered to others.
constexpr int kSpins = 2000;

uint64_t ticket_of(uint64_t job, uint64_t end, uint64_t next) {
  return job << (2 * kBits) | end << kBits | next;
}

uint64_t number_of(uint64_t ticket) {
  return ticket >> (2 * kBits);
}

int64_t end_of(uint64_t ticket) {
  return ticket >> kBits & kMask;
}

int64_t next_of(uint64_t ticket) {
  return ticket & kMask;
}

// Waits a moment, longer the more often it was called in a row.
class Patience {
 public:
  void wait() {
    if (++spins_ > kSpins) {
      std::this_thread::yield();
      return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  void renew() { spins_ = 0; }

  // Waited for longer than any hand-off takes in threads that run.
  bool is_long() const { return spins_ > kSpins; }

 private:
  int spins_ = 0;
};

// Waiting that says nothing about the machine.
constexpr Microseconds kShortWait{500};

// Whether the cores are busy with something else, as leaders found: they then
// work alone, and try again after a while, a longer one each time it did not
// go well.
class Contention {
 public:
  // Whether leaders should do without helpers for now.
  bool turns_away(Clock::time_point now) const {
    return now.time_since_epoch().count() <
        until_.load(std::memory_order_relaxed);
  }

  void learn(bool is_faster_alone, Clock::time_point now) {
    const Clock::rep pause = pause_.load(std::memory_order_relaxed);
    pause_.store(
        is_faster_alone ? std::min(2 * pause, kLongest) : kShortest,
        std::memory_order_relaxed);
    until_.store(
        is_faster_alone ? now.time_since_epoch().count() + pause : 0,
        std::memory_order_relaxed);
  }

 private:
  static constexpr Clock::rep kShortest =
      Clock::duration(std::chrono::milliseconds(50)).count();
  static constexpr Clock::rep kLongest = 32 * kShortest;

  std::atomic<Clock::rep> until_{0}, pause_{kShortest};
};

Contention contention;

} // namespace

thread_local Crew* Crew::led = nullptr;

// The crew that a thread leads while this lives.
class Crew::Leading {
 public:
  explicit Leading(Crew* crew) { led = crew; }
  ~Leading() {
    led->dismissed_.store(true, std::memory_order_release);
    led = nullptr;
  }
  Leading(const Leading&) = delete;
  Leading& operator=(const Leading&) = delete;
};

Crew::Crew(int64_t threads) : num_parts_(std::min(threads, kMostParts)) {}

bool Crew::can_lead() {
  return at::get_num_threads() > 1 && !at::in_parallel_region() &&
      led == nullptr;
}

void Crew::start(Lead lead, const void* job) {
  if (!can_lead()) {
    lead(job);
    return;
  }
  Crew crew(at::get_num_threads());
  if (contention.turns_away(crew.begun_)) {
    crew.is_alone_ = true;
    const Leading leading(&crew);
    lead(job);
    return;
  }
  Clock::time_point led_until;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t begin, int64_t) {
    if (begin > 0) {
      crew.help(begin);
      return;
    }
    const Leading leading(&crew);
    lead(job);
    led_until = Clock::now();
  });
  // The region ends when the last helper has heard of it.
  const auto ended = Clock::now();
  crew.waited_ += ended - led_until;
  if (ended - crew.begun_ > kShortWait) {
    contention.learn(crew.is_faster_alone(ended), ended);
  }
}

bool Crew::is_faster_alone(Clock::time_point now) const {
  const auto total = now - begun_;
  // The leader would have done the others' tasks in about the time of its own.
  return waited_ > kShortWait &&
      (total - waited_) * tasks_ < total * own_tasks_;
}

void Crew::hand_out(int64_t count, Task task, const void* job) {
  TORCH_INTERNAL_ASSERT(count <= static_cast<int64_t>(kMask));
  if (count > 1 && led != nullptr && !led->is_alone_) {
    led->finish(count, task, job);
  } else if (count > 1 && can_lead()) {
    run([&] { hand_out(count, task, job); });
  } else {
    for (int64_t i = 0; i < count; ++i) {
      task(job, i);
    }
  }
}

bool Crew::take_one(int64_t thread) {
  for (int64_t i = 0; i < num_parts_; ++i) {
    std::atomic<uint64_t>& part = parts_[(thread + i) % num_parts_].ticket;
    uint64_t ticket = part.load(std::memory_order_acquire);
    while (next_of(ticket) < end_of(ticket)) {
      // Job and task stay what they are until this task is done.
      if (part.compare_exchange_weak(
              ticket, ticket + 1, std::memory_order_acq_rel,
              std::memory_order_acquire)) {
        task_.load(std::memory_order_relaxed)(
            job_.load(std::memory_order_relaxed), next_of(ticket));
        done_.fetch_add(1, std::memory_order_release);
        return true;
      }
    }
  }
  return false;
}

void Crew::help(int64_t helper) {
  Patience patience;
  while (!dismissed_.load(std::memory_order_acquire)) {
    if (take_one(helper)) {
      patience.renew();
    } else {
      patience.wait();
    }
  }
}

void Crew::finish(int64_t count, Task task, const void* job) {
  task_.store(task, std::memory_order_relaxed);
  job_.store(job, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint64_t number =
      number_of(parts_[0].ticket.load(std::memory_order_relaxed)) + 1;
  for (int64_t i = 0; i < num_parts_; ++i) {
    parts_[i].ticket.store(
        ticket_of(
            number, (i + 1) * count / num_parts_, i * count / num_parts_),
        std::memory_order_release);
  }
  while (take_one(0)) {
    ++own_tasks_;
  }
  tasks_ += count;
  wait_for(count);
}

void Crew::wait_for(int64_t count) {
  Patience patience;
  Clock::time_point begun;
  while (done_.load(std::memory_order_acquire) < count) {
    const bool was_long = patience.is_long();
    patience.wait();
    if (patience.is_long() && !was_long) {
      begun = Clock::now();
    }
  }
  if (patience.is_long()) {
    const auto now = Clock::now();
    waited_ += now - begun;
    is_alone_ = is_faster_alone(now);
  }
}

} // namespace mmskip
