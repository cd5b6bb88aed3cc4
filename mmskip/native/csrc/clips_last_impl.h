// Pooling and mixing of clips that lie channels last.
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

// Positions whose sum is rounded before it is added to the others.
constexpr int64_t kTogether = 64;

template <int vectors>
MMSKIP_INLINE void pool_channels(const FramePool& job, int64_t first) {
  Vector sums[vectors] = {}, changes[vectors] = {};
  for (int64_t begin = 0; begin < job.positions; begin += kTogether) {
    const int64_t end = begin + kTogether < job.positions ? begin + kTogether
                                                          : job.positions;
    Vector some[vectors] = {}, moved[vectors] = {};
    for (int64_t p = begin; p < end; ++p) {
      const float* here = job.frame + p * job.channels + first;
      const float* before = job.before + p * job.channels + first;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        const Vector x = load(here + v * kLanes);
        some[v] += x;
        moved[v] += magnitude_of(x - load(before + v * kLanes), false);
      }
    }
    for (int v = 0; v < vectors; ++v) {
      sums[v] += some[v];
      changes[v] += moved[v];
    }
  }
  for (int v = 0; v < vectors; ++v) {
    store(job.sums + first + v * kLanes, sums[v]);
    if (job.changes != nullptr) {
      store(job.changes + first + v * kLanes, changes[v]);
    }
  }
}

void pool_last_frame(const FramePool& job) {
  int64_t c = 0;
  for (; c + 4 * kLanes <= job.channels; c += 4 * kLanes) {
    pool_channels<4>(job, c);
  }
  for (; c + kLanes <= job.channels; c += kLanes) {
    pool_channels<1>(job, c);
  }
  for (; c < job.channels; ++c) {
    double sum = 0, change = 0;
    for (int64_t p = 0; p < job.positions; ++p) {
      const float here = job.frame[p * job.channels + c];
      sum += here;
      change += __builtin_fabsf(here - job.before[p * job.channels + c]);
    }
    job.sums[c] = static_cast<float>(sum);
    if (job.changes != nullptr) {
      job.changes[c] = static_cast<float>(change);
    }
  }
}

// Channels [first, first + vectors * kLanes) at position p.
template <int vectors>
MMSKIP_INLINE void mix_channels(const RunMix& job, int64_t p, int64_t first) {
  Vector sums[vectors] = {};
  if (job.bias != nullptr) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sums[v] = load(job.bias + first + v * kLanes);
    }
  }
  for (int64_t k = 0; k < job.terms; ++k) {
    const float* from = job.from[k] + p * job.computed + first;
    const float* factors = job.factors + k * job.length + first;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sums[v] += load(from + v * kLanes) * load(factors + v * kLanes);
    }
  }
  float* to = job.to + p * job.channels + first;
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const Vector sum = sums[v];
    store(
        to + v * kLanes,
        job.relu ? choose(sum < Vector{}, Vector{}, sum) : sum);
  }
}

MMSKIP_INLINE void mix_channel(const RunMix& job, int64_t p, int64_t c) {
  float sum = job.bias == nullptr ? 0 : job.bias[c];
  for (int64_t k = 0; k < job.terms; ++k) {
    sum += job.from[k][p * job.computed + c] * job.factors[k * job.length + c];
  }
  job.to[p * job.channels + c] = job.relu && sum < 0 ? 0 : sum;
}

void mix_last_run(const RunMix& job) {
  for (int64_t p = 0; p < job.positions; ++p) {
    int64_t c = 0;
    for (; c + 4 * kLanes <= job.length; c += 4 * kLanes) {
      mix_channels<4>(job, p, c);
    }
    for (; c + kLanes <= job.length; c += kLanes) {
      mix_channels<1>(job, p, c);
    }
    if (c < job.length && job.length >= kLanes) {
      // Some are computed again.
      mix_channels<1>(job, p, job.length - kLanes);
      continue;
    }
    for (; c < job.length; ++c) {
      mix_channel(job, p, c);
    }
  }
}

} // namespace
} // namespace mmskip
