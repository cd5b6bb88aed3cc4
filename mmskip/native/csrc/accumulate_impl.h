// Dense and grouped kernels.
// Part of kernels_impl.h.
#pragma once

#include "activation_impl.h"
#include "taps_impl.h"

namespace mmskip {
namespace {

// Floats of a kernel between what is multiplied and what is asked for: with
// few outputs the kernel comes from memory, and is used once.
constexpr int64_t kAhead = 32 * kBlock;

template <int pixels, int vectors>
MMSKIP_INLINE void multiply(
    const Taps& taps,
    int64_t num_taps,
    int64_t at,
    int64_t channel,
    int64_t channels,
    const float* weight,
    Vector (&sums)[pixels][vectors]) {
  for (int64_t t = 0; t < num_taps; ++t) {
    if (taps.idle[t][at / kTile]) {
      continue;
    }
    const float* from[pixels];
    for (int i = 0; i < pixels; ++i) {
      from[i] = taps.from[t][at + i] + channel;
    }
    const float* w = weight + t * channels * kBlock;
    for (int64_t c = 0; c < channels; ++c, w += kBlock) {
      Vector row[vectors];
      prefetch(w + kAhead, kBlock);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        row[v] = load(w + v * kLanes);
      }
#pragma GCC unroll 16
      for (int i = 0; i < pixels; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
          sums[i][v] += row[v] * from[i][c];
        }
      }
    }
  }
}

// One tile: outputs begin + at ..., channels [first, first + count).
template <int pixels, int vectors>
void run_tile(
    const Accumulation& job,
    const Taps& taps,
    int64_t num_taps,
    const int32_t* active,
    int64_t at,
    int64_t channel,
    int64_t channels,
    const float* weight,
    int64_t first,
    int64_t count,
    bool initial) {
  const Geometry& g = *job.geometry;
  Vector sums[pixels][vectors] = {};
  multiply<pixels, vectors>(
      taps, num_taps, at, channel, channels, weight, sums);
#pragma GCC unroll 16
  for (int i = 0; i < pixels; ++i) {
    float* to =
        job.output + g.place_of(active[at + i]) * g.out_channels + first;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const int64_t left = count - v * kLanes;
      const float* base = to + v * kLanes;
      if (initial && job.bias != nullptr) {
        base = job.bias + first + v * kLanes;
      }
      if (left >= kLanes) {
        store(to + v * kLanes, load(base) + sums[i][v]);
      } else if (left > 0) {
        store_some(
            to + v * kLanes, load_some(base, left) + sums[i][v], left);
      }
    }
  }
}

// Runs as large a tile as there are outputs left for; returns its size.
template <int vectors, int pixels = kTile>
MMSKIP_INLINE int64_t run_largest_tile(
    int64_t left,
    const Accumulation& job,
    const Taps& taps,
    int64_t num_taps,
    const int32_t* active,
    int64_t at,
    int64_t channel,
    int64_t channels,
    const float* weight,
    int64_t first,
    int64_t count,
    bool initial) {
  if (pixels == 1 || left >= pixels) {
    run_tile<pixels, vectors>(
        job, taps, num_taps, active, at, channel, channels, weight, first,
        count, initial);
    return pixels;
  }
  if constexpr (pixels > 1) {
    return run_largest_tile<vectors, pixels == 12 ? 8 : pixels / 2>(
        left, job, taps, num_taps, active, at, channel, channels, weight,
        first, count, initial);
  }
  return 1;
}

// All outputs of a chunk, one block of channels, some of the taps, each of
// which reads so many floats.
void run_block(
    const Accumulation& job,
    const Taps& taps,
    int64_t floats,
    int64_t first_tap,
    int64_t num_taps,
    int64_t begin,
    int64_t size,
    int64_t block) {
  const Geometry& g = *job.geometry;
  const int64_t in = g.in_channels / g.groups;
  const int64_t out = g.out_channels / g.groups;
  const int64_t blocks = (out + kBlock - 1) / kBlock;
  const int64_t group = block / blocks, inner = block % blocks * kBlock;
  const int64_t channels = out - inner < kBlock ? out - inner : kBlock;
  const float* weight = job.weight +
      (block * g.positions() * in + first_tap * floats) * kBlock;
  const int32_t* active = job.active + begin;
  for (int64_t c = 0; c < channels; c += 2 * kLanes) {
    const int64_t first = group * out + inner + c;
    const int64_t count = channels - c;
    const int64_t own = count < 2 * kLanes ? count : 2 * kLanes;
    int64_t at = 0;
    while (at < size) {
      // Within one tile, whose idle taps are known.
      const int64_t rest = kTile - at % kTile;
      const int64_t left = size - at < rest ? size - at : rest;
      const int64_t done = count > kLanes
          ? run_largest_tile<2>(
                left, job, taps, num_taps, active, at, group * in, floats,
                weight + c, first, count, first_tap == 0)
          : run_largest_tile<1>(
                left, job, taps, num_taps, active, at, group * in, floats,
                weight + c, first, count, first_tap == 0);
      if (job.activated != nullptr) {
        activate_outputs(job, active + at, done, first, own);
      }
      at += done;
    }
  }
}

void accumulate_rows(
    const Accumulation& job,
    int64_t begin,
    int64_t end,
    int64_t first,
    int64_t last) {
  Taps taps;
  Rows rows;
  const Geometry& g = *job.geometry;
  const int64_t floats = g.kernel_width * g.in_channels;
  for (int64_t at = begin; at < end; at += kChunk) {
    const int64_t size = end - at < kChunk ? end - at : kChunk;
    look_up_rows(job, at, size, taps, rows);
    ask_for_outputs(job, at, size);
    for (int64_t block = first; block < last; ++block) {
      run_block(job, taps, floats, 0, g.kernel_height, at, size, block);
    }
  }
}

void accumulate_outputs(
    const Accumulation& job,
    int64_t begin,
    int64_t end,
    int64_t first,
    int64_t last) {
  const Geometry& g = *job.geometry;
  if (taps_are_rows(g)) {
    accumulate_rows(job, begin, end, first, last);
    return;
  }
  Taps taps;
  const int64_t positions = g.positions(), floats = g.in_channels / g.groups;
  for (int64_t at = begin; at < end; at += kChunk) {
    const int64_t size = end - at < kChunk ? end - at : kChunk;
    for (int64_t tap = 0; tap < positions; tap += kMaxTaps) {
      const int64_t some =
          positions - tap < kMaxTaps ? positions - tap : kMaxTaps;
      look_up(job, at, size, tap, some, taps);
      ask_for_outputs(job, at, size);
      for (int64_t block = first; block < last; ++block) {
        run_block(job, taps, floats, tap, some, at, size, block);
      }
    }
  }
}

} // namespace
} // namespace mmskip
