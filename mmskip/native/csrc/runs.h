// Runs of positions that are set in a map of bytes, each 0 or 1.
#pragma once

#include <cstdint>

namespace mmskip {

// Bytes that are looked at at a time; a run of more is given in parts.
constexpr int64_t kLooked = 64;

// One bit for each of up to kLooked bytes. Internal linkage: files that are
// compiled for several instruction sets have their own.
static inline uint64_t bits_of(
    const uint8_t* map, const uint8_t* also, int64_t count) {
  uint64_t bits = 0;
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    uint64_t eight, others = ~UINT64_C(0);
    __builtin_memcpy(&eight, map + i, sizeof(eight));
    if (also != nullptr) {
      __builtin_memcpy(&others, also + i, sizeof(others));
    }
    // Byte number b becomes bit number b of the highest byte.
    bits |= ((eight & others) * UINT64_C(0x0102040810204080)) >> 56 << i;
  }
  for (; i < count; ++i) {
    const uint64_t is_set = map[i] != 0 && (also == nullptr || also[i] != 0);
    bits |= is_set << i;
  }
  return bits;
}

// Calls run(first, last) for the runs among `count` positions of a map, or of
// those that are set in both maps. It may change what it was called for.
template <typename Run>
static inline __attribute__((always_inline)) void for_runs(
    const uint8_t* map, const uint8_t* also, int64_t count, const Run& run) {
  for (int64_t begin = 0; begin < count; begin += kLooked) {
    const int64_t size = count - begin < kLooked ? count - begin : kLooked;
    uint64_t bits =
        bits_of(map + begin, also == nullptr ? also : also + begin, size);
    while (bits != 0) {
      const int first = __builtin_ctzll(bits);
      const uint64_t ends = ~(bits >> first);
      const int length = ends == 0 ? kLooked : __builtin_ctzll(ends);
      run(begin + first, begin + first + length);
      // What is left lies behind the run.
      bits = first + length == kLooked
          ? 0
          : bits >> (first + length) << (first + length);
    }
  }
}

// Calls visit(i) for each of `count` positions that is set in a map. Where few
// are side by side, this guesses less than for_runs().
template <typename Visit>
static inline __attribute__((always_inline)) void for_each_set(
    const uint8_t* map, int64_t count, const Visit& visit) {
  for (int64_t begin = 0; begin < count; begin += kLooked) {
    const int64_t size = count - begin < kLooked ? count - begin : kLooked;
    uint64_t bits = bits_of(map + begin, nullptr, size);
    for (; bits != 0; bits &= bits - 1) {
      visit(begin + __builtin_ctzll(bits));
    }
  }
}

} // namespace mmskip
