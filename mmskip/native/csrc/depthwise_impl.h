// One filter per channel.
// Part of kernels_impl.h.
#pragma once

#include "activation_impl.h"
#include "taps_impl.h"

namespace mmskip {
namespace {

// Channels [c, c + vectors * kLanes) of one output; weight is [tap][C].
template <int vectors>
MMSKIP_INLINE void depthwise_channels(
    const Accumulation& job,
    const Taps& taps,
    int64_t first_tap,
    int64_t num_taps,
    int64_t at,
    int64_t c,
    float* to) {
  const int64_t C = job.geometry->in_channels;
  Vector sums[vectors];
  const float* base =
      first_tap == 0 && job.bias != nullptr ? job.bias + c : to + c;
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    sums[v] = load(base + v * kLanes);
  }
  for (int64_t t = 0; t < num_taps; ++t) {
    const float* from = taps.from[t][at];
    if (from == job.zeros) {
      continue;
    }
    const float* w = job.weight + (first_tap + t) * C + c;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sums[v] += load(from + c + v * kLanes) * load(w + v * kLanes);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    store(to + c + v * kLanes, sums[v]);
  }
}

MMSKIP_INLINE void depthwise_output(
    const Accumulation& job,
    const Taps& taps,
    int64_t first_tap,
    int64_t num_taps,
    int64_t at,
    float* to) {
  const int64_t C = job.geometry->in_channels;
  int64_t c = 0;
  for (; c + 4 * kLanes <= C; c += 4 * kLanes) {
    depthwise_channels<4>(job, taps, first_tap, num_taps, at, c, to);
  }
  for (; c + kLanes <= C; c += kLanes) {
    depthwise_channels<1>(job, taps, first_tap, num_taps, at, c, to);
  }
  for (; c < C; ++c) {
    float sum =
        first_tap == 0 && job.bias != nullptr ? job.bias[c] : to[c];
    for (int64_t t = 0; t < num_taps; ++t) {
      sum += taps.from[t][at][c] * job.weight[(first_tap + t) * C + c];
    }
    to[c] = sum;
  }
}

void depthwise_outputs(const Accumulation& job, int64_t begin, int64_t end) {
  Taps taps;
  const Geometry& g = *job.geometry;
  for (int64_t at = begin; at < end; at += kChunk) {
    const int64_t size = end - at < kChunk ? end - at : kChunk;
    for (int64_t tap = 0; tap < g.positions(); tap += kMaxTaps) {
      const int64_t some =
          g.positions() - tap < kMaxTaps ? g.positions() - tap : kMaxTaps;
      look_up(job, at, size, tap, some, taps);
      ask_for_outputs(job, at, size);
      for (int64_t i = 0; i < size; ++i) {
        float* to = job.output + job.active[at + i] * g.out_channels;
        depthwise_output(job, taps, tap, some, i, to);
      }
      if (job.activated != nullptr) {
        activate_outputs(job, job.active + at, size, 0, g.out_channels);
      }
    }
  }
}

} // namespace
} // namespace mmskip
