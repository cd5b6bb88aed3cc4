// From scores of inputs to sums over the support of outputs.
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

// Of a transposed convolution: each output reads some positions of the kernel,
// so that each position is added to every stride-th output.
void spread_sum_rows(
    const Geometry& g,
    const float* maps,
    int64_t step,
    float* sums,
    int64_t begin,
    int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t stream = row / g.out_height;
    float* sum = sums + row * g.out_width;
    for (int64_t w = 0; w < g.out_width; ++w) {
      sum[w] = 0;
    }
    for (int64_t kh = 0; kh < g.kernel_height; ++kh) {
      const int64_t read = g.row_read(row % g.out_height, kh);
      if (read < 0) {
        continue;
      }
      const float* line =
          maps + (stream * g.padded_height() + read) * g.padded_width();
      for (int64_t kw = 0; kw < g.kernel_width; ++kw) {
        const float* from = line +
            (kh * g.kernel_width + kw) * step + g.first_column_read(kw);
        float* to = sum + g.first_reader(kw);
        for (int64_t w = 0; w < g.width; ++w) {
          to[w * g.stride_width] += from[w];
        }
      }
    }
  }
}

void support_sum_rows(
    const Geometry& geometry,
    const float* maps,
    int64_t step,
    float* sums,
    int64_t begin,
    int64_t end) {
  if (geometry.transposed) {
    spread_sum_rows(geometry, maps, step, sums, begin, end);
    return;
  }
  const int64_t width = geometry.out_width, stride = geometry.stride_width;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t stream = row / geometry.out_height;
    const int64_t top =
        row % geometry.out_height * geometry.stride_height;
    float* sum = sums + row * width;
    for (int64_t w = 0; w < width; ++w) {
      sum[w] = 0;
    }
    for (int64_t kh = 0; kh < geometry.kernel_height; ++kh) {
      const float* line = maps + kh * geometry.kernel_width * step +
          (stream * geometry.padded_height() + top +
           kh * geometry.dilation_height) *
              geometry.padded_width();
      for (int64_t kw = 0; kw < geometry.kernel_width; ++kw) {
        const float* from = line + kw * (step + geometry.dilation_width);
        if (stride == 1) {
          for (int64_t w = 0; w < width; ++w) {
            sum[w] += from[w];
          }
        } else {
          for (int64_t w = 0; w < width; ++w) {
            sum[w] += from[w * stride];
          }
        }
      }
    }
  }
}

} // namespace
} // namespace mmskip
