// Activations.
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

// Activations for which kernels are not compiled one by one.
MMSKIP_INLINE Vector activate_other(Vector x, const Activation& activation) {
  const Vector zero = {}, six = splat(6.0f);
  switch (activation.kind) {
    case ActivationKind::kReLU6:
      x = choose(x < zero, zero, x);
      return choose(x > six, six, x);
    case ActivationKind::kHardswish: {
      Vector y = x + 3.0f;
      y = choose(y < zero, zero, y);
      y = choose(y > six, six, y);
      return x * y / 6.0f;
    }
    case ActivationKind::kLeakyReLU:
      return choose(x > zero, x, x * activation.slope);
    default:
      return x;
  }
}

template <ActivationKind kind>
MMSKIP_INLINE Vector activate(Vector x, const Activation& activation) {
  if constexpr (kind == ActivationKind::kNone) {
    return x;
  } else if constexpr (kind == ActivationKind::kReLU) {
    // As torch: a NaN stays one.
    return choose(x < Vector{}, Vector{}, x);
  } else if constexpr (kind == ActivationKind::kSiLU) {
    // Below, the exponential is no longer that of x, which it has to outweigh.
    x = choose(x < splat(-87.0f), splat(-87.0f), x);
    return x / (1.0f + exponential(-x));
  } else {
    return activate_other(x, activation);
  }
}

template <ActivationKind its_kind>
struct Known {
  static constexpr ActivationKind kind = its_kind;
};

// Calls run(Known<kind>) for the kind of an activation: `decltype(known)::kind`
// is a constant there.
template <typename Run>
MMSKIP_INLINE void for_kind(ActivationKind kind, const Run& run) {
  switch (kind) {
    case ActivationKind::kNone:
      run(Known<ActivationKind::kNone>{});
      break;
    case ActivationKind::kReLU:
      run(Known<ActivationKind::kReLU>{});
      break;
    case ActivationKind::kSiLU:
      run(Known<ActivationKind::kSiLU>{});
      break;
    default:
      run(Known<kAnyOther>{});
  }
}

template <ActivationKind kind>
MMSKIP_INLINE void activate_floats(
    const Activation& activation, const float* from, float* to, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    store(to + i, activate<kind>(load(from + i), activation));
  }
  if (i < count) {
    const Vector rest = load_some(from + i, count - i);
    store_some(to + i, activate<kind>(rest, activation), count - i);
  }
}

// Channels [first, first + count) of outputs that were just computed.
inline void activate_outputs(
    const Accumulation& job,
    const int32_t* active,
    int64_t outputs,
    int64_t first,
    int64_t count) {
  for_kind(job.activation.kind, [&](auto known) MMSKIP_ALWAYS {
    for (int64_t i = 0; i < outputs; ++i) {
      const Geometry& g = *job.geometry;
      const int64_t at = g.place_of(active[i]) * g.out_channels + first;
      activate_floats<decltype(known)::kind>(
          job.activation, job.output + at, job.activated + at, count);
    }
  });
}

} // namespace
} // namespace mmskip
