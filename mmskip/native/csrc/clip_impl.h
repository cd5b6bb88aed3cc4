// Pooling and mixing of clips, which dynamic convolutions do beside convolving.
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

void pool_clip_channels(const ClipPool& job, int64_t begin, int64_t end) {
  for (int64_t at = begin; at < end; ++at) {
    const int64_t n = at / job.channels, c = at % job.channels;
    const float* plane = job.x + n * job.sample_step + c * job.channel_step;
    double sum = 0, change = 0;
    for (int64_t t = 0; t < job.frames; ++t, plane += job.frame_step) {
      // The first frame differs from itself by 0.
      const float* before = t > 0 ? plane - job.frame_step : plane;
      Vector sums[2] = {}, changes[2] = {};
      int64_t i = 0;
      for (; i + 2 * kLanes <= job.size; i += 2 * kLanes) {
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          const Vector here = load(plane + i + v * kLanes);
          sums[v] += here;
          changes[v] +=
              magnitude_of(here - load(before + i + v * kLanes), false);
        }
      }
      sum += total(sums[0] + sums[1]);
      change += total(changes[0] + changes[1]);
      for (; i < job.size; ++i) {
        sum += plane[i];
        change += __builtin_fabsf(plane[i] - before[i]);
      }
    }
    const int64_t columns = job.differences ? 2 * job.channels : job.channels;
    const double pairs = job.frames > 1 ? job.frames - 1 : 1;
    float* to = job.result + n * columns + c;
    *to = sum / (job.frames * job.size);
    if (job.differences) {
      to[job.channels] = change / (pairs * job.size);
    }
  }
}

void sum_some_planes(const PlaneSum& job, int64_t begin, int64_t end) {
  for (int64_t at = begin; at < end; ++at) {
    const int64_t n = at / job.sums, p = at % job.sums;
    const float* image = job.from + n * job.planes * job.size;
    const float* factors = job.factors + n * job.terms;
    const int64_t first = job.starts[p];
    const int64_t last = p + 1 < job.sums ? job.starts[p + 1] : job.terms;
    const float start = job.bias == nullptr ? 0 : job.bias[p / job.frames];
    float* to = job.to + at * job.size;
    int64_t i = 0;
    for (; i + 2 * kLanes <= job.size; i += 2 * kLanes) {
      Vector sums[2] = {splat(start), splat(start)};
      for (int64_t k = first; k < last; ++k) {
        const float* from = image + job.sources[k] * job.size + i;
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          sums[v] += load(from + v * kLanes) * factors[k];
        }
      }
      store(to + i, sums[0]);
      store(to + i + kLanes, sums[1]);
    }
    for (; i < job.size; ++i) {
      float sum = start;
      for (int64_t k = first; k < last; ++k) {
        sum += image[job.sources[k] * job.size + i] * factors[k];
      }
      to[i] = sum;
    }
  }
}

} // namespace
} // namespace mmskip
