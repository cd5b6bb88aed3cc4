// Maxima over windows and sums of rows, where they have changed.
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

// The positions of the image that the windows of a row or column cover:
// [first, last).
struct Window {
  int64_t first, last;
};

MMSKIP_INLINE Window window_of(
    int64_t at, int64_t stride, int64_t padding, int64_t kernel, int64_t size) {
  const int64_t first = at * stride - padding, last = first + kernel;
  return {first > 0 ? first : 0, last < size ? last : size};
}

// Outputs of a row to compute; returns how many.
template <typename T>
MMSKIP_INLINE int32_t mark_windows(
    const Pool<T>& job, const uint8_t* map, const Window& rows, uint8_t* mask) {
  int32_t found = 0;
  for (int64_t w = 0; w < job.out_width; ++w) {
    const Window columns = window_of(
        w, job.stride_width, job.left, job.kernel_width, job.width);
    uint8_t any = map == nullptr;
    for (int64_t h = rows.first; map != nullptr && h < rows.last; ++h) {
      for (int64_t i = columns.first; i < columns.last; ++i) {
        any |= map[h * job.width + i];
      }
    }
    mask[w] = any;
    found += any;
  }
  return found;
}

MMSKIP_INLINE void take_maximum(Vector value, Vector& maximum) {
  // As torch: a NaN wins.
  const Bits larger = reinterpret_cast<Bits>(value > maximum);
  maximum = choose(
      larger | reinterpret_cast<Bits>(value != value), value, maximum);
}

template <typename T>
MMSKIP_INLINE void pool_window(
    const Pool<T>& job,
    const T* image,
    const Window& rows,
    const Window& columns,
    T* to) {
  const int64_t C = job.channels;
  for (int64_t c = 0; c < C; c += kLanes) {
    const int64_t left = C - c;
    Vector maximum = splat(-__builtin_inff());
    for (int64_t h = rows.first; h < rows.last; ++h) {
      const T* line = image + h * job.width * C + c;
      for (int64_t w = columns.first; w < columns.last; ++w) {
        take_maximum(load_up_to(line + w * C, left), maximum);
      }
    }
    store_up_to(to + c, maximum, left);
  }
}

template <typename T>
void pool_rows(const Pool<T>& job, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t stream = row / job.out_height;
    const Window rows = window_of(
        row % job.out_height, job.stride_height, job.top, job.kernel_height,
        job.height);
    const int64_t place = stream * job.height * job.width;
    uint8_t* mask = job.mask + row * job.out_width;
    job.counts[row] = mark_windows(
        job, job.map == nullptr ? nullptr : job.map + place, rows, mask);
    for (int64_t w = 0; job.counts[row] > 0 && w < job.out_width; ++w) {
      if (mask[w]) {
        const Window columns = window_of(
            w, job.stride_width, job.left, job.kernel_width, job.width);
        pool_window(
            job, job.image + place * job.channels, rows, columns,
            job.result + (row * job.out_width + w) * job.channels);
      }
    }
  }
}

template <int vectors, typename T>
MMSKIP_INLINE void sum_channels(
    const T* from, int64_t width, int64_t C, float* to) {
  Vector sums[vectors] = {};
  for (int64_t w = 0; w < width; ++w) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sums[v] += load(from + w * C + v * kLanes);
    }
  }
  for (int v = 0; v < vectors; ++v) {
    store(to + v * kLanes, sums[v]);
  }
}

template <typename T>
void sum_changed_rows(const RowSums<T>& job, int64_t begin, int64_t end) {
  const int64_t C = job.channels;
  for (int64_t row = begin; row < end; ++row) {
    if (job.map != nullptr && is_zero(job.map + row * job.width, job.width)) {
      continue;
    }
    const T* from = job.image + row * job.width * C;
    float* to = job.sums + row * C;
    int64_t c = 0;
    for (; c + 4 * kLanes <= C; c += 4 * kLanes) {
      sum_channels<4>(from + c, job.width, C, to + c);
    }
    for (; c + kLanes <= C; c += kLanes) {
      sum_channels<1>(from + c, job.width, C, to + c);
    }
    for (; c < C; ++c) {
      to[c] = 0;
      for (int64_t w = 0; w < job.width; ++w) {
        to[c] += to_float(from[w * C + c]);
      }
    }
  }
}

} // namespace
} // namespace mmskip
