// Rows of images, shared out among threads.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

#include "crew.h"

namespace mmskip {

// Floats below which a second thread costs more than it saves.
constexpr int64_t kGrain = 1 << 15;

// How many rows of so many floats are worth a thread.
inline int64_t grain_of(int64_t floats) {
  return std::max<int64_t>(kGrain / std::max<int64_t>(floats, 1), 1);
}

// Turns for each thread.
constexpr int64_t kTurns = 8;

// Calls run(begin, end) until all rows had their turn; with fewer than two
// grains of them, all in one thread. What has changed lies together: threads
// take a few rows at a time, as one half may be all the work.
template <typename Run>
void share_rows(int64_t rows, int64_t grain, const Run& run) {
  const int64_t threads =
      std::min<int64_t>(at::get_num_threads(), rows / grain);
  if (threads < 2) {
    run(0, rows);
    return;
  }
  const int64_t turn = std::max<int64_t>(rows / (kTurns * threads), 1);
  Crew::share((rows + turn - 1) / turn, [&](int64_t i) {
    run(i * turn, std::min((i + 1) * turn, rows));
  });
}

} // namespace mmskip
