// Matrix tiles: 16 rows of 64 bytes, and products of two of them; those of
// the CPU (AMX), or the same computed by it (MMSKIP_TILES_EMULATED).
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

// Sums of two windows of outputs, of the first and the last 16 channels of a
// block; elements of both windows, and two kernels for them.
enum Tile : int {
  kFirstSums,
  kLastSums,
  kOtherFirstSums,
  kOtherLastSums,
  kElements,
  kOtherElements,
  kFirstKernel,
  kLastKernel,
  kTiles
};

constexpr int kTileRows = 16;
// Words in a row of a tile: pairs of bfloat16, or four bytes.
constexpr int kTileWords = 16;

// As LDTILECFG reads it.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles for windows of `outputs` outputs and steps of `words` words.
inline TileShapes tile_shapes(int64_t outputs, int64_t words) {
  TileShapes shapes;
  const auto set = [&](Tile tile, int64_t rows, int64_t some) {
    shapes.rows[tile] = static_cast<uint8_t>(rows);
    shapes.bytes[tile] = static_cast<uint16_t>(4 * some);
  };
  set(kFirstSums, outputs, kTileWords);
  set(kLastSums, outputs, kTileWords);
  set(kOtherFirstSums, outputs, kTileWords);
  set(kOtherLastSums, outputs, kTileWords);
  set(kElements, outputs, words);
  set(kOtherElements, outputs, words);
  set(kFirstKernel, words, kTileWords);
  set(kLastKernel, words, kTileWords);
  return shapes;
}

#if defined(MMSKIP_TILES_EMULATED)

struct EmulatedTiles {
  TileShapes shapes;
  uint32_t words[kTiles][kTileRows][kTileWords];
};

inline thread_local EmulatedTiles tiles;

inline void configure_tiles(const TileShapes& shapes) {
  tiles.shapes = shapes;
}

inline void release_tiles() {}

template <Tile tile>
inline void clear_tile() {
  __builtin_memset(tiles.words[tile], 0, sizeof(tiles.words[tile]));
}

// Rows that are `step` bytes apart.
template <Tile tile>
inline void load_tile(const void* from, int64_t step) {
  clear_tile<tile>();
  for (int row = 0; row < tiles.shapes.rows[tile]; ++row) {
    __builtin_memcpy(
        tiles.words[tile][row], static_cast<const char*>(from) + row * step,
        tiles.shapes.bytes[tile]);
  }
}

template <Tile tile>
inline void store_tile(void* to, int64_t step) {
  for (int row = 0; row < tiles.shapes.rows[tile]; ++row) {
    __builtin_memcpy(
        reinterpret_cast<char*>(to) + row * step, tiles.words[tile][row],
        tiles.shapes.bytes[tile]);
  }
}

inline float float_of(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

// A word of sums, to which the products of two words are added.
inline uint32_t add_words(uint32_t sum, uint32_t x, uint32_t w, BFloat16) {
  float value = float_of(sum);
  value += float_of(x << 16) * float_of(w << 16);
  value += float_of(x & 0xffff0000) * float_of(w & 0xffff0000);
  __builtin_memcpy(&sum, &value, sizeof(sum));
  return sum;
}

inline uint32_t add_words(uint32_t sum, uint32_t x, uint32_t w, uint8_t) {
  for (int bits = 0; bits < 32; bits += 8) {
    const int32_t byte = x >> bits & 255;
    sum += static_cast<uint32_t>(
        byte * static_cast<int8_t>(w >> bits & 255));
  }
  return sum;
}

// Of images of a type.
template <typename T, Tile sums, Tile elements, Tile kernel>
inline void multiply_tiles() {
  const int words = tiles.shapes.bytes[elements] / 4;
  for (int row = 0; row < tiles.shapes.rows[sums]; ++row) {
    for (int i = 0; i < words; ++i) {
      for (int c = 0; c < kTileWords; ++c) {
        uint32_t& sum = tiles.words[sums][row][c];
        sum = add_words(
            sum, tiles.words[elements][row][i], tiles.words[kernel][i][c],
            T{});
      }
    }
  }
}

#elif defined(MMSKIP_TILES)

inline void configure_tiles(const TileShapes& shapes) {
  __asm__ volatile("ldtilecfg %0" ::"m"(shapes));
}

inline void release_tiles() {
  __asm__ volatile("tilerelease" ::);
}

template <Tile tile>
MMSKIP_INLINE void clear_tile() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(tile));
}

template <Tile tile>
MMSKIP_INLINE void load_tile(const void* from, int64_t step) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(step),
                   "i"(tile)
                   : "memory");
}

template <Tile tile>
MMSKIP_INLINE void store_tile(void* to, int64_t step) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(step),
                   "i"(tile)
                   : "memory");
}

template <typename T, Tile sums, Tile elements, Tile kernel>
MMSKIP_INLINE void multiply_tiles() {
  if constexpr (sizeof(T) == sizeof(BFloat16)) {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums),
                     "i"(elements), "i"(kernel));
  } else {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums),
                     "i"(elements), "i"(kernel));
  }
}

#endif

} // namespace
} // namespace mmskip
