// The inner loops, compiled once per instruction set.
#pragma once

#include <cstdint>

#include "geometry.h"

namespace mmskip {

// Output channels in one block of packed weights.
constexpr int64_t kBlock = 32;

// What the sum over the taps of an output goes into.
struct Accumulation {
  const Geometry* geometry;
  // (N, H, W, C_in): residuals, or the transmitted input.
  const float* input;
  // Padded map of the input positions to read; the others count as 0.
  const uint8_t* readable;
  // C_in zeros.
  const float* zeros;
  // As packed by pack_weight().
  const float* weight;
  // Null: add to the output. Else (C_out): replace it by bias plus sum.
  const float* bias;
  // (N, H_out, W_out, C_out).
  float* output;
  // Indices of the outputs to compute, ascending, over all streams.
  const int32_t* active;
};

enum class Activation : int64_t { kNone, kReLU, kSiLU };

struct Kernels {
  const char* name;

  // For rows [begin, end) of the input: the magnitude of x - reference at
  // each position, the mean over channels of its power (order 1 or 2), and
  // whether it is not all zero; both in padded maps, whose borders are not
  // touched. If asked to, the reference becomes the residual where changed.
  // Returns how many positions have changed, by row, in `counts`.
  void (*residual)(
      const Geometry& geometry,
      const float* x,
      float* reference,
      float* magnitude,
      uint8_t* changed,
      int32_t* counts,
      int order,
      bool subtract,
      int64_t begin,
      int64_t end);

  // Outputs active[begin, end), blocks [first, last) of their channels.
  void (*accumulate)(
      const Accumulation& job,
      int64_t begin,
      int64_t end,
      int64_t first,
      int64_t last);

  // The same for groups = C_in = C_out, all channels.
  void (*depthwise)(const Accumulation& job, int64_t begin, int64_t end);

  // The sum over the kernel support of each output of rows [begin, end) of
  // all streams, of a padded map.
  void (*support_sum)(
      const Geometry& geometry,
      const float* map,
      float* sums,
      int64_t begin,
      int64_t end);

  // to = activation(from), `count` floats.
  void (*emit)(
      const float* from, float* to, int64_t count, Activation activation);
};

extern const Kernels kPortable;
#if defined(__x86_64__)
extern const Kernels kAVX2;
extern const Kernels kAVX512;
#endif

} // namespace mmskip
