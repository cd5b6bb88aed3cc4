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
typedef uint32_t Words __attribute__((vector_size(MMSKIP_BYTES)));
typedef uint16_t Halves __attribute__((vector_size(MMSKIP_BYTES / 2)));
typedef uint16_t LooseHalves
    __attribute__((vector_size(MMSKIP_BYTES / 2), aligned(2), may_alias));
typedef uint32_t LooseWord __attribute__((aligned(1), may_alias));
typedef uint32_t LooseWords
    __attribute__((vector_size(MMSKIP_BYTES), aligned(1), may_alias));
typedef uint8_t LooseBytes
    __attribute__((vector_size(MMSKIP_BYTES / 4), aligned(1), may_alias));

constexpr int kLanes = MMSKIP_BYTES / 4;

// A number as a type.
template <int its_value>
struct Constant {
  static constexpr int value = its_value;
};

#define MMSKIP_ALWAYS __attribute__((always_inline))
#define MMSKIP_INLINE inline MMSKIP_ALWAYS

MMSKIP_INLINE Vector splat(float value) {
  return Vector{} + value;
}

// Lanes of a where the condition holds, else of b.
MMSKIP_INLINE Vector choose(Bits condition, Vector a, Vector b) {
  return condition ? a : b;
}

MMSKIP_INLINE Vector load(const float* from) {
  return *reinterpret_cast<const Loose*>(from);
}

MMSKIP_INLINE void store(float* to, Vector value) {
  *reinterpret_cast<Loose*>(to) = value;
}

// Compilers widen and narrow in more steps than there are instructions for;
// hence the instructions here and below.
MMSKIP_INLINE Vector load(const BFloat16* from) {
  const LooseHalves& upper = *reinterpret_cast<const LooseHalves*>(from);
#if defined(__AVX2__)
  Words words;
  __asm__("vpmovzxwd %1, %0" : "=v"(words) : "m"(upper));
#else
  const Words words = __builtin_convertvector(upper, Words);
#endif
  return reinterpret_cast<Vector>(words << 16);
}

#if defined(__AVX512BF16__)

// The nearest bfloat16, of two the even one; a NaN stays one. What is nearer to
// 0 than any normal number is 0 here.
MMSKIP_INLINE Halves round_halves(Vector value) {
  Halves halves;
  __asm__("vcvtneps2bf16 %1, %0" : "=v"(halves) : "v"(value));
  return halves;
}

MMSKIP_INLINE Words round_words(Vector value) {
  Words words;
  __asm__("vpmovzxwd %1, %0" : "=v"(words) : "v"(round_halves(value)));
  return words << 16;
}

#else

// The bits of the nearest bfloat16, of two the even one, in the upper halves
// of words; a NaN stays one.
MMSKIP_INLINE Words round_words(Vector value) {
  const Words bits = reinterpret_cast<Words>(value);
  const Words rounded = bits + UINT32_C(0x7fff) + ((bits >> 16) & 1);
  const Bits is_nan = reinterpret_cast<Bits>(value != value);
  return reinterpret_cast<Words>(choose(
      is_nan, reinterpret_cast<Vector>(bits | UINT32_C(0x400000)),
      reinterpret_cast<Vector>(rounded)));
}

MMSKIP_INLINE Halves round_halves(Vector value) {
  return __builtin_convertvector(round_words(value) >> 16, Halves);
}

#endif

MMSKIP_INLINE void store(BFloat16* to, Vector value) {
  *reinterpret_cast<LooseHalves*>(to) = round_halves(value);
}

// What is read again of a value that was stored in an image of this type.
template <typename T>
MMSKIP_INLINE Vector as_stored(Vector value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return value;
  } else {
    return reinterpret_cast<Vector>(
        round_words(value) & UINT32_C(0xffff0000));
  }
}

MMSKIP_INLINE float to_float(float value) {
  return value;
}

MMSKIP_INLINE float to_float(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  __builtin_memcpy(&result, &bits, sizeof(result));
  return result;
}

MMSKIP_INLINE void store_one(float* to, float value) {
  *to = value;
}

// As round_words(), of one number.
MMSKIP_INLINE void store_one(BFloat16* to, float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  bits = value != value ? bits | UINT32_C(0x400000)
                        : bits + UINT32_C(0x7fff) + ((bits >> 16) & 1);
  to->bits = static_cast<uint16_t>(bits >> 16);
}

// Bytes as numbers, on the grid.
MMSKIP_INLINE Vector load(const uint8_t* from) {
  const LooseBytes& bytes = *reinterpret_cast<const LooseBytes*>(from);
#if defined(__AVX2__)
  Bits words;
  __asm__("vpmovzxbd %1, %0" : "=v"(words) : "m"(bytes));
#else
  const Bits words = __builtin_convertvector(bytes, Bits);
#endif
  return __builtin_convertvector(words, Vector);
}

MMSKIP_INLINE void store(uint8_t* to, Vector value) {
  LooseBytes& bytes = *reinterpret_cast<LooseBytes*>(to);
  Words words =
      reinterpret_cast<Words>(__builtin_convertvector(value, Bits));
#if defined(__AVX512F__)
  __asm__("vpmovdb %1, %0" : "=m"(bytes) : "v"(words));
#elif defined(__AVX2__)
  // The first byte of each word to the first word of each half.
  const Words firsts = Words{} + UINT32_C(0x0c080400);
  __asm__("vpshufb %1, %0, %0" : "+v"(words) : "v"(firsts));
  const uint32_t both[] = {words[0], words[4]};
  __builtin_memcpy(&bytes, both, sizeof(both));
#else
  bytes = __builtin_convertvector(words, LooseBytes);
#endif
}

MMSKIP_INLINE Vector as_floats(Vector sums) {
  return sums;
}

MMSKIP_INLINE Vector as_floats(Bits sums) {
  return __builtin_convertvector(sums, Vector);
}

// The larger and the smaller of numbers that are no NaN.
MMSKIP_INLINE Vector larger(Vector a, Vector b) {
#if defined(__AVX2__)
  __asm__("vmaxps %1, %0, %0" : "+v"(a) : "v"(b));
  return a;
#else
  return choose(b > a, b, a);
#endif
}

MMSKIP_INLINE Vector smaller(Vector a, Vector b) {
#if defined(__AVX2__)
  __asm__("vminps %1, %0, %0" : "+v"(a) : "v"(b));
  return a;
#else
  return choose(b < a, b, a);
#endif
}

// The places on a grid that are nearest to numbers, of two the even one.
MMSKIP_INLINE Vector to_grid(Vector value, const Grid& grid) {
  // Numbers from 2^23 on are whole. It is added to what was chosen, so that
  // no CPU multiplies and adds at once, which would round in another way.
  const Vector whole = splat(12582912.0f);
  const Vector low = splat(-grid.zero), high = splat(255 - grid.zero);
  Vector x = value * grid.inverse;
  x = choose(x == x, x, Vector{});
  x = smaller(larger(x, low), high);
  // Both differences are whole, so nothing is rounded but the sum.
  return (x + whole) - (whole - grid.zero);
}

MMSKIP_INLINE float to_float(uint8_t value) {
  return value;
}

MMSKIP_INLINE void store_one(uint8_t* to, float value) {
  *to = static_cast<uint8_t>(value);
}

// True in the first `count` lanes.
MMSKIP_INLINE Bits before(int64_t count) {
  Bits lanes;
  for (int i = 0; i < kLanes; ++i) {
    lanes[i] = i;
  }
  return lanes < static_cast<int32_t>(count);
}

#if defined(__AVX512F__)

// The first `count` lanes.
MMSKIP_INLINE uint16_t first_lanes(int64_t count) {
  return static_cast<uint16_t>((1u << count) - 1);
}

// Lanes behind the first `count` are 0; nothing there is read or written.
MMSKIP_INLINE Vector load_some(const float* from, int64_t count) {
  Vector value;
  __asm__("vmovups %1, %0%{%2%}%{z%}"
          : "=v"(value)
          : "m"(*reinterpret_cast<const Loose*>(from)),
            "Yk"(first_lanes(count)));
  return value;
}

MMSKIP_INLINE Vector load_some(const BFloat16* from, int64_t count) {
  Words words;
  __asm__("vpmovzxwd %1, %0%{%2%}%{z%}"
          : "=v"(words)
          : "m"(*reinterpret_cast<const LooseHalves*>(from)),
            "Yk"(first_lanes(count)));
  return reinterpret_cast<Vector>(words << 16);
}

MMSKIP_INLINE Vector load_some(const uint8_t* from, int64_t count) {
  Bits words;
  __asm__("vpmovzxbd %1, %0%{%2%}%{z%}"
          : "=v"(words)
          : "m"(*reinterpret_cast<const LooseBytes*>(from)),
            "Yk"(first_lanes(count)));
  return __builtin_convertvector(words, Vector);
}

MMSKIP_INLINE void store_some(float* to, Vector value, int64_t count) {
  __asm__("vmovups %1, %0%{%2%}"
          : "+m"(*reinterpret_cast<Loose*>(to))
          : "v"(value), "Yk"(first_lanes(count)));
}

MMSKIP_INLINE void store_some(BFloat16* to, Vector value, int64_t count) {
  const Words words = round_words(value) >> 16;
  __asm__("vpmovdw %1, %0%{%2%}"
          : "+m"(*reinterpret_cast<LooseHalves*>(to))
          : "v"(words), "Yk"(first_lanes(count)));
}

MMSKIP_INLINE void store_some(uint8_t* to, Vector value, int64_t count) {
  const Bits words = __builtin_convertvector(value, Bits);
  __asm__("vpmovdb %1, %0%{%2%}"
          : "+m"(*reinterpret_cast<LooseBytes*>(to))
          : "v"(words), "Yk"(first_lanes(count)));
}

#else

template <typename T>
MMSKIP_INLINE Vector load_some(const T* from, int64_t count) {
  Vector value = {};
  for (int64_t i = 0; i < count; ++i) {
    value[i] = to_float(from[i]);
  }
  return value;
}

template <typename T>
MMSKIP_INLINE void store_some(T* to, Vector value, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    store_one(to + i, value[i]);
  }
}

#endif

// The next values, of which no more than `count` are there.
template <typename T>
MMSKIP_INLINE Vector load_up_to(const T* from, int64_t count) {
  return count >= kLanes ? load(from) : load_some(from, count);
}

template <typename T>
MMSKIP_INLINE void store_up_to(T* to, Vector value, int64_t count) {
  if (count >= kLanes) {
    store(to, value);
  } else {
    store_some(to, value, count);
  }
}

MMSKIP_INLINE Vector magnitude_of(Vector residual, bool squared) {
  if (squared) {
    return residual * residual;
  }
  return reinterpret_cast<Vector>(
      reinterpret_cast<Bits>(residual) & INT32_C(0x7fffffff));
}

// Asks for numbers that are needed soon and lie far from those before them.
template <typename T>
MMSKIP_INLINE void prefetch(const T* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / sizeof(T)) {
    __builtin_prefetch(from + i);
  }
}

typedef float FourFloats __attribute__((vector_size(16)));
typedef int32_t FourBits __attribute__((vector_size(16)));

// Lanes are combined four at a time: one after the other, each would have to
// wait for the one before.
MMSKIP_INLINE bool any(Bits bits) {
#if defined(__AVX512F__)
  uint16_t lanes;
  __asm__("vptestmd %1, %1, %0" : "=Yk"(lanes) : "v"(bits));
  return lanes != 0;
#else
  FourBits quarters[kLanes / 4];
  __builtin_memcpy(quarters, &bits, sizeof(bits));
  FourBits all = quarters[0];
#pragma GCC unroll 4
  for (int i = 1; i < kLanes / 4; ++i) {
    all |= quarters[i];
  }
  uint64_t halves[2];
  __builtin_memcpy(halves, &all, sizeof(all));
  return (halves[0] | halves[1]) != 0;
#endif
}

MMSKIP_INLINE float total(Vector value) {
  FourFloats quarters[kLanes / 4];
  __builtin_memcpy(quarters, &value, sizeof(value));
  FourFloats four = quarters[0];
#pragma GCC unroll 4
  for (int i = 1; i < kLanes / 4; ++i) {
    four += quarters[i];
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
