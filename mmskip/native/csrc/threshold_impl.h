// From sums over the support of outputs to which of them fire.
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

// Decides without a root or a division where that is certain: sums far enough
// from the one that a threshold stands for. Returns false if any is not.
MMSKIP_INLINE bool threshold_plainly(
    const Rule& rule,
    float scale,
    float positions,
    const float* sum,
    uint8_t* to,
    int64_t width) {
  // More than any rounding, of numbers that are far from the smallest.
  constexpr float kMargin = 1e-5f, kLeast = 1e-30f, kMost = 1e30f;
  const float reach = rule.threshold / scale;
  const float bound = (rule.order == 2 ? reach * reach : reach) * positions;
  if (!(reach > 0 && scale > 0 && bound > kLeast && bound < kMost)) {
    return false;
  }
  const float low = bound * (1 - kMargin), high = bound * (1 + kMargin);
  uint8_t open = 0;
  for (int64_t w = 0; w < width; ++w) {
    const uint8_t may = !(sum[w] <= low), does = sum[w] > high;
    to[w] = does;
    open |= may ^ does;
  }
  return open == 0;
}

// Not `>`: a NaN is computed, not hidden.
MMSKIP_INLINE void threshold_row(
    const Rule& rule,
    float scale,
    float positions,
    const float* sum,
    uint8_t* to,
    int64_t width) {
  const float threshold = rule.threshold;
  if (rule.bias != nullptr) {
    const float bias = *rule.bias;
    const float factor = rule.order == 2 ? scale * scale : scale;
    for (int64_t w = 0; w < width; ++w) {
      to[w] = !(factor * sum[w] + bias <= threshold);
    }
    return;
  }
  if (threshold_plainly(rule, scale, positions, sum, to, width)) {
    return;
  }
  if (rule.order == 2) {
    for (int64_t w = 0; w < width; ++w) {
      to[w] = !(scale * __builtin_sqrtf(sum[w] / positions) <= threshold);
    }
  } else {
    for (int64_t w = 0; w < width; ++w) {
      to[w] = !(scale * (sum[w] / positions) <= threshold);
    }
  }
}

void threshold_rows(
    const Geometry& geometry,
    const Rule& rule,
    const float* sums,
    uint8_t* mask,
    int64_t begin,
    int64_t end) {
  const int64_t width = geometry.out_width;
  const float positions = geometry.mean_reads();
  for (int64_t row = begin; row < end; ++row) {
    const int64_t stream = row / geometry.out_height;
    const float scale = rule.scale[rule.scale_by_stream ? stream : 0];
    uint8_t* to = mask + row * width;
    threshold_row(rule, scale, positions, sums + row * width, to, width);
    if (rule.forced != nullptr) {
      const uint8_t* forced =
          rule.forced + row % geometry.out_height * width;
      for (int64_t w = 0; w < width; ++w) {
        to[w] &= forced[w];
      }
    }
  }
}

} // namespace
} // namespace mmskip
