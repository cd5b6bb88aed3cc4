// Matrix tiles: 16 rows of 64 bytes, and products of two of them; those of
// the CPU (AMX), or the same computed by it (MMSKIP_TILES_EMULATED).
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

// Sums of the first and the last 16 channels of a block; elements of outputs,
// and two kernels for them; the same for what is left of a run.
enum Tile : int {
  kFirstSums,
  kLastSums,
  kElements,
  kFirstKernel,
  kLastKernel,
  kFewElements,
  kFewFirst,
  kFewLast,
  kTiles
};

constexpr int kTileRows = 16;
// Pairs of bfloat16 in a row of a tile.
constexpr int kTilePairs = 16;

// As LDTILECFG reads it.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles for `outputs` outputs and runs whose last `pairs` fill no tile.
inline TileShapes tile_shapes(int64_t outputs, int64_t pairs) {
  TileShapes shapes;
  const auto set = [&](Tile tile, int64_t rows, int64_t some) {
    shapes.rows[tile] = static_cast<uint8_t>(rows);
    shapes.bytes[tile] = static_cast<uint16_t>(4 * some);
  };
  const int64_t few = pairs > 0 ? pairs : 1;
  set(kFirstSums, outputs, kTilePairs);
  set(kLastSums, outputs, kTilePairs);
  set(kElements, outputs, kTilePairs);
  set(kFirstKernel, kTilePairs, kTilePairs);
  set(kLastKernel, kTilePairs, kTilePairs);
  set(kFewElements, outputs, few);
  set(kFewFirst, few, kTilePairs);
  set(kFewLast, few, kTilePairs);
  return shapes;
}

#if defined(MMSKIP_TILES_EMULATED)

struct EmulatedTiles {
  TileShapes shapes;
  uint32_t words[kTiles][kTileRows][kTilePairs];
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
inline void store_tile(float* to, int64_t step) {
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

template <Tile sums, Tile elements, Tile kernel>
inline void multiply_tiles() {
  const int pairs = tiles.shapes.bytes[elements] / 4;
  for (int row = 0; row < tiles.shapes.rows[sums]; ++row) {
    for (int pair = 0; pair < pairs; ++pair) {
      const uint32_t x = tiles.words[elements][row][pair];
      for (int c = 0; c < kTilePairs; ++c) {
        const uint32_t w = tiles.words[kernel][pair][c];
        float sum = float_of(tiles.words[sums][row][c]);
        sum += float_of(x << 16) * float_of(w << 16);
        sum += float_of(x & 0xffff0000) * float_of(w & 0xffff0000);
        __builtin_memcpy(&tiles.words[sums][row][c], &sum, sizeof(sum));
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
MMSKIP_INLINE void store_tile(float* to, int64_t step) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(step),
                   "i"(tile)
                   : "memory");
}

template <Tile sums, Tile elements, Tile kernel>
MMSKIP_INLINE void multiply_tiles() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums),
                   "i"(elements), "i"(kernel));
}

#endif

} // namespace
} // namespace mmskip
