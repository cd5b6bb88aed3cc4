#include "crew.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <thread>

namespace mmskip {
namespace {

constexpr int kBits = 20;
constexpr uint64_t kMask = (UINT64_C(1) << kBits) - 1;

// Turns of waiting after which the core is offered to others.
constexpr int kSpins = 2000;

uint64_t ticket_of(uint64_t job, uint64_t count) {
  return job << (2 * kBits) | count << kBits;
}

uint64_t number_of(uint64_t ticket) {
  return ticket >> (2 * kBits);
}

int64_t count_of(uint64_t ticket) {
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

 private:
  int spins_ = 0;
};

} // namespace

thread_local Crew* Crew::led = nullptr;

void Crew::start(Lead lead, const void* job) {
  const int64_t threads = at::get_num_threads();
  if (threads < 2 || at::in_parallel_region() || led != nullptr) {
    lead(job);
    return;
  }
  Crew crew;
  struct Leading {
    explicit Leading(Crew* crew) : crew(crew) { led = crew; }
    ~Leading() {
      led = nullptr;
      crew->dismissed_.store(true, std::memory_order_release);
    }
    Crew* crew;
  };
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t) {
    if (begin > 0) {
      crew.help();
      return;
    }
    const Leading leading(&crew);
    lead(job);
  });
}

void Crew::hand_out(int64_t count, Task task, const void* job) {
  TORCH_INTERNAL_ASSERT(count <= static_cast<int64_t>(kMask));
  if (led != nullptr && count > 1) {
    led->finish(count, task, job);
    return;
  }
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      task(job, i);
    }
  });
}

bool Crew::take_one(uint64_t& ticket) {
  while (next_of(ticket) < count_of(ticket)) {
    // Job and task stay what they are until this task is done.
    if (ticket_.compare_exchange_weak(
            ticket, ticket + 1, std::memory_order_acq_rel,
            std::memory_order_acquire)) {
      task_.load(std::memory_order_relaxed)(
          job_.load(std::memory_order_relaxed), next_of(ticket));
      done_.fetch_add(1, std::memory_order_release);
      return true;
    }
  }
  return false;
}

void Crew::help() {
  Patience patience;
  while (!dismissed_.load(std::memory_order_acquire)) {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    if (take_one(ticket)) {
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
      number_of(ticket_.load(std::memory_order_relaxed)) + 1;
  ticket_.store(ticket_of(number, count), std::memory_order_release);
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (take_one(ticket)) {
    ticket = ticket_.load(std::memory_order_acquire);
  }
  Patience patience;
  while (done_.load(std::memory_order_acquire) < count) {
    patience.wait();
  }
}

} // namespace mmskip
