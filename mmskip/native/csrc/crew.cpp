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

thread_local Crew::Seat Crew::seat;

// A thread belongs to a crew while this lives.
class Crew::Sitting {
 public:
  Sitting(Crew* crew, int64_t number) { seat = {crew, number, false}; }
  ~Sitting() {
    if (seat.number == 0) {
      seat.crew->dismissed_.store(true, std::memory_order_release);
    }
    seat = {};
  }
  Sitting(const Sitting&) = delete;
  Sitting& operator=(const Sitting&) = delete;
};

namespace {

// More would be looked through for longer than they save.
constexpr int64_t kMostParts = 16;

} // namespace

Crew::Crew(int64_t threads) : long_(std::min(threads, kMostParts)) {
  for (int64_t i = 0; i < threads; ++i) {
    short_.emplace_back(std::min(threads, kMostParts));
  }
}

bool Crew::can_lead() {
  return at::get_num_threads() > 1 && !at::in_parallel_region() &&
      seat.crew == nullptr;
}

void Crew::start(Lead lead, const void* job) {
  if (!can_lead()) {
    lead(job);
    return;
  }
  Crew crew(at::get_num_threads());
  if (contention.turns_away(crew.begun_)) {
    crew.is_alone_ = true;
    const Sitting sitting(&crew, 0);
    lead(job);
    return;
  }
  Clock::time_point led_until;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t begin, int64_t) {
    const Sitting sitting(&crew, begin);
    if (begin > 0) {
      crew.help(begin);
      return;
    }
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
  const int64_t tasks = tasks_ + of_helpers_.load(std::memory_order_relaxed);
  // The leader would have done the others' tasks in about the time of its own.
  return waited_ > kShortWait &&
      (total - waited_) * tasks < total * own_tasks_;
}

void Crew::hand_out(
    bool is_long, int64_t count, Task task, const void* data) {
  TORCH_INTERNAL_ASSERT(count <= static_cast<int64_t>(kMask));
  Crew* crew = seat.crew;
  if (count > 1 && crew != nullptr && !seat.is_in_task &&
      !crew->is_alone_.load(std::memory_order_relaxed)) {
    crew->finish(
        is_long ? crew->long_ : crew->short_[seat.number], count, task, data);
  } else if (count > 1 && can_lead()) {
    run([&] { hand_out(is_long, count, task, data); });
  } else {
    for (int64_t i = 0; i < count; ++i) {
      task(data, i);
    }
  }
}

bool Crew::take_one(Job& job) {
  const int64_t parts = job.parts.size();
  for (int64_t i = 0; i < parts; ++i) {
    std::atomic<uint64_t>& part = job.parts[(seat.number + i) % parts].ticket;
    uint64_t ticket = part.load(std::memory_order_acquire);
    while (next_of(ticket) < end_of(ticket)) {
      // Task and data stay what they are until this task is done.
      if (part.compare_exchange_weak(
              ticket, ticket + 1, std::memory_order_acq_rel,
              std::memory_order_acquire)) {
        seat.is_in_task = &job != &long_;
        job.task.load(std::memory_order_relaxed)(
            job.data.load(std::memory_order_relaxed), next_of(ticket));
        seat.is_in_task = false;
        if (seat.number == 0) {
          ++own_tasks_;
        }
        job.done.fetch_add(1, std::memory_order_release);
        return true;
      }
    }
  }
  return false;
}

bool Crew::take_any() {
  if (long_.is_open.load(std::memory_order_acquire) && take_one(long_)) {
    return true;
  }
  const int64_t jobs = short_.size();
  for (int64_t i = 0; i < jobs; ++i) {
    Job& job = short_[(seat.number + i) % jobs];
    if (job.is_open.load(std::memory_order_acquire) && take_one(job)) {
      return true;
    }
  }
  return false;
}

void Crew::help(int64_t number) {
  Patience patience;
  while (!dismissed_.load(std::memory_order_acquire)) {
    if (take_any()) {
      patience.renew();
    } else {
      patience.wait();
    }
  }
}

void Crew::finish(Job& job, int64_t count, Task task, const void* data) {
  job.task.store(task, std::memory_order_relaxed);
  job.data.store(data, std::memory_order_relaxed);
  job.done.store(0, std::memory_order_relaxed);
  const int64_t parts = job.parts.size();
  const uint64_t number =
      number_of(job.parts[0].ticket.load(std::memory_order_relaxed)) + 1;
  for (int64_t i = 0; i < parts; ++i) {
    job.parts[i].ticket.store(
        ticket_of(number, (i + 1) * count / parts, i * count / parts),
        std::memory_order_release);
  }
  job.is_open.store(true, std::memory_order_release);
  while (take_one(job)) {
  }
  job.is_open.store(false, std::memory_order_relaxed);
  if (seat.number == 0) {
    tasks_ += count;
  } else {
    of_helpers_.fetch_add(count, std::memory_order_relaxed);
  }
  wait_for(job, count);
}

void Crew::wait_for(Job& job, int64_t count) {
  Patience patience;
  Clock::time_point begun;
  while (job.done.load(std::memory_order_acquire) < count) {
    // In the middle of a step a thread must not begin another one's, but here
    // the leader is between two.
    if (&job == &long_ && take_any()) {
      patience.renew();
      continue;
    }
    const bool was_long = patience.is_long();
    patience.wait();
    if (patience.is_long() && !was_long) {
      begun = Clock::now();
    }
  }
  if (patience.is_long() && seat.number == 0) {
    const auto now = Clock::now();
    waited_ += now - begun;
    is_alone_.store(is_faster_alone(now), std::memory_order_relaxed);
  }
}

} // namespace mmskip
