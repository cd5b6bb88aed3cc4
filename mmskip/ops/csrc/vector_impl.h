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

MMSKIP_INLINE bool any(Bits bits) {
  int32_t all = 0;
  for (int i = 0; i < kLanes; ++i) {
    all |= bits[i];
  }
  return all != 0;
}

MMSKIP_INLINE float total(Vector value) {
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) {
    sum += value[i];
  }
  return sum;
}

} // namespace
} // namespace mmskip
