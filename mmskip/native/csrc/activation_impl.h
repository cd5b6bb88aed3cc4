// ReLU and SiLU.
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

// e^x to two units in the last place, 2^n times a polynomial on
// [-ln(2) / 2, ln(2) / 2], its Taylor series to the seventh power. Beyond 87
// in either direction: that of 87.
MMSKIP_INLINE Vector exponential(Vector x) {
  x = choose(x < splat(-87.0f), splat(-87.0f), x);
  x = choose(x > splat(87.0f), splat(87.0f), x);
  const Vector scaled = x * 1.44269504f;
  const Vector half = choose(x < Vector{}, splat(-0.5f), splat(0.5f));
  const Bits n = __builtin_convertvector(scaled + half, Bits);
  const Vector whole = __builtin_convertvector(n, Vector);
  // ln(2) in two parts, the first of few digits.
  const Vector r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
  Vector sum = splat(1.0f / 5040);
  sum = sum * r + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  return sum * reinterpret_cast<Vector>((n + 127) << 23);
}

template <Activation activation>
MMSKIP_INLINE Vector activate(Vector x) {
  if (activation == Activation::kReLU) {
    // As torch: a NaN stays one.
    return choose(x < Vector{}, Vector{}, x);
  }
  if (activation == Activation::kSiLU) {
    // Below, the exponential is no longer that of x, which it has to outweigh.
    x = choose(x < splat(-87.0f), splat(-87.0f), x);
    return x / (1.0f + exponential(-x));
  }
  return x;
}

template <Activation activation>
MMSKIP_INLINE void activate_floats(
    const float* from, float* to, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    store(to + i, activate<activation>(load(from + i)));
  }
  if (i < count) {
    const Vector rest = load_some(from + i, count - i);
    store_some(to + i, activate<activation>(rest), count - i);
  }
}

// Channels [first, first + count) of outputs that were just computed.
inline void activate_outputs(
    const Accumulation& job,
    const int32_t* active,
    int64_t outputs,
    int64_t first,
    int64_t count) {
  for (int64_t i = 0; i < outputs; ++i) {
    const int64_t at = active[i] * job.geometry->out_channels + first;
    const float* from = job.output + at;
    float* to = job.activated + at;
    switch (job.activation) {
      case Activation::kNone:
        activate_floats<Activation::kNone>(from, to, count);
        break;
      case Activation::kReLU:
        activate_floats<Activation::kReLU>(from, to, count);
        break;
      case Activation::kSiLU:
        activate_floats<Activation::kSiLU>(from, to, count);
        break;
    }
  }
}

} // namespace
} // namespace mmskip
