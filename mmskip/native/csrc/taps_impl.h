// The places that the kernel positions of an output read.
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

constexpr int kTile = MMSKIP_PIXELS;
// Tiles whose taps are found at a time.
constexpr int kChunk = 8 * kTile;
constexpr int kMaxTaps = 64;

// With few channels, a whole row of the kernel is one tap: it reads
// kernel_width * C_in floats that lie side by side.
constexpr int kMaxRows = 7, kMaxRowFloats = 48;

inline bool taps_are_rows(const Geometry& g) {
  return g.groups == 1 && g.dilation_width == 1 && g.kernel_width > 1 &&
      g.kernel_width <= 8 && g.kernel_height <= kMaxRows &&
      g.kernel_width * g.in_channels <= kMaxRowFloats;
}

// Where the taps of up to kChunk outputs read.
struct Taps {
  // [position][output]; zeros outside of the image and where not readable.
  const float* from[kMaxTaps][kChunk];
  // True if no output of a tile reads anything through a tap.
  bool idle[kMaxTaps][kChunk / kTile];
};

// Rows that are readable in part, with zeros where they are not.
struct Rows {
  float floats[kMaxRows][kChunk][kMaxRowFloats];
};

// Where an output of a job reads first: its place in the padded map, and in
// the input, where that may lie outside of the image and is not used then.
struct Origin {
  int64_t flag, input;
};

MMSKIP_INLINE Origin origin_of(const Geometry& g, int64_t index) {
  const int64_t stream = index / g.out_size();
  const int64_t place = index - stream * g.out_size();
  const int64_t h = place / g.out_width * g.stride_height + g.unread_height;
  const int64_t w = place % g.out_width * g.stride_width + g.unread_width;
  return {
      stream * g.padded_size() + h * g.padded_width() + w,
      (stream * g.in_size() + (h - g.top) * g.width + w - g.left) *
          g.in_channels};
}

MMSKIP_INLINE void look_up_rows(
    const Accumulation& job,
    int64_t begin,
    int64_t count,
    Taps& result,
    Rows& rows) {
  const Geometry& g = *job.geometry;
  const int64_t C = g.in_channels, width = g.kernel_width;
  const int64_t end = g.streams * g.padded_size();
  const uint64_t all = UINT64_C(0x0101010101010101) >> (64 - 8 * width);
  for (int64_t t = 0; t < g.kernel_height; ++t) {
    for (int64_t i = 0; i < (count + kTile - 1) / kTile; ++i) {
      result.idle[t][i] = true;
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const Origin origin = origin_of(g, job.active[begin + i]);
    for (int64_t t = 0; t < g.kernel_height; ++t) {
      const int64_t h = t * g.dilation_height;
      const int64_t at = origin.flag + h * g.padded_width();
      uint64_t flags = 0;
      // A copy of 8 bytes is one instruction.
      if (at + 8 <= end) {
        __builtin_memcpy(&flags, job.readable + at, 8);
        flags &= all * 0xff;
      } else {
        __builtin_memcpy(&flags, job.readable + at, width);
      }
      const float* from = job.input + (origin.input + h * g.width * C);
      if (flags == 0) {
        from = job.zeros;
      } else if (flags != all) {
        float* to = rows.floats[t][i];
        for (int64_t c = 0; c < width * C; ++c) {
          to[c] = job.readable[at + c / C] ? from[c] : 0;
        }
        from = to;
      }
      result.from[t][i] = from;
      result.idle[t][i / kTile] &= flags == 0;
    }
  }
}

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
    const Origin origin = origin_of(g, job.active[begin + i]);
    const uint8_t* flags = job.readable + origin.flag;
    for (int64_t t = 0; t < taps; ++t) {
      const bool reads = flags[flag_step[t]] != 0;
      result.from[t][i] =
          reads ? job.input + (origin.input + input_step[t]) : job.zeros;
      result.idle[t][i / kTile] &= !reads;
    }
  }
}

// Outputs begin + [0, count), last written a frame ago.
MMSKIP_INLINE void ask_for_outputs(
    const Accumulation& job, int64_t begin, int64_t count) {
  const Geometry& g = *job.geometry;
  const int64_t C = g.out_channels;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = g.place_of(job.active[begin + i]) * C;
    prefetch(job.output + at, C);
    if (job.activated != nullptr) {
      prefetch(job.activated + at, C);
    }
  }
}

} // namespace
} // namespace mmskip
