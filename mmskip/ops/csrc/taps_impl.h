// Where the kernel positions of an output read.
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

constexpr int kTile = MMSKIP_PIXELS;
// Tiles whose taps are looked up at a time.
constexpr int kChunk = 8 * kTile;
constexpr int kMaxTaps = 64;

// Where the taps of up to kChunk outputs read.
struct Taps {
  // [position][output]; zeros outside of the image and where not readable.
  const float* from[kMaxTaps][kChunk];
  // Whether no output of a tile reads anything through a tap.
  bool idle[kMaxTaps][kChunk / kTile];
};

MMSKIP_INLINE void look_up(
    const Accumulation& job,
    int64_t begin,
    int64_t count,
    int64_t first_tap,
    int64_t taps,
    Taps& result) {
  const Geometry& g = *job.geometry;
  const int64_t padded_width = g.padded_width(), C = g.in_channels;
  int64_t flag_step[kMaxTaps], input_step[kMaxTaps];
  for (int64_t t = 0; t < taps; ++t) {
    const int64_t h = (first_tap + t) / g.kernel_width * g.dilation_height;
    const int64_t w = (first_tap + t) % g.kernel_width * g.dilation_width;
    flag_step[t] = h * padded_width + w;
    input_step[t] = (h * g.width + w) * C;
    for (int64_t i = 0; i < (count + kTile - 1) / kTile; ++i) {
      result.idle[t][i] = true;
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t index = job.active[begin + i];
    const int64_t stream = index / g.out_size();
    const int64_t place = index - stream * g.out_size();
    const int64_t h = place / g.out_width * g.stride_height;
    const int64_t w = place % g.out_width * g.stride_width;
    const uint8_t* flags =
        job.readable + stream * g.padded_size() + h * padded_width + w;
    // May lie outside of the image, where it is not used.
    const int64_t origin = stream * g.in_size() * C +
        ((h - g.top) * g.width + w - g.left) * C;
    for (int64_t t = 0; t < taps; ++t) {
      const bool reads = flags[flag_step[t]] != 0;
      result.from[t][i] =
          reads ? job.input + (origin + input_step[t]) : job.zeros;
      result.idle[t][i / kTile] &= !reads;
    }
  }
}

} // namespace
} // namespace mmskip
