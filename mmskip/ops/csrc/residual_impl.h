// What has changed, and what a gate makes of it.
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

MMSKIP_INLINE Vector magnitude_of(Vector residual, bool squared) {
  if (squared) {
    return residual * residual;
  }
  return reinterpret_cast<Vector>(
      reinterpret_cast<Bits>(residual) & INT32_C(0x7fffffff));
}

// Whether x differs from the reference; a NaN does, and so do infinities.
MMSKIP_INLINE bool differs(
    const float* x, const float* reference, int64_t count) {
  int64_t i = 0;
  Bits found[4] = {};
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int64_t at = i + v * kLanes;
      found[v] |= reinterpret_cast<Bits>(
          load(x + at) - load(reference + at) != Vector{});
    }
  }
  for (; i + kLanes <= count; i += kLanes) {
    found[0] |= reinterpret_cast<Bits>(
        load(x + i) - load(reference + i) != Vector{});
  }
  bool rest = false;
  for (; i < count; ++i) {
    rest |= !(x[i] - reference[i] == 0);
  }
  return rest || any((found[0] | found[1]) | (found[2] | found[3]));
}

template <bool squared>
MMSKIP_INLINE float measure(
    const float* x, float* reference, int64_t C, bool subtract) {
  Vector sums = {};
  int64_t c = 0;
  for (; c + kLanes <= C; c += kLanes) {
    const Vector residual = load(x + c) - load(reference + c);
    sums += magnitude_of(residual, squared);
    if (subtract) {
      store(reference + c, residual);
    }
  }
  float sum = total(sums);
  for (; c < C; ++c) {
    const float residual = x[c] - reference[c];
    sum += squared ? residual * residual : __builtin_fabsf(residual);
    if (subtract) {
      reference[c] = residual;
    }
  }
  return sum / static_cast<float>(C);
}

// Positions of a learned gate's kernel whose products are summed at a time.
constexpr int kProducts = 4;

// What a learned gate sees of channels c, c + 1, ...
template <Sight sees>
MMSKIP_INLINE Vector seen(const float* x, const float* reference, int64_t c) {
  if (sees == Sight::kFrame) {
    return load(x + c);
  }
  const Vector residual = load(x + c) - load(reference + c);
  return sees == Sight::kMagnitude ? magnitude_of(residual, false) : residual;
}

template <Sight sees>
MMSKIP_INLINE float seen_one(
    const float* x, const float* reference, int64_t c) {
  if (sees == Sight::kFrame) {
    return x[c];
  }
  const float residual = x[c] - reference[c];
  return sees == Sight::kMagnitude ? __builtin_fabsf(residual) : residual;
}

// The products of one input position with `count` positions of the kernel.
template <Sight sees, int count>
MMSKIP_INLINE void products(
    const float* x,
    const float* reference,
    const float* gate,
    int64_t C,
    float* scores,
    int64_t step) {
  Vector sums[count] = {};
  int64_t c = 0;
  for (; c + kLanes <= C; c += kLanes) {
    const Vector value = seen<sees>(x, reference, c);
#pragma GCC unroll 4
    for (int k = 0; k < count; ++k) {
      sums[k] += value * load(gate + k * C + c);
    }
  }
  for (int k = 0; k < count; ++k) {
    float sum = total(sums[k]);
    for (int64_t rest = c; rest < C; ++rest) {
      sum += seen_one<sees>(x, reference, rest) * gate[k * C + rest];
    }
    scores[k * step] = sum;
  }
}

template <Sight sees>
void learned_scores(
    const Comparison& job,
    const float* x,
    const float* reference,
    float* scores) {
  const Geometry& g = *job.geometry;
  const int64_t C = g.in_channels, taps = g.positions();
  const int64_t step = g.streams * g.padded_size();
  int64_t k = 0;
  for (; k + kProducts <= taps; k += kProducts) {
    products<sees, kProducts>(
        x, reference, job.gate + k * C, C, scores + k * step, step);
  }
  for (; k < taps; ++k) {
    products<sees, 1>(
        x, reference, job.gate + k * C, C, scores + k * step, step);
  }
}

// The scores of one position that has changed.
MMSKIP_INLINE void score(
    const Comparison& job, const float* x, float* reference, float* scores) {
  const int64_t C = job.geometry->in_channels;
  if (job.gate == nullptr) {
    *scores = job.order == 2
        ? measure<true>(x, reference, C, job.subtract)
        : measure<false>(x, reference, C, job.subtract);
    return;
  }
  if (job.sees == Sight::kResidual) {
    learned_scores<Sight::kResidual>(job, x, reference, scores);
  } else if (job.sees == Sight::kMagnitude) {
    learned_scores<Sight::kMagnitude>(job, x, reference, scores);
  }
  for (int64_t c = 0; job.subtract && c < C; ++c) {
    reference[c] = x[c] - reference[c];
  }
}

void compare_rows(const Comparison& job, int64_t begin, int64_t end) {
  const Geometry& g = *job.geometry;
  const int64_t C = g.in_channels, width = g.width;
  const bool sees_frames = job.gate != nullptr && job.sees == Sight::kFrame;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t padded = g.padded_row(row);
    const float* x = job.x + row * width * C;
    float* reference = job.reference + row * width * C;
    int32_t count = 0;
    for (int64_t w = 0; sees_frames && w < width; ++w) {
      learned_scores<Sight::kFrame>(
          job, x + w * C, reference, job.scores + padded + w);
    }
    // Most of what has not changed lies together.
    const int64_t run = C >= 256 ? 1 : 256 / C;
    for (int64_t left = 0; left < width; left += run) {
      const int64_t right = left + run < width ? left + run : width;
      if (!differs(x + left * C, reference + left * C, (right - left) * C)) {
        continue;
      }
      for (int64_t w = left; w < right; ++w) {
        if (differs(x + w * C, reference + w * C, C)) {
          score(job, x + w * C, reference + w * C, job.scores + padded + w);
          job.changed[padded + w] = 1;
          ++count;
        }
      }
    }
    job.counts[row] = count;
  }
}

} // namespace
} // namespace mmskip
