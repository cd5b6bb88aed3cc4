// Vector registers.
// Part of kernels_impl.h.
#pragma once

#include "kernels.h"

namespace mmskip {
namespace {

typedef float Vector __attribute__((vector_size(MMSKIP_BYTES)));
typedef float Loose
    __attribute__((vector_size(MMSKIP_BYTES), aligned(4), may_alias));
typedef int32_t Bits __attribute__((vector_size(MMSKIP_BYTES)));

constexpr int kLanes = MMSKIP_BYTES / 4;

#define MMSKIP_INLINE inline __attribute__((always_inline))

MMSKIP_INLINE Vector splat(float value) {
  return Vector{} + value;
}

// Lanes of a where the condition holds, else of b.
MMSKIP_INLINE Vector choose(Bits condition, Vector a, Vector b) {
  return reinterpret_cast<Vector>(
      (condition & reinterpret_cast<Bits>(a)) |
      (~condition & reinterpret_cast<Bits>(b)));
}

MMSKIP_INLINE Vector load(const float* from) {
  return *reinterpret_cast<const Loose*>(from);
}

MMSKIP_INLINE void store(float* to, Vector value) {
  *reinterpret_cast<Loose*>(to) = value;
}

MMSKIP_INLINE Vector load_some(const float* from, int64_t count) {
  Vector value = {};
  for (int64_t i = 0; i < count; ++i) {
    value[i] = from[i];
  }
  return value;
}

MMSKIP_INLINE void store_some(float* to, Vector value, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = value[i];
  }
}

MMSKIP_INLINE Vector magnitude_of(Vector residual, bool squared) {
  if (squared) {
    return residual * residual;
  }
  return reinterpret_cast<Vector>(
      reinterpret_cast<Bits>(residual) & INT32_C(0x7fffffff));
}

// Asks for floats that are needed soon and lie far from those before them.
MMSKIP_INLINE void prefetch(const float* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / sizeof(float)) {
    __builtin_prefetch(from + i);
  }
}

// Lanes are combined four at a time: one after the other, each would have to
// wait for the one before.
MMSKIP_INLINE bool any(Bits bits) {
  int32_t four[4] = {};
  for (int i = 0; i < kLanes; i += 4) {
    for (int k = 0; k < 4; ++k) {
      four[k] |= bits[i + k];
    }
  }
  return ((four[0] | four[1]) | (four[2] | four[3])) != 0;
}

MMSKIP_INLINE float total(Vector value) {
  float four[4] = {};
  for (int i = 0; i < kLanes; i += 4) {
    for (int k = 0; k < 4; ++k) {
      four[k] += value[i + k];
    }
  }
  return (four[0] + four[1]) + (four[2] + four[3]);
}

// Bytes that are looked at at once.
constexpr int64_t kBytes = 8;

// True if the next bytes are there and 0.
MMSKIP_INLINE bool are_zero(const uint8_t* bytes, int64_t left) {
  if (left < kBytes) {
    return false;
  }
  uint64_t all;
  __builtin_memcpy(&all, bytes, kBytes);
  return all == 0;
}

MMSKIP_INLINE bool is_zero(const uint8_t* bytes, int64_t count) {
  int64_t i = 0;
  while (are_zero(bytes + i, count - i)) {
    i += kBytes;
  }
  uint8_t rest = 0;
  for (; i < count; ++i) {
    rest |= bytes[i];
  }
  return rest == 0;
}

} // namespace
} // namespace mmskip
